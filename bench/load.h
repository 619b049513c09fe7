#pragma once

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What the load generators share: options, bytes on the wire, time. One thread each; whatever goes
/// wrong ends the program with a line on standard error.
namespace pyralog::bench {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& text);
/// With what errno says.
[[noreturn]] void die_of_errno(const std::string& what);

template <typename Number>
Number parse(std::string_view text, std::string_view name) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    die(std::string(name) + ": not a number: " + std::string(text));
  }
  return value;
}

/// The command line as pairs of --name and value.
[[nodiscard]] std::vector<std::pair<std::string_view, std::string_view>> option_pairs(int argc,
                                                                                      char** argv);

struct Address {
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  bool operator==(const Address&) const = default;
};
/// HOST:PORT with a numeric IPv4 host.
[[nodiscard]] Address parse_address(std::string_view text);
/// A connected TCP socket without Nagle's delay.
[[nodiscard]] int connect_to(const Address& address);

/// Binds the thread to a processor; a negative number leaves it free.
void pin_to_cpu(int cpu);
/// User and system time of this process.
[[nodiscard]] double cpu_seconds();

[[nodiscard]] inline double to_seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}
[[nodiscard]] inline Clock::duration to_duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

/// Big-endian, as Kafka's protocol has it.
template <typename Int>
void put(std::string& out, Int value) {
  for (size_t i = sizeof value; i-- > 0;) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
  }
}
template <typename Int>
[[nodiscard]] Int get(const char* at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) value = (value << 8) | static_cast<uint8_t>(at[i]);
  return static_cast<Int>(value);
}
void put_string(std::string& out, std::string_view text);
void put_varint(std::string& out, int64_t value);

/// `size` printable bytes; `seed` makes them differ.
[[nodiscard]] std::string filler(size_t size, size_t seed);

}  // namespace pyralog::bench
