#include "cli/bench_report.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "io/rng.h"

namespace pyralog::cli {

namespace {
struct Quantile {
  const char* name;
  const char* key;
  double at;
};
constexpr std::array kQuantiles = {Quantile{"p50", "p50", 0.5}, Quantile{"p90", "p90", 0.9},
                                   Quantile{"p99", "p99", 0.99}, Quantile{"p99.9", "p999", 0.999}};
constexpr std::size_t kValues = 64;

double to_ms(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }
}  // namespace

Instant Schedule::due(std::uint64_t number) const {
  return start_ + Duration(std::llround(static_cast<double>(number) * 1e9 / rate_));
}

std::uint64_t Schedule::due_by(Instant now) const {
  if (now < start_) return 0;
  auto count = static_cast<std::uint64_t>(static_cast<double>((now - start_).count()) * rate_ / 1e9);
  // Rounding must not put one off for ever, nor send it early.
  while (due(count) <= now) ++count;
  while (count > 0 && due(count - 1) > now) --count;
  return count;
}

std::vector<Bytes> bench_values(std::size_t bytes, std::uint64_t seed) {
  static constexpr std::string_view kWords[] = {"order ", "total ", "ship ", "status=ok ", "user-", "42 ",
                                                "eu-west ", "retry "};
  io::SeededRng rng(seed);
  std::vector<Bytes> values(kValues);
  for (Bytes& value : values) {
    while (value.size() < bytes) {
      const ByteView word = as_bytes(kWords[rng.below(std::size(kWords))]);
      value.insert(value.end(), word.begin(), word.end());
      // Something that does not repeat between the words.
      for (int i = 0; i < 4; ++i) value.push_back(static_cast<std::uint8_t>('!' + rng.below(90)));
    }
    value.resize(bytes);
  }
  return values;
}

std::string moved_text(const Moved& moved) {
  const double seconds = std::max(moved.seconds, 1e-9);
  char text[200];
  std::snprintf(text, sizeof text, "%llu records, %.1f MB in %.2f s: %.0f records/s, %.1f MB/s",
                static_cast<unsigned long long>(moved.records), static_cast<double>(moved.bytes) / 1e6,
                moved.seconds, static_cast<double>(moved.records) / seconds,
                static_cast<double>(moved.bytes) / 1e6 / seconds);
  return text;
}

void add_moved(JsonWriter& json, const Moved& moved) {
  const double seconds = std::max(moved.seconds, 1e-9);
  json.field("records", moved.records)
      .field("bytes", moved.bytes)
      .field("seconds", moved.seconds)
      .field("records_per_second", static_cast<double>(moved.records) / seconds)
      .field("mb_per_second", static_cast<double>(moved.bytes) / 1e6 / seconds);
}

std::string latency_text(const observe::HistogramData& latency) {
  std::string out;
  char text[48];
  for (const Quantile& each : kQuantiles) {
    std::snprintf(text, sizeof text, "%s %.2f ms  ", each.name, to_ms(latency.quantile(each.at)));
    out += text;
  }
  std::snprintf(text, sizeof text, "max %.2f ms", to_ms(latency.max()));
  return out + text;
}

void add_latency(JsonWriter& json, std::string_view name, const observe::HistogramData& latency) {
  json.key(name).object();
  for (const Quantile& each : kQuantiles) json.field(each.key, to_ms(latency.quantile(each.at)));
  const std::uint64_t mean = latency.count() == 0 ? 0 : latency.sum() / latency.count();
  json.field("max", to_ms(latency.max())).field("mean", to_ms(mean)).end();
}

}  // namespace pyralog::cli
