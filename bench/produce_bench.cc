// Sends prebuilt record batches to a Kafka broker from one pinned thread, so that the broker and
// not the client is what is measured. Prints one JSON line.
//
// In a cluster --bootstrap names the leader of each partition, in order: A:1,B:1,A:1. Connections
// go to the different ones by turns, and each writes to the partitions that are led there.
//
// Closed loop: each connection keeps `window` requests in flight. Open loop (--rate): requests
// leave on a schedule, and a latency counts from the moment the request was due.

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "load.h"

namespace {

using namespace pyralog::bench;
using Bytes = std::string;

struct Options {
  std::vector<Address> leaders;  ///< of each partition; or one, of all
  std::string topic;
  int32_t partitions = 1;
  int16_t acks = -1;
  size_t record_bytes = 100;    ///< size of a record's value
  size_t batch_bytes = 65'536;  ///< records are added to a batch until it would grow past this
  size_t connections = 4;
  size_t window = 8;  ///< requests in flight on a connection
  double seconds = 3;
  double warmup = 0.5;
  double rate = 0;         ///< records a second over all connections; 0 is a closed loop
  uint64_t max_bytes = 0;  ///< stop after so many bytes; 0 has no such end
  int cpu = -1;
};

uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> entries{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit)
        value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
      entries[i] = value;
    }
    return entries;
  }();
  uint32_t value = ~0U;
  for (const char byte : bytes) {
    value = (value >> 8) ^ table[(value ^ static_cast<uint8_t>(byte)) & 0xFF];
  }
  return ~value;
}

Bytes build_record(const Options& options, int64_t delta) {
  Bytes body;
  body.push_back('\0');
  put_varint(body, 0);
  put_varint(body, delta);
  put_varint(body, -1);
  put_varint(body, static_cast<int64_t>(options.record_bytes));
  body += filler(options.record_bytes, static_cast<size_t>(delta));
  put_varint(body, 0);
  Bytes out;
  put_varint(out, static_cast<int64_t>(body.size()));
  return out + body;
}

struct Batch {
  Bytes bytes;
  int32_t records = 0;
};

Batch build_batch(const Options& options) {
  Batch batch;
  Bytes records;
  do {
    records += build_record(options, batch.records++);
  } while (records.size() + records.size() / static_cast<size_t>(batch.records) + 61 <=
           options.batch_bytes);
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  Bytes tail;
  put(tail, int16_t{0});                 // attributes
  put(tail, batch.records - 1);          // last offset delta
  put(tail, static_cast<int64_t>(now));  // base timestamp
  put(tail, static_cast<int64_t>(now));  // max timestamp
  put(tail, int64_t{-1});                // producer id
  put(tail, int16_t{-1});                // producer epoch
  put(tail, int32_t{-1});                // base sequence
  put(tail, batch.records);              // count
  tail += records;
  put(batch.bytes, int64_t{0});                             // base offset
  put(batch.bytes, static_cast<int32_t>(9 + tail.size()));  // length after this field
  put(batch.bytes, int32_t{-1});                            // leader epoch
  batch.bytes.push_back(2);                                 // magic
  put(batch.bytes, crc32c(tail));
  batch.bytes += tail;
  return batch;
}

constexpr size_t kCorrelationAt = 8;  // size, api key, api version

Bytes build_request(const Options& options, const Batch& batch, int32_t partition) {
  Bytes body;
  put(body, int16_t{0});  // Produce
  put(body, int16_t{7});
  put(body, int32_t{0});  // correlation id, set at each send
  put_string(body, "produce_bench");
  put(body, int16_t{-1});  // no transactional id
  put(body, options.acks);
  put(body, int32_t{30'000});
  put(body, int32_t{1});
  put_string(body, options.topic);
  put(body, int32_t{1});
  put(body, partition);
  put(body, static_cast<int32_t>(batch.bytes.size()));
  body += batch.bytes;
  Bytes out;
  put(out, static_cast<int32_t>(body.size()));
  return out + body;
}

/// A broker and the requests to the partitions that it leads; its connections share the turns.
struct Node {
  Address address;
  std::vector<const Bytes*> requests;
  size_t turn = 0;
};

/// One connection: a request that is being written, those in flight, and a response being read.
class Connection {
 public:
  /// `node` must outlive it.
  Connection(const Options& options, Node& node)
      : topic_size_(options.topic.size()),
        node_(&node),
        fd_(connect_to(node.address)),
        input_(1 << 16) {}
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool writing() const { return written_ < request_.size(); }
  [[nodiscard]] size_t in_flight() const { return due_.size(); }

  void start(Clock::time_point due) {
    request_ = *node_->requests[node_->turn++ % node_->requests.size()];
    const uint32_t correlation = htonl(++correlation_);
    std::memcpy(request_.data() + kCorrelationAt, &correlation, sizeof correlation);
    written_ = 0;
    due_.push_back(due);
    flush();
  }

  void flush() {
    while (writing()) {
      const ssize_t done = ::send(fd_, request_.data() + written_, request_.size() - written_,
                                  MSG_DONTWAIT | MSG_NOSIGNAL);
      if (done < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        die_of_errno("send");
      }
      written_ += static_cast<size_t>(done);
    }
  }

  /// Reads what has arrived; calls `done(due)` for each response.
  template <typename Done>
  void read(const Done& done) {
    const ssize_t got = ::recv(fd_, input_.data() + filled_, input_.size() - filled_, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) die("the broker closed the connection");
    filled_ += static_cast<size_t>(got);
    size_t at = 0;
    while (filled_ - at >= 4) {
      const size_t size = static_cast<size_t>(get<int32_t>(input_.data() + at)) + 4;
      if (filled_ - at < size) break;
      // size, correlation, topics[1]: name, partitions[1]: index, error code
      const size_t error_at = at + 4 + 4 + 4 + 2 + topic_size_ + 4 + 4;
      const auto code = get<int16_t>(input_.data() + error_at);
      if (code != 0) die("the broker answered error " + std::to_string(code));
      done(due_.front());
      due_.pop_front();
      at += size;
    }
    std::memmove(input_.data(), input_.data() + at, filled_ - at);
    filled_ -= at;
  }

 private:
  size_t topic_size_;
  Node* node_;
  int fd_;
  uint32_t correlation_ = 0;
  Bytes request_;
  size_t written_ = 0;
  std::deque<Clock::time_point> due_;
  std::vector<char> input_;
  size_t filled_ = 0;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options), batch_(build_batch(options)) {
    for (int32_t p = 0; p < options.partitions; ++p) {
      requests_.push_back(build_request(options, batch_, p));
    }
    for (size_t p = 0; p < requests_.size(); ++p) {
      const Address& leader = options.leaders[p % options.leaders.size()];
      const auto same = [&](const Node& node) { return node.address == leader; };
      auto node = std::ranges::find_if(nodes_, same);
      if (node == nodes_.end()) node = nodes_.insert(node, {.address = leader, .requests = {}});
      node->requests.push_back(&requests_[p]);
    }
    if (options.connections < nodes_.size()) die("fewer connections than leaders");
    for (size_t i = 0; i < options.connections; ++i) {
      connections_.emplace_back(options, nodes_[i % nodes_.size()]);
    }
    for (Connection& connection : connections_) {
      polled_.push_back({connection.fd(), POLLIN, 0});
    }
  }

  void go() {
    const auto begin = Clock::now();
    measured_from_ = begin + to_duration(options_.warmup);
    const auto end = measured_from_ + to_duration(options_.seconds);
    next_due_ = begin;
    while (true) {
      const auto now = Clock::now();
      if (now >= end || (options_.max_bytes != 0 && sent_bytes_ >= options_.max_bytes)) break;
      send(now);
      wait(now);
    }
    last_ = Clock::now();
    drain();
  }

  void print() {
    std::ranges::sort(latencies_us_);
    const auto quantile = [&](double q) -> uint32_t {
      if (latencies_us_.empty()) return 0;
      const auto at = static_cast<size_t>(q * static_cast<double>(latencies_us_.size() - 1));
      return latencies_us_[at];
    };
    const double seconds = std::max(to_seconds(last_ - measured_from_), 1e-9);
    const auto batches = static_cast<double>(measured_);
    const double records = batches * batch_.records;
    const double bytes = batches * static_cast<double>(batch_.bytes.size());
    const double all =
        static_cast<double>(acknowledged_) * static_cast<double>(batch_.bytes.size());
    std::printf(
        "{\"records_per_s\": %.0f, \"mb_per_s\": %.1f, \"seconds\": %.3f, \"batches\": %llu, "
        "\"records_per_batch\": %d, \"batch_bytes\": %zu, \"total_bytes\": %.0f, "
        "\"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u, \"max_us\": %u, \"client_cpu_s\": "
        "%.2f}\n",
        records / seconds, bytes / seconds / 1e6, seconds,
        static_cast<unsigned long long>(measured_), batch_.records, batch_.bytes.size(), all,
        quantile(0.5), quantile(0.99), quantile(0.999), quantile(1.0), cpu_seconds());
  }

 private:
  [[nodiscard]] bool open_loop() const { return options_.rate > 0; }

  void send(Clock::time_point now) {
    for (size_t tried = 0; tried < connections_.size(); ++tried) {
      Connection& connection = connections_[turn_++ % connections_.size()];
      while (!connection.writing() && connection.in_flight() < options_.window) {
        if (open_loop() && next_due_ > now) return;
        connection.start(open_loop() ? next_due_ : Clock::now());
        sent_bytes_ += batch_.bytes.size();
        if (!open_loop()) continue;
        next_due_ += to_duration(batch_.records / options_.rate);
        break;  // in the open loop the connections take turns
      }
    }
  }

  void wait(Clock::time_point now) {
    for (size_t i = 0; i < connections_.size(); ++i) {
      polled_[i].events = static_cast<short>(POLLIN | (connections_[i].writing() ? POLLOUT : 0));
    }
    timespec timeout{0, 50'000'000};
    // Either the next request is not due yet, or every window is full and only an answer helps.
    if (open_loop() && next_due_ > now) {
      timeout.tv_nsec = std::min<long>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(next_due_ - now).count(),
          timeout.tv_nsec);
    }
    if (::ppoll(polled_.data(), polled_.size(), &timeout, nullptr) < 0 && errno != EINTR) {
      die_of_errno("ppoll");
    }
    for (size_t i = 0; i < connections_.size(); ++i) {
      if ((polled_[i].revents & POLLOUT) != 0) connections_[i].flush();
      if ((polled_[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) receive(connections_[i]);
    }
  }

  void receive(Connection& connection) {
    connection.read([&](Clock::time_point due) {
      const auto now = Clock::now();
      ++acknowledged_;
      if (now < measured_from_) return;
      ++measured_;
      latencies_us_.push_back(static_cast<uint32_t>(
          std::chrono::duration_cast<std::chrono::microseconds>(now - due).count()));
    });
  }

  /// Waits for the answers that are still out; they are no longer part of the figures.
  void drain() {
    const auto measured = measured_;
    const auto latencies = latencies_us_.size();
    const auto deadline = Clock::now() + std::chrono::seconds(30);
    while (
        std::ranges::any_of(connections_, [](const Connection& c) { return c.in_flight() > 0; })) {
      if (Clock::now() > deadline) die("no answer within 30 s after the run");
      for (Connection& connection : connections_) connection.flush();
      next_due_ = Clock::now() + std::chrono::milliseconds(20);
      wait(Clock::now());
    }
    measured_ = measured;
    latencies_us_.resize(latencies);
  }

  const Options& options_;
  Batch batch_;
  std::vector<Bytes> requests_;
  std::vector<Node> nodes_;
  std::deque<Connection> connections_;
  std::vector<pollfd> polled_;
  size_t turn_ = 0;
  uint64_t sent_bytes_ = 0;
  uint64_t acknowledged_ = 0;
  uint64_t measured_ = 0;
  Clock::time_point measured_from_;
  Clock::time_point next_due_;
  Clock::time_point last_;
  std::vector<uint32_t> latencies_us_;
};

std::vector<Address> parse_addresses(std::string_view text) {
  std::vector<Address> out;
  for (size_t comma = 0; (comma = text.find(',')) != text.npos; text.remove_prefix(comma + 1)) {
    out.push_back(parse_address(text.substr(0, comma)));
  }
  out.push_back(parse_address(text));
  return out;
}

void set(Options& options, std::string_view name, std::string_view value) {
  if (name == "--bootstrap") {
    options.leaders = parse_addresses(value);
  } else if (name == "--topic") {
    options.topic = value;
  } else if (name == "--acks") {
    options.acks = value == "all" ? int16_t{-1} : parse<int16_t>(value, name);
    if (options.acks == 0) die("--acks 0 has no answers to count");
  } else if (name == "--partitions") {
    options.partitions = parse<int32_t>(value, name);
  } else if (name == "--record-bytes") {
    options.record_bytes = parse<size_t>(value, name);
  } else if (name == "--batch-bytes") {
    options.batch_bytes = parse<size_t>(value, name);
  } else if (name == "--connections") {
    options.connections = parse<size_t>(value, name);
  } else if (name == "--window") {
    options.window = parse<size_t>(value, name);
  } else if (name == "--seconds") {
    options.seconds = parse<double>(value, name);
  } else if (name == "--warmup") {
    options.warmup = parse<double>(value, name);
  } else if (name == "--rate") {
    options.rate = parse<double>(value, name);
  } else if (name == "--max-bytes") {
    options.max_bytes = parse<uint64_t>(value, name);
  } else if (name == "--cpu") {
    options.cpu = parse<int>(value, name);
  } else {
    die("unknown option " + std::string(name));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (const auto& [name, value] : option_pairs(argc, argv)) set(options, name, value);
  if (options.topic.empty()) die("--topic is needed");
  if (options.leaders.empty()) die("--bootstrap is needed");
  if (options.leaders.size() != 1 &&
      options.leaders.size() != static_cast<size_t>(options.partitions)) {
    die("--bootstrap names one address or that of each partition's leader");
  }
  pin_to_cpu(options.cpu);
  Run run(options);
  run.go();
  run.print();
  return 0;
}
