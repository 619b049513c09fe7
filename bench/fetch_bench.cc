// Reads a topic from its beginning from one pinned thread with raw Fetch requests, so that the
// broker and not the client is what is measured. Prints one JSON line.
//
// Every partition has a connection and one request in flight: the next one leaves as soon as the
// answer has come and its batches' headers have been walked. At its end a partition begins anew.

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

struct Options {
  Address bootstrap;
  std::string topic;
  int32_t partitions = 1;
  int32_t fetch_bytes = 1 << 20;  ///< at most so many bytes an answer, but always a whole batch
  double seconds = 3;
  double warmup = 0.3;
  int cpu = -1;
};

/// What has been read.
struct Counts {
  uint64_t bytes = 0;  ///< of record batches
  uint64_t records = 0;
  uint64_t answers = 0;
};

/// One partition, read over a connection of its own.
class Reader {
 public:
  Reader(const Options& options, int32_t partition)
      : topic_(options.topic),
        fetch_bytes_(options.fetch_bytes),
        partition_(partition),
        fd_(connect_to(options.bootstrap)),
        input_(static_cast<size_t>(options.fetch_bytes) + (1 << 16)) {
    ask();
  }
  ~Reader() { ::close(fd_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  [[nodiscard]] int fd() const { return fd_; }

  /// Takes what has arrived; at the end of an answer counts it and asks for the next.
  void receive(Counts& counts) {
    const ssize_t got = ::recv(fd_, input_.data() + filled_, input_.size() - filled_, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) die("the broker closed the connection");
    filled_ += static_cast<size_t>(got);
    if (filled_ < 4) return;
    const size_t size = static_cast<size_t>(get<int32_t>(input_.data())) + 4;
    if (size > input_.size()) input_.resize(size);
    if (filled_ < size) return;
    take(std::string_view(input_.data(), size), counts);
    filled_ = 0;
    ask();
  }

 private:
  void ask() {
    std::string body;
    put(body, int16_t{1});  // Fetch
    put(body, int16_t{4});
    put(body, ++correlation_);
    put_string(body, "fetch_bench");
    put(body, int32_t{-1});   // no replica
    put(body, int32_t{500});  // wait so long
    put(body, int32_t{1});    // for so many bytes
    put(body, fetch_bytes_);
    put(body, int8_t{0});  // read uncommitted
    put(body, int32_t{1});
    put_string(body, topic_);
    put(body, int32_t{1});
    put(body, partition_);
    put(body, offset_);
    put(body, fetch_bytes_);
    std::string request;
    put(request, static_cast<int32_t>(body.size()));
    request += body;
    // A request is small and the only one on its way: the socket takes it at once.
    if (::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      die_of_errno("send");
    }
  }

  void take(std::string_view answer, Counts& counts) {
    // size, correlation, throttle, topics[1]: name, partitions[1]: index, error code, high
    // watermark, last stable offset, aborted transactions[], records
    size_t at = 4 + 4 + 4 + 4 + 2 + topic_.size() + 4 + 4;
    if (answer.size() < at + 26) die("the answer is too short");
    const auto code = get<int16_t>(answer.data() + at);
    if (code != 0) die("the broker answered error " + std::to_string(code));
    const auto end = get<int64_t>(answer.data() + at + 2);
    at += 18;
    at += 4 + 16 * static_cast<size_t>(std::max(get<int32_t>(answer.data() + at), 0));
    const auto size = static_cast<size_t>(std::max(get<int32_t>(answer.data() + at), 0));
    at += 4;
    if (answer.size() < at + size) die("the answer is shorter than its records");
    walk(answer.substr(at, size), counts);
    ++counts.answers;
    if (offset_ >= end) {
      if (end == 0) die("partition " + std::to_string(partition_) + " is empty");
      offset_ = 0;
    }
  }

  void walk(std::string_view batches, Counts& counts) {
    constexpr size_t kHeader = 61;
    while (batches.size() >= kHeader) {
      const size_t size = static_cast<size_t>(get<int32_t>(batches.data() + 8)) + 12;
      if (size > batches.size()) return;  // the last one may be cut off
      offset_ = get<int64_t>(batches.data()) + get<int32_t>(batches.data() + 23) + 1;
      counts.records += static_cast<uint64_t>(get<int32_t>(batches.data() + 57));
      counts.bytes += size;
      batches.remove_prefix(size);
    }
  }

  std::string topic_;
  int32_t fetch_bytes_;
  int32_t partition_;
  int fd_;
  int64_t offset_ = 0;
  int32_t correlation_ = 0;
  std::vector<char> input_;
  size_t filled_ = 0;
};

void run(const Options& options) {
  std::deque<Reader> readers;
  std::vector<pollfd> polled;
  for (int32_t p = 0; p < options.partitions; ++p) {
    readers.emplace_back(options, p);
    polled.push_back({readers.back().fd(), POLLIN, 0});
  }
  Counts counts;
  Counts before;
  auto from = Clock::now() + to_duration(options.warmup);
  bool warm = false;
  auto heard = Clock::now();
  while (true) {
    const auto now = Clock::now();
    if (!warm && now >= from) {
      warm = true;
      from = now;
      before = counts;
    }
    if (warm && now >= from + to_duration(options.seconds)) break;
    if (now > heard + to_duration(10)) die("no answer within 10 s");
    if (::poll(polled.data(), polled.size(), 100) < 0 && errno != EINTR) die_of_errno("poll");
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      readers[i].receive(counts);
      heard = now;
    }
  }
  const double seconds = to_seconds(Clock::now() - from);
  const auto bytes = static_cast<double>(counts.bytes - before.bytes);
  const auto records = static_cast<double>(counts.records - before.records);
  std::printf(
      "{\"records_per_s\": %.0f, \"mb_per_s\": %.1f, \"seconds\": %.3f, \"answers\": %llu, "
      "\"total_bytes\": %llu, \"client_cpu_s\": %.2f}\n",
      records / seconds, bytes / seconds / 1e6, seconds,
      static_cast<unsigned long long>(counts.answers),
      static_cast<unsigned long long>(counts.bytes), cpu_seconds());
}

void set(Options& options, std::string_view name, std::string_view value) {
  if (name == "--bootstrap") {
    options.bootstrap = parse_address(value);
  } else if (name == "--topic") {
    options.topic = value;
  } else if (name == "--partitions") {
    options.partitions = parse<int32_t>(value, name);
  } else if (name == "--fetch-bytes") {
    options.fetch_bytes = parse<int32_t>(value, name);
  } else if (name == "--seconds") {
    options.seconds = parse<double>(value, name);
  } else if (name == "--warmup") {
    options.warmup = parse<double>(value, name);
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
  pin_to_cpu(options.cpu);
  run(options);
  return 0;
}
