// Produces N messages with Debian's librdkafka and prints the rate as one JSON line. With --mock
// the broker is librdkafka's own, inside this process: what the client can do at best.

#include <librdkafka/rdkafka.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string bootstrap;
  std::string topic = "bench";
  std::string acks = "all";
  uint64_t messages = 1'000'000;
  size_t bytes = 100;
  bool mock = false;
};

[[noreturn]] void die(const std::string& text) {
  std::fprintf(stderr, "rdkafka_bench: %s\n", text.c_str());
  std::exit(1);
}

struct Outcome {
  uint64_t delivered = 0;
  uint64_t failed = 0;
};

void on_delivery(rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
  auto* outcome = static_cast<Outcome*>(opaque);
  ++(message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? outcome->delivered : outcome->failed);
}

rd_kafka_t* open(const Options& options, Outcome& outcome) {
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  char error[512];
  const auto set = [&](const char* name, const std::string& value) {
    if (rd_kafka_conf_set(conf, name, value.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK) {
      die(error);
    }
  };
  if (options.mock) {
    set("test.mock.num.brokers", "1");
  } else {
    set("bootstrap.servers", options.bootstrap);
  }
  set("acks", options.acks);
  set("linger.ms", "5");
  set("queue.buffering.max.messages", "500000");
  set("queue.buffering.max.kbytes", "524288");
  rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
  rd_kafka_conf_set_opaque(conf, &outcome);
  rd_kafka_conf_set_log_cb(conf, [](const rd_kafka_t*, int, const char*, const char*) {});
  rd_kafka_t* producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
  if (producer == nullptr) die(error);
  return producer;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--mock") {
      options.mock = true;
      continue;
    }
    if (++i == argc) die(name + " needs a value");
    if (name == "--bootstrap") {
      options.bootstrap = argv[i];
    } else if (name == "--topic") {
      options.topic = argv[i];
    } else if (name == "--acks") {
      options.acks = argv[i];
    } else if (name == "--messages") {
      options.messages = std::strtoull(argv[i], nullptr, 10);
    } else if (name == "--bytes") {
      options.bytes = std::strtoull(argv[i], nullptr, 10);
    } else {
      die("unknown option " + name);
    }
  }
  if (options.bootstrap.empty() && !options.mock) die("--bootstrap or --mock is needed");
  return options;
}

/// Of this process, so with --mock of the mock broker, too.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Outcome outcome;
  rd_kafka_t* producer = open(options, outcome);
  rd_kafka_topic_t* topic = rd_kafka_topic_new(producer, options.topic.c_str(), nullptr);
  const std::string value(options.bytes, 'x');
  const auto send = [&] {
    while (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, const_cast<char*>(value.data()),
                            value.size(), nullptr, 0, nullptr) != 0) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
        die(rd_kafka_err2str(rd_kafka_last_error()));
      }
      rd_kafka_poll(producer, 10);
    }
  };
  send();  // connects and learns the leader before the clock starts
  if (rd_kafka_flush(producer, 30'000) != RD_KAFKA_RESP_ERR_NO_ERROR) die("no first answer");
  const auto begin = Clock::now();
  const double cpu_before = cpu_seconds();
  for (uint64_t i = 0; i < options.messages; ++i) {
    send();
    if (i % 1000 == 0) rd_kafka_poll(producer, 0);
  }
  if (rd_kafka_flush(producer, 120'000) != RD_KAFKA_RESP_ERR_NO_ERROR) die("flush timed out");
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const double cpu = cpu_seconds() - cpu_before;
  if (outcome.failed != 0) die(std::to_string(outcome.failed) + " messages were not delivered");
  const auto messages = static_cast<double>(options.messages);
  std::printf(
      "{\"records_per_s\": %.0f, \"mb_per_s\": %.1f, \"seconds\": %.3f, "
      "\"total_bytes\": %.0f, \"client_cpu_s\": %.3f}\n",
      messages / seconds, messages * static_cast<double>(options.bytes) / seconds / 1e6, seconds,
      messages * static_cast<double>(options.bytes), cpu);
  rd_kafka_topic_destroy(topic);
  rd_kafka_destroy(producer);
  return 0;
}
