#include "observe/log.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <ctime>
#include <iterator>
#include <mutex>
#include <thread>

#include "base/json.h"
#include "io/shard.h"

namespace pyralog::observe {

namespace {

constexpr std::size_t kMaxQueuedBytes = 1 << 20;
constexpr std::uint32_t kLinesPerSecond = 10;

const char* name_of(Level level, bool json) {
  switch (level) {
    case Level::kDebug:
      return json ? "debug" : "DEBUG";
    case Level::kInfo:
      return json ? "info" : "INFO";
    case Level::kWarn:
      return json ? "warn" : "WARN";
    case Level::kError:
      return json ? "error" : "ERROR";
  }
  return "";
}

/// Nothing that a terminal would obey or a reader stumble over, whatever a client has called
/// itself.
void append_text(std::string& out, std::string_view text, bool json) {
  const bool plain = !json && !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte > 0x20 && byte < 0x7f && c != '"' && c != '=' && c != '\\';
  });
  if (plain) {
    out += text;
    return;
  }
  std::string quoted;
  base::append_json_string(quoted, text);
  // U+0080 to U+009F: controls, too.
  for (std::size_t i = 0; i < quoted.size(); ++i) {
    const auto next = i + 1 < quoted.size() ? static_cast<unsigned char>(quoted[i + 1]) : 0U;
    if (static_cast<unsigned char>(quoted[i]) == 0xC2 && next >= 0x80 && next < 0xA0) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", next);
      ++i;
    } else {
      out += quoted[i];
    }
  }
}

void append_value(std::string& out, const Value& value, bool json) {
  std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          append_text(out, v, json);
        } else if constexpr (std::is_same_v<T, double>) {
          if (json && !std::isfinite(v)) {
            out += "null";
          } else {
            fmt::format_to(std::back_inserter(out), "{}", v);
          }
        } else {
          fmt::format_to(std::back_inserter(out), "{}", v);
        }
      },
      value.value);
}

std::string time_text(WallMs time) {
  const std::time_t seconds = time.ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     time.ms % 1000);
}

/// The wall clock as the running shard sees it, which in a simulation is not the machine's.
WallMs now() {
  if (io::Shard::has_current()) return io::Shard::current().wall();
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return {std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000};
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote > 0) {
      text.remove_prefix(static_cast<std::size_t>(wrote));
    } else if (wrote < 0 && errno == EAGAIN) {
      pollfd ready{fd, POLLOUT, 0};
      if (::poll(&ready, 1, 1000) <= 0) return;
    } else if (wrote < 0 && errno != EINTR) {
      return;
    }
  }
}

/// The process's way out for log lines. Process-wide, because standard error is.
class Output {
 public:
  ~Output() { stop(); }

  void start(const LogOptions& options) {
    stop();
    level.store(options.level, std::memory_order_relaxed);
    json.store(options.json, std::memory_order_relaxed);
    fd_ = options.fd;
    stopping_ = false;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    running_.store(true, std::memory_order_release);
  }

  void stop() {
    if (!running_.exchange(false)) return;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    more_.notify_all();
    thread_.join();
  }

  void put(std::string line) {
    {
      const std::lock_guard lock(mutex_);
      if (sink_) return sink_(line);
      line += '\n';
      if (running_.load(std::memory_order_acquire)) {
        if (queue_.size() + line.size() > kMaxQueuedBytes) {
          dropped.fetch_add(1, std::memory_order_relaxed);
          return;
        }
        queue_ += line;
      } else {
        return write_all(fd_, line);
      }
    }
    more_.notify_one();
  }

  void capture(std::function<void(const std::string&)> sink) {
    const std::lock_guard lock(mutex_);
    sink_ = std::move(sink);
  }

  std::atomic<Level> level{Level::kWarn};
  std::atomic<bool> json{false};
  std::atomic<std::uint64_t> dropped{0};

 private:
  void run() {
    std::string batch;
    std::unique_lock lock(mutex_);
    while (true) {
      more_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      batch.swap(queue_);
      lock.unlock();
      write_all(fd_, batch);
      batch.clear();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable more_;
  std::string queue_;
  std::function<void(const std::string&)> sink_;
  std::thread thread_;
  std::atomic<bool> running_{false};
  bool stopping_ = false;
  int fd_ = 2;
};

Output& output() {
  static Output instance;
  return instance;
}

/// Bounds the lines of one place in the code. Places that share a slot share the bound.
struct Place {
  std::atomic<std::int64_t> second{0};
  std::atomic<std::uint32_t> lines{0};
  std::atomic<std::uint64_t> suppressed{0};
};

std::array<Place, 1024>& all_places() {
  static std::array<Place, 1024> places;
  return places;
}

/// Whether a line may go out now, and how many before it did not.
bool admit(const Event& event, WallMs time, std::uint64_t& suppressed) {
  std::array<Place, 1024>& places = all_places();
  const std::size_t hash =
      std::hash<const void*>{}(event.where.file_name()) * 31 + event.where.line() * 2'654'435'761U;
  Place& place = places[(hash >> 4U) % places.size()];
  const std::int64_t second = time.ms / 1000;
  if (place.second.exchange(second, std::memory_order_relaxed) != second) {
    place.lines.store(0, std::memory_order_relaxed);
  }
  if (place.lines.fetch_add(1, std::memory_order_relaxed) >= kLinesPerSecond) {
    place.suppressed.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  suppressed = place.suppressed.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace

std::string format_line(bool json, WallMs time, Level level, std::string_view event,
                        std::span<const Field> fields, std::uint64_t suppressed) {
  std::string out;
  if (!json) {
    out = fmt::format("{} {} {}", time_text(time), name_of(level, false), event);
    for (const Field& field : fields) {
      fmt::format_to(std::back_inserter(out), " {}=", field.key);
      append_value(out, field.value, false);
    }
    if (suppressed > 0) fmt::format_to(std::back_inserter(out), " suppressed={}", suppressed);
    return out;
  }
  out =
      fmt::format(R"({{"time":"{}","level":"{}","event":)", time_text(time), name_of(level, true));
  base::append_json_string(out, event);
  for (const Field& field : fields) {
    out += ',';
    base::append_json_string(out, field.key);
    out += ':';
    append_value(out, field.value, true);
  }
  if (suppressed > 0) fmt::format_to(std::back_inserter(out), ",\"suppressed\":{}", suppressed);
  return out + "}";
}

void log(Level level, Event event, std::span<const Field> fields) {
  Output& out = output();
  if (level < out.level.load(std::memory_order_relaxed)) return;
  const WallMs time = now();
  std::uint64_t suppressed = 0;
  if (level >= Level::kWarn && !admit(event, time, suppressed)) return;
  out.put(format_line(out.json.load(std::memory_order_relaxed), time, level, event.name, fields,
                      suppressed));
}

void start_logging(const LogOptions& options) {
  output().start(options);
}
void stop_logging() {
  output().stop();
}
void set_log_level(Level level) {
  output().level.store(level, std::memory_order_relaxed);
}
Level log_level() {
  return output().level.load(std::memory_order_relaxed);
}
std::uint64_t dropped_lines() {
  return output().dropped.load(std::memory_order_relaxed);
}
void capture_log(std::function<void(const std::string& line)> sink) {
  // Simulated clocks all begin at the same time: what went before would count against what comes.
  for (Place& place : all_places()) {
    place.lines = 0;
    place.suppressed = 0;
  }
  output().capture(std::move(sink));
}

}  // namespace pyralog::observe
