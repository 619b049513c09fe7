#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "base/time.h"

namespace pyralog::observe {

enum class Level : std::uint8_t { kDebug, kInfo, kWarn, kError };

/// What a field says; texts are not copied, so a Value lives as long as the call.
struct Value {
  std::variant<std::int64_t, std::uint64_t, double, bool, std::string_view> value;
  template <typename T>
    requires std::signed_integral<T> && (!std::same_as<T, bool>)
  Value(T v) : value(static_cast<std::int64_t>(v)) {}
  template <typename T>
    requires std::unsigned_integral<T> && (!std::same_as<T, bool>)
  Value(T v) : value(static_cast<std::uint64_t>(v)) {}
  Value(double v) : value(v) {}
  Value(bool v) : value(v) {}
  Value(const char* v) : value(std::string_view(v)) {}
  Value(std::string_view v) : value(v) {}
  Value(const std::string& v) : value(std::string_view(v)) {}
  Value(const Error& v) : value(std::string_view(v.message)) {}
};
struct Field {
  std::string_view key;
  Value value;
};
using Fields = std::initializer_list<Field>;

/// The name of what happened, "room.what", and where the code says so.
struct Event {
  std::string_view name;
  std::source_location where;
  Event(const char* event, std::source_location at = std::source_location::current())
      : name(event), where(at) {}
};

/// Writes one line: `log_info("server.ready", {{"kafka", address}, {"ms", 12}});`. Never waits: lines
/// go to a queue that one thread writes to the descriptor, and are counted and dropped if it is full.
/// Warnings and errors are bounded to 10 a second per place in the code; the next line there says how
/// many were left out. Any thread.
void log(Level level, Event event, std::span<const Field> fields);
inline void log(Level level, Event event, Fields fields = {}) {
  log(level, event, std::span<const Field>(fields.begin(), fields.size()));
}
inline void log_debug(Event event, Fields fields = {}) { log(Level::kDebug, event, fields); }
inline void log_info(Event event, Fields fields = {}) { log(Level::kInfo, event, fields); }
inline void log_warn(Event event, Fields fields = {}) { log(Level::kWarn, event, fields); }
/// Only if someone must act.
inline void log_error(Event event, Fields fields = {}) { log(Level::kError, event, fields); }

struct LogOptions {
  Level level = Level::kInfo;
  bool json = false;  ///< JSON lines instead of `time level event key=value …`
  int fd = 2;
};
/// Starts the writing thread; until then warnings and errors are written directly. By the server, once.
void start_logging(const LogOptions& options);
/// Writes what is queued and ends the thread.
void stop_logging();
void set_log_level(Level level);
[[nodiscard]] Level log_level();
/// Lines that were dropped because the queue was full.
[[nodiscard]] std::uint64_t dropped_lines();
/// For tests: every line goes to `sink` instead, on the thread that logs; empty = as before.
void capture_log(std::function<void(const std::string& line)> sink);

/// One line without its end, as `log` writes it.
[[nodiscard]] std::string format_line(bool json, WallMs time, Level level, std::string_view event,
                                      std::span<const Field> fields, std::uint64_t suppressed = 0);
[[nodiscard]] inline std::string format_line(bool json, WallMs time, Level level,
                                             std::string_view event, Fields fields,
                                             std::uint64_t suppressed = 0) {
  return format_line(json, time, level, event,
                     std::span<const Field>(fields.begin(), fields.size()), suppressed);
}

}  // namespace pyralog::observe
