#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pyralog::observe {

enum class MetricKind : std::uint8_t { kCounter, kGauge, kHistogram };

/// What is wrong with a metric's name or help by the rules of Prometheus and its linter (promlint),
/// in words; empty if nothing is. Counters end in _total and nothing else does; no name ends as a part
/// of a histogram does (_bucket, _sum, _count) or tells the kind of the metric; units are whole words,
/// base units, and come last; a name is pyralog_<room>_<what>, or process_<what> where all programs
/// that tell Prometheus of themselves have the same. Pure.
[[nodiscard]] std::string name_fault(std::string_view name, std::string_view help, MetricKind kind);

}  // namespace pyralog::observe
