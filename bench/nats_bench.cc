// Publishes to JetStream streams from one pinned thread by NATS's own text protocol, so that the
// server and not a client library is what is measured. Prints one JSON line.
//
// Stream i listens to the subject PREFIX.i. Every connection keeps `window` acknowledgements open.
// With --batch 1 each message is published and acknowledged by itself; with more, so many messages
// make an atomic batch (NATS 2.12 and later), which its last message commits and which is
// acknowledged once.

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
  Address server;
  std::string prefix = "bench";
  size_t streams = 1;
  size_t record_bytes = 1024;
  size_t batch = 1;
  size_t connections = 8;
  size_t window = 120;  ///< acknowledgements that a connection waits for
  double seconds = 3;
  double warmup = 0.5;
  uint64_t max_bytes = 0;  ///< stop after so many bytes; 0 has no such end
  int cpu = -1;
};

/// One connection: bytes that wait to be written, and how many acknowledgements are out.
class Connection {
 public:
  Connection(const Options& options, size_t index)
      : options_(options),
        inbox_("_INBOX.bench." + std::to_string(index)),
        fd_(connect_to(options.server)),
        payload_(filler(options.record_bytes, index)),
        input_(1 << 16) {
    output_ =
        "CONNECT "
        "{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"name\":\"nats_bench\"}\r\n"
        "SUB " +
        inbox_ + " 1\r\n";
  }
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool writing() const { return written_ < output_.size(); }
  [[nodiscard]] size_t in_flight() const { return in_flight_; }
  [[nodiscard]] bool has_room() const { return !writing() && in_flight_ < options_.window; }

  /// Adds a message, or an atomic batch of them, to what is to be written.
  void publish(size_t stream) {
    if (!writing()) {
      output_.clear();
      written_ = 0;
    }
    const std::string subject = options_.prefix + "." + std::to_string(stream);
    const std::string body = std::to_string(payload_.size());
    if (options_.batch == 1) {
      output_ += "PUB " + subject + " " + inbox_ + " " + body + "\r\n" + payload_ + "\r\n";
    } else {
      ++batches_;
      for (size_t i = 1; i <= options_.batch; ++i) publish_member(subject, i);
    }
    ++in_flight_;
  }

  void flush() {
    while (writing()) {
      const ssize_t done = ::send(fd_, output_.data() + written_, output_.size() - written_,
                                  MSG_DONTWAIT | MSG_NOSIGNAL);
      if (done < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        die_of_errno("send");
      }
      written_ += static_cast<size_t>(done);
    }
  }

  /// Reads what has arrived; returns how many acknowledgements were in it.
  size_t receive() {
    const ssize_t got = ::recv(fd_, input_.data() + filled_, input_.size() - filled_, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) die("the server closed the connection");
    filled_ += static_cast<size_t>(got);
    std::string_view rest(input_.data(), filled_);
    size_t acknowledged = 0;
    while (take(rest, acknowledged)) {
    }
    std::memmove(input_.data(), rest.data(), rest.size());
    filled_ = rest.size();
    if (filled_ == input_.size()) input_.resize(2 * filled_);
    in_flight_ -= acknowledged;
    return acknowledged;
  }

 private:
  void publish_member(const std::string& subject, size_t number) {
    const bool last = number == options_.batch;
    std::string head = "NATS/1.0\r\nNats-Batch-Id: " + inbox_ + "." + std::to_string(batches_) +
                       "\r\nNats-Batch-Sequence: " + std::to_string(number) + "\r\n";
    if (last) head += "Nats-Batch-Commit: 1\r\n";
    head += "\r\n";
    output_ += "HPUB " + subject + " " + (last ? inbox_ + " " : "") + std::to_string(head.size()) +
               " " + std::to_string(head.size() + payload_.size()) + "\r\n" + head + payload_ +
               "\r\n";
  }

  /// One protocol line and its payload; false when it has not arrived as a whole.
  bool take(std::string_view& rest, size_t& acknowledged) {
    const size_t end = rest.find("\r\n");
    if (end == std::string_view::npos) return false;
    const std::string_view line = rest.substr(0, end);
    size_t size = end + 2;
    if (line.starts_with("MSG ") || line.starts_with("HMSG ")) {
      const auto bytes = parse<size_t>(line.substr(line.rfind(' ') + 1), "payload size");
      if (rest.size() < size + bytes + 2) return false;
      check(rest.substr(size, bytes));
      size += bytes + 2;
      ++acknowledged;
    } else if (line == "PING") {
      output_ += "PONG\r\n";
      flush();
    } else if (line.starts_with("-ERR")) {
      die("the server says " + std::string(line));
    }
    rest.remove_prefix(size);
    return true;
  }

  static void check(std::string_view answer) {
    if (answer.find("\"seq\":") == std::string_view::npos ||
        answer.find("\"error\"") != std::string_view::npos) {
      die("JetStream answers " + std::string(answer));
    }
  }

  const Options& options_;
  std::string inbox_;
  int fd_;
  std::string payload_;
  std::string output_;
  size_t written_ = 0;
  uint64_t batches_ = 0;
  size_t in_flight_ = 0;
  std::vector<char> input_;
  size_t filled_ = 0;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options) {
    for (size_t i = 0; i < options.connections; ++i) connections_.emplace_back(options, i);
    for (Connection& connection : connections_) polled_.push_back({connection.fd(), POLLIN, 0});
  }

  void go() {
    const auto begin = Clock::now();
    from_ = begin + to_duration(options_.warmup);
    const auto end = from_ + to_duration(options_.seconds);
    heard_ = begin;
    while (Clock::now() < end &&
           (options_.max_bytes == 0 || bytes(published_) < options_.max_bytes)) {
      for (Connection& connection : connections_) publish(connection);
      wait();
    }
    seconds_ = std::max(to_seconds(Clock::now() - from_), 1e-9);
    const uint64_t measured = measured_;
    while (std::ranges::any_of(connections_, [](const auto& c) { return c.in_flight() > 0; }))
      wait();
    const auto messages = static_cast<double>(measured * options_.batch);
    std::printf(
        "{\"records_per_s\": %.0f, \"mb_per_s\": %.1f, \"seconds\": %.3f, \"total_bytes\": %llu, "
        "\"client_cpu_s\": %.2f}\n",
        messages / seconds_, messages * static_cast<double>(options_.record_bytes) / seconds_ / 1e6,
        seconds_, static_cast<unsigned long long>(bytes(acknowledged_)), cpu_seconds());
  }

 private:
  [[nodiscard]] uint64_t bytes(uint64_t publishes) const {
    return publishes * options_.batch * options_.record_bytes;
  }

  void publish(Connection& connection) {
    if (!connection.has_room()) return;
    for (size_t room = options_.window - connection.in_flight(); room > 0; --room) {
      connection.publish(next_stream_++ % options_.streams);
      ++published_;
    }
    connection.flush();
  }

  void wait() {
    for (size_t i = 0; i < connections_.size(); ++i) {
      polled_[i].events = static_cast<short>(POLLIN | (connections_[i].writing() ? POLLOUT : 0));
    }
    if (::poll(polled_.data(), polled_.size(), 50) < 0 && errno != EINTR) die_of_errno("poll");
    const auto now = Clock::now();
    for (size_t i = 0; i < connections_.size(); ++i) {
      if ((polled_[i].revents & POLLOUT) != 0) connections_[i].flush();
      if ((polled_[i].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
      const size_t got = connections_[i].receive();
      if (got > 0) heard_ = now;
      acknowledged_ += got;
      if (now >= from_) measured_ += got;
    }
    if (now > heard_ + to_duration(20)) die("no acknowledgement within 20 s");
  }

  const Options& options_;
  std::deque<Connection> connections_;
  std::vector<pollfd> polled_;
  size_t next_stream_ = 0;
  uint64_t published_ = 0;
  uint64_t acknowledged_ = 0;
  uint64_t measured_ = 0;
  Clock::time_point from_;
  Clock::time_point heard_;
  double seconds_ = 0;
};

void set(Options& options, std::string_view name, std::string_view value) {
  if (name == "--server") {
    options.server = parse_address(value);
  } else if (name == "--prefix") {
    options.prefix = value;
  } else if (name == "--streams") {
    options.streams = parse<size_t>(value, name);
  } else if (name == "--record-bytes") {
    options.record_bytes = parse<size_t>(value, name);
  } else if (name == "--batch") {
    options.batch = parse<size_t>(value, name);
  } else if (name == "--connections") {
    options.connections = parse<size_t>(value, name);
  } else if (name == "--window") {
    options.window = parse<size_t>(value, name);
  } else if (name == "--seconds") {
    options.seconds = parse<double>(value, name);
  } else if (name == "--warmup") {
    options.warmup = parse<double>(value, name);
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
  if (options.batch == 0 || options.streams == 0) die("--batch and --streams are at least 1");
  pin_to_cpu(options.cpu);
  Run run(options);
  run.go();
  return 0;
}
