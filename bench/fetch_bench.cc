// Reads a topic from its beginning from one pinned thread with raw Fetch requests, so that the
// broker and not the client is what is measured. Prints one JSON line.
//
// Every partition has a connection and one request in flight: the next one leaves as soon as the
// answer has come. Of each batch the header is read; the kernel drops the rest. At its end a
// partition begins anew.

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
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
        fd_(connect_to(options.bootstrap)) {
    ask();
  }
  ~Reader() { ::close(fd_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  [[nodiscard]] int fd() const { return fd_; }

  /// Takes what has arrived; at the end of an answer counts it and asks for the next.
  void receive(Counts& counts) {
    while (true) {
      if (skip_ > 0) {
        // With MSG_TRUNC the kernel drops the bytes instead of copying them.
        const ssize_t got = ::recv(fd_, nullptr, skip_, MSG_DONTWAIT | MSG_TRUNC);
        if (!arrived(got)) return;
        skip_ -= static_cast<size_t>(got);
        if (skip_ == 0) next_batch(counts);
        continue;
      }
      const ssize_t got = ::recv(fd_, head_.data() + filled_, head_.size() - filled_, MSG_DONTWAIT);
      if (!arrived(got)) return;
      filled_ += static_cast<size_t>(got);
      if (filled_ < head_.size()) continue;
      in_answer_ ? take_batch(counts) : take_answer(counts);
      filled_ = 0;
    }
  }

 private:
  static constexpr size_t kBatchHead = 61;

  /// False when nothing more has arrived.
  static bool arrived(ssize_t got) {
    if (got > 0) return true;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    die("the broker closed the connection");
  }

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
    // size, correlation, throttle, topics[1]: name, partitions[1]: index, then what take_answer
    // reads
    prefix_ = 4 + 4 + 4 + 4 + 2 + topic_.size() + 4 + 4;
    head_.resize(prefix_ + 2 + 8 + 8 + 4 + 4);
    in_answer_ = false;
  }

  /// Error code, high watermark, last stable offset, aborted transactions (none), size of the
  /// records.
  void take_answer(Counts& counts) {
    const char* at = head_.data() + prefix_;
    const auto code = get<int16_t>(at);
    if (code != 0) die("the broker answered error " + std::to_string(code));
    end_ = get<int64_t>(at + 2);
    if (end_ == 0) die("partition " + std::to_string(partition_) + " is empty");
    if (get<int32_t>(at + 18) > 0) die("transactions were aborted in this topic");
    records_ = static_cast<size_t>(std::max(get<int32_t>(at + 22), 0));
    in_answer_ = true;
    next_batch(counts);
  }

  void take_batch(Counts& counts) {
    const size_t size = static_cast<size_t>(get<int32_t>(head_.data() + 8)) + 12;
    if (size < kBatchHead) die("a batch of " + std::to_string(size) + " bytes");
    if (size <= records_ + kBatchHead) {  // the last one may be cut off
      offset_ = get<int64_t>(head_.data()) + get<int32_t>(head_.data() + 23) + 1;
      counts.records += static_cast<uint64_t>(get<int32_t>(head_.data() + 57));
      counts.bytes += size;
    }
    skip_ = std::min(size - kBatchHead, records_);
    records_ -= skip_;
    if (skip_ == 0) next_batch(counts);
  }

  /// The next batch's head, or the rest of an answer that has none.
  void next_batch(Counts& counts) {
    if (records_ >= kBatchHead) {
      head_.resize(kBatchHead);
      records_ -= kBatchHead;
      return;
    }
    skip_ = std::exchange(records_, 0);
    if (skip_ == 0) finish(counts);
  }

  void finish(Counts& counts) {
    ++counts.answers;
    if (offset_ >= end_) offset_ = 0;
    ask();
  }

  std::string topic_;
  int32_t fetch_bytes_;
  int32_t partition_;
  int fd_;
  int64_t offset_ = 0;
  int64_t end_ = 0;  ///< the high watermark
  int32_t correlation_ = 0;
  std::string head_;  ///< of an answer or of a batch, as far as it has come
  size_t filled_ = 0;
  size_t prefix_ = 0;
  bool in_answer_ = false;
  size_t skip_ = 0;     ///< bytes to drop
  size_t records_ = 0;  ///< bytes of the answer behind them
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
