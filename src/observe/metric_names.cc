#include "observe/metric_names.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/plant.h"

namespace pyralog::observe {

namespace {

constexpr std::array<std::string_view, 3> kParts = {"bucket", "sum", "count"};
constexpr std::array<std::string_view, 4> kKinds = {"counter", "gauge", "histogram", "summary"};
constexpr std::array<std::string_view, 2> kUnits = {"seconds", "bytes"};
constexpr std::array<std::string_view, 14> kAbbreviations = {
    "s", "ms", "us", "ns", "sec", "secs", "b", "kb", "mb", "gb", "tb", "m", "h", "d"};
constexpr std::array<std::string_view, 22> kOtherUnits = {
    "minute",       "minutes",     "hour",        "hours",     "day",       "days",
    "week",         "weeks",       "millis",      "micros",    "nanos",     "milliseconds",
    "microseconds", "nanoseconds", "kilobytes",   "megabytes", "gigabytes", "kibibytes",
    "mebibytes",    "gibibytes",   "bits",        "percent"};

template <std::size_t N>
bool among(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

std::vector<std::string_view> words_of(std::string_view name) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at <= name.size();) {
    const std::size_t end = std::min(name.find('_', at), name.size());
    words.push_back(name.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

std::string fault_of(const std::vector<std::string_view>& words, MetricKind kind) {
  const bool counts = kind == MetricKind::kCounter;
  if (words.front() != "pyralog" && words.front() != "process") {
    return "it begins with neither pyralog_ nor process_";
  }
  if (words.size() < 3) return "it does not say of what it tells";
  if ((words.back() == "total") != counts) {
    return counts ? "a counter ends in _total" : "only a counter ends in _total";
  }
  const std::size_t last = words.size() - (counts ? 2 : 1);
  if (among(kParts, words[last])) {
    return "_" + std::string(words[last]) + " is a part of a histogram";
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string word(words[i]);
    const bool plain = std::ranges::all_of(
        word, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
    if (word.empty() || !plain) return "its words are of a to z and 0 to 9, with one _ in between";
    if (among(kKinds, words[i])) return "it tells its kind, " + word;
    if (among(kAbbreviations, words[i])) return word + " is an abbreviation of a unit";
    if (among(kOtherUnits, words[i])) return word + " is no base unit";
    if (i != last && among(kUnits, words[i])) return word + ", its unit, does not come last";
  }
  return {};
}

}  // namespace

std::string name_fault(std::string_view name, std::string_view help, MetricKind kind) {
  if (PYRALOG_PLANT("observe.any_metric_name")) return {};
  std::string fault = fault_of(words_of(name), kind);
  if (fault.empty() && help.empty()) fault = "it has no help";
  return fault.empty() ? fault : "metric " + std::string(name) + ": " + fault;
}

}  // namespace pyralog::observe
