// Reads a topic from its beginning from one pinned thread with raw Fetch requests, so that the
// broker and not the client is what is measured. Prints one JSON line.
//
// Either every partition has a connection, or every connection reads all partitions in a Fetch session
// (KIP-227). One request is in flight on each: the next one leaves as soon as the answer has come. Of
// what a partition answers the first batch's header is read, which says how large the batches are; the
// kernel drops the rest. The next answer shows that the count was right. At its end a partition begins
// anew.

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
  int32_t fetch_bytes = 1 << 20;  ///< of a partition; at most so many an answer, but always a whole batch
  int32_t sessions = 0;           ///< connections that read all partitions each; 0 = one a partition
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

/// A connection that reads some partitions, in a session if they are several.
class Reader {
 public:
  Reader(const Options& options, int32_t first, int32_t partitions, bool session)
      : topic_(options.topic),
        fetch_bytes_(options.fetch_bytes),
        session_epoch_(session ? 0 : -1),
        first_(first),
        partitions_(static_cast<size_t>(partitions)),
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
        const bool all = static_cast<size_t>(got) == skip_;
        skip_ -= static_cast<size_t>(got);
        if (!all) return;  // nothing more is there, or poll says so
        next_partition(counts);
        continue;
      }
      const ssize_t got = ::recv(fd_, head_.data() + filled_, head_.size() - filled_, MSG_DONTWAIT);
      if (!arrived(got)) return;
      filled_ += static_cast<size_t>(got);
      if (filled_ < head_.size()) continue;
      filled_ = 0;
      switch (at_) {
        case At::kAnswer: take_answer(counts); break;
        case At::kTopic: take_topic(counts); break;
        case At::kPartition: take_partition(counts); break;
        case At::kBatch: take_batches(counts); break;
      }
    }
  }

 private:
  enum class At : uint8_t { kAnswer, kTopic, kPartition, kBatch };
  static constexpr size_t kAnswerHead = 4 + 4 + 4 + 2 + 4 + 4;
  static constexpr size_t kPartitionHead = 4 + 2 + 8 + 8 + 8 + 4 + 4 + 4;
  static constexpr size_t kBatchHead = 61;

  struct Partition {
    int64_t offset = 0;
    bool moved = true;  ///< since it was last asked for
  };

  /// False when nothing more has arrived.
  static bool arrived(ssize_t got) {
    if (got > 0) return true;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    die("the broker closed the connection");
  }

  void expect(At at, size_t bytes) {
    at_ = at;
    head_.resize(bytes);
  }

  void ask() {
    std::string body;
    put(body, int16_t{1});  // Fetch
    put(body, int16_t{11});
    put(body, ++correlation_);
    put_string(body, "fetch_bench");
    put(body, int32_t{-1});   // no replica
    put(body, int32_t{500});  // wait so long
    put(body, int32_t{1});    // for so many bytes
    put(body, static_cast<int32_t>(static_cast<size_t>(fetch_bytes_) * partitions_.size()));
    put(body, int8_t{0});  // read uncommitted
    put(body, session_id_);
    put(body, session_epoch_);
    if (session_epoch_ >= 0) ++session_epoch_;
    put(body, int32_t{1});
    put_string(body, topic_);
    const auto moved = std::count_if(partitions_.begin(), partitions_.end(),
                                     [](const Partition& each) { return each.moved; });
    put(body, static_cast<int32_t>(moved));
    for (size_t i = 0; i < partitions_.size(); ++i) {
      if (!std::exchange(partitions_[i].moved, session_epoch_ < 0)) continue;
      put(body, first_ + static_cast<int32_t>(i));
      put(body, int32_t{-1});  // whatever the leader's epoch
      put(body, partitions_[i].offset);
      put(body, int64_t{-1});  // no log of our own
      put(body, fetch_bytes_);
    }
    put(body, int32_t{0});  // nothing is forgotten
    put_string(body, "");   // no rack
    std::string request;
    put(request, static_cast<int32_t>(body.size()));
    request += body;
    // A request is small and the only one on its way: the socket takes it at once.
    if (::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      die_of_errno("send");
    }
    expect(At::kAnswer, kAnswerHead);
  }

  /// Size, correlation, throttle, error code, session, number of topics.
  void take_answer(Counts& counts) {
    check(get<int16_t>(head_.data() + 12));
    session_id_ = get<int32_t>(head_.data() + 14);
    if (session_epoch_ >= 0 && session_id_ == 0) die("the broker opens no session");
    topics_ = get<int32_t>(head_.data() + 18);
    left_ = 0;
    next_partition(counts);
  }

  /// Name, number of partitions.
  void take_topic(Counts& counts) {
    left_ = get<int32_t>(head_.data() + head_.size() - 4);
    next_partition(counts);
  }

  /// Index, error code, high watermark, last stable offset, log start, aborted transactions (none),
  /// preferred replica, size of the records.
  void take_partition(Counts& counts) {
    const char* at = head_.data();
    check(get<int16_t>(at + 4));
    const auto index = static_cast<size_t>(get<int32_t>(at) - first_);
    if (index >= partitions_.size()) die("the broker answers for a partition that was not asked for");
    current_ = &partitions_[index];
    end_ = get<int64_t>(at + 6);
    if (end_ == 0) die("partition " + std::to_string(get<int32_t>(at)) + " is empty");
    if (get<int32_t>(at + 30) > 0) die("transactions were aborted in this topic");
    records_ = static_cast<size_t>(std::max(get<int32_t>(at + 38), 0));
    if (records_ == 0) return next_partition(counts);
    if (records_ < kBatchHead) die("less than a batch's header");
    expect(At::kBatch, kBatchHead);
  }

  /// All batches of the answer but the last are as large as the first; one that is cut off, or smaller,
  /// is asked for again.
  void take_batches(Counts& counts) {
    const char* at = head_.data();
    const size_t size = static_cast<size_t>(get<int32_t>(at + 8)) + 12;
    const auto base = get<int64_t>(at);
    if (size < kBatchHead || size > records_) die("a batch of " + std::to_string(size) + " bytes");
    if (base != current_->offset) {
      die("asked for offset " + std::to_string(current_->offset) + ", got a batch that begins at " +
          std::to_string(base) + ": the batches are not alike");
    }
    const size_t batches = records_ / size;
    counts.records += batches * static_cast<uint64_t>(get<int32_t>(at + 57));
    counts.bytes += batches * size;
    current_->offset = base + static_cast<int64_t>(batches) * (get<int32_t>(at + 23) + 1);
    if (current_->offset >= end_) current_->offset = 0;
    current_->moved = true;
    skip_ = records_ - kBatchHead;
    if (skip_ == 0) next_partition(counts);
  }

  void next_partition(Counts& counts) {
    if (left_ > 0) {
      --left_;
      expect(At::kPartition, kPartitionHead);
    } else if (topics_ > 0) {
      --topics_;
      expect(At::kTopic, 2 + topic_.size() + 4);
    } else {
      ++counts.answers;
      ask();
    }
  }

  static void check(int16_t code) {
    if (code != 0) die("the broker answered error " + std::to_string(code));
  }

  std::string topic_;
  int32_t fetch_bytes_;
  int32_t session_id_ = 0;
  int32_t session_epoch_;  ///< of the next request; negative: no session
  int32_t first_;
  std::vector<Partition> partitions_;
  int fd_;
  int32_t correlation_ = 0;
  At at_ = At::kAnswer;
  std::string head_;  ///< what is being read, as far as it has come
  size_t filled_ = 0;
  int32_t topics_ = 0;  ///< that the answer still has
  int32_t left_ = 0;    ///< partitions that the topic still has
  Partition* current_ = nullptr;
  int64_t end_ = 0;     ///< its high watermark
  size_t records_ = 0;  ///< bytes that it has answered
  size_t skip_ = 0;     ///< of these to drop
};

void run(const Options& options) {
  std::deque<Reader> readers;
  std::vector<pollfd> polled;
  const bool session = options.sessions > 0;
  for (int32_t i = 0; i < (session ? options.sessions : options.partitions); ++i) {
    readers.emplace_back(options, session ? 0 : i, session ? options.partitions : 1, session);
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
  } else if (name == "--sessions") {
    options.sessions = parse<int32_t>(value, name);
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
