#include "observe/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <iterator>

#include "base/assert.h"
#include "io/shard.h"
#include "observe/metric_names.h"

namespace pyralog::observe {

namespace detail {
unsigned cell_index(unsigned shards) {
  if (!io::Shard::has_current()) return shards;
  return std::min(io::Shard::current().index(), shards);
}
}  // namespace detail

Histogram::~Histogram() {
  for (auto& cell : cells_) delete cell.load(std::memory_order_relaxed);
}

Histogram::Buckets& Histogram::cell(unsigned index) {
  Buckets* buckets = cells_[index].load(std::memory_order_acquire);
  if (buckets != nullptr) return *buckets;
  auto fresh = std::make_unique<Buckets>();
  if (cells_[index].compare_exchange_strong(buckets, fresh.get(), std::memory_order_acq_rel)) {
    return *fresh.release();
  }
  return *buckets;
}

void Histogram::record(std::uint64_t value) {
  constexpr auto relaxed = std::memory_order_relaxed;
  const unsigned index = detail::cell_index(shards_);
  Buckets& mine = cell(index);
  std::atomic<std::uint64_t>& count = mine.counts[HistogramLayout::bucket(value)];
  if (index == shards_) {
    count.fetch_add(1, relaxed);
    mine.sum.fetch_add(value, relaxed);
    std::uint64_t seen = mine.max.load(relaxed);
    while (value > seen && !mine.max.compare_exchange_weak(seen, value, relaxed)) {
    }
    return;
  }
  count.store(count.load(relaxed) + 1, relaxed);
  mine.sum.store(mine.sum.load(relaxed) + value, relaxed);
  if (value > mine.max.load(relaxed)) mine.max.store(value, relaxed);
}

HistogramData Histogram::snapshot() const {
  HistogramData data;
  for (const auto& cell : cells_) {
    const Buckets* const buckets = cell.load(std::memory_order_acquire);
    if (buckets == nullptr) continue;
    for (std::size_t i = 0; i < HistogramLayout::kBuckets; ++i) {
      const std::uint64_t count = buckets->counts[i].load(std::memory_order_relaxed);
      if (count > 0) data.add_bucket(i, count);
    }
    data.add_sum(buckets->sum.load(std::memory_order_relaxed),
                 buckets->max.load(std::memory_order_relaxed));
  }
  return data;
}

struct Registry::Series {
  Labels labels;
  std::unique_ptr<Counter> counter;
  std::unique_ptr<Gauge> gauge;
  std::unique_ptr<Histogram> histogram;
  std::function<double()> read;
};

struct Registry::Family {
  std::string help;
  Kind kind;
  std::map<Labels, std::unique_ptr<Series>> series;
};

Registry::Registry(unsigned shards) : shards_(shards) {}
Registry::~Registry() = default;

namespace {

bool good_label(std::string_view name) {
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name.front())) != 0) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
  return out;
}

/// "{a="1",b="2"}", with `extra` as the last label if it is not empty.
std::string label_text(const Labels& labels, const std::string& extra = {}) {
  if (labels.empty() && extra.empty()) return {};
  std::string out = "{";
  for (const auto& [name, value] : labels) {
    if (out.size() > 1) out += ',';
    out += fmt::format("{}=\"{}\"", name, escaped(value, true));
  }
  if (!extra.empty()) {
    if (out.size() > 1) out += ',';
    out += extra;
  }
  return out + "}";
}

/// The bounds that are shown, as powers of two: few, and the same at every scrape.
struct Shown {
  unsigned first;
  unsigned last;
  unsigned step;
  double scale;
};
Shown shown(Unit unit) {
  switch (unit) {
    case Unit::kSeconds: return {12, 36, 2, 1e-9};  // 4 µs to 69 s
    case Unit::kBytes: return {6, 30, 3, 1};
    case Unit::kCount: return {0, 20, 2, 1};
  }
  return {0, 0, 1, 1};
}

void write_histogram(std::string& out, std::string_view name, const Labels& labels,
                     const Histogram& histogram) {
  const HistogramData data = histogram.snapshot();
  const Shown bounds = shown(histogram.unit());
  for (unsigned bits = bounds.first; bits <= bounds.last; bits += bounds.step) {
    const std::uint64_t bound = std::uint64_t{1} << bits;
    const std::string le = fmt::format("le=\"{}\"", static_cast<double>(bound) * bounds.scale);
    fmt::format_to(std::back_inserter(out), "{}_bucket{} {}\n", name, label_text(labels, le),
                   data.count_up_to(bound));
  }
  const std::string suffix = label_text(labels);
  fmt::format_to(std::back_inserter(out), "{}_bucket{} {}\n", name,
                 label_text(labels, "le=\"+Inf\""), data.count());
  fmt::format_to(std::back_inserter(out), "{}_sum{} {}\n", name, suffix,
                 static_cast<double>(data.sum()) * bounds.scale);
  fmt::format_to(std::back_inserter(out), "{}_count{} {}\n", name, suffix, data.count());
}

}  // namespace

Registry::Series& Registry::series(std::string_view name, std::string_view help, Kind kind,
                                   Labels labels) {
  const std::string fault = name_fault(name, help,
                                       kind == Kind::kCounter ? MetricKind::kCounter
                                       : kind == Kind::kGauge ? MetricKind::kGauge
                                                              : MetricKind::kHistogram);
  if (!fault.empty()) std::fprintf(stderr, "%s\n", fault.c_str());
  PYRALOG_ASSERT(fault.empty());
  for (const auto& [label, value] : labels) PYRALOG_ASSERT(good_label(label) && label != "le");
  std::sort(labels.begin(), labels.end());
  auto family = families_.find(name);
  if (family == families_.end()) {
    auto fresh = std::make_unique<Family>(Family{std::string(help), kind, {}});
    family = families_.emplace(std::string(name), std::move(fresh)).first;
  }
  PYRALOG_ASSERT(family->second->kind == kind);
  std::unique_ptr<Series>& place = family->second->series[labels];
  if (place == nullptr) {
    place = std::make_unique<Series>();
    place->labels = std::move(labels);
  }
  return *place;
}

Counter& Registry::counter(std::string_view name, std::string_view help, Labels labels) {
  const std::lock_guard lock(mutex_);
  Series& found = series(name, help, Kind::kCounter, std::move(labels));
  if (found.counter == nullptr) found.counter = std::make_unique<Counter>(shards_);
  return *found.counter;
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, Labels labels) {
  const std::lock_guard lock(mutex_);
  Series& found = series(name, help, Kind::kGauge, std::move(labels));
  if (found.gauge == nullptr) found.gauge = std::make_unique<Gauge>();
  return *found.gauge;
}

Histogram& Registry::histogram(std::string_view name, std::string_view help, Unit unit,
                               Labels labels) {
  PYRALOG_ASSERT(name.ends_with("_seconds") == (unit == Unit::kSeconds));
  const std::lock_guard lock(mutex_);
  Series& found = series(name, help, Kind::kHistogram, std::move(labels));
  if (found.histogram == nullptr) found.histogram = std::make_unique<Histogram>(shards_, unit);
  return *found.histogram;
}

void Registry::gauge_from(std::string_view name, std::string_view help, Labels labels,
                          std::function<double()> read) {
  const std::lock_guard lock(mutex_);
  series(name, help, Kind::kGauge, std::move(labels)).read = std::move(read);
}

void Registry::counter_from(std::string_view name, std::string_view help, Labels labels,
                            std::function<double()> read) {
  const std::lock_guard lock(mutex_);
  series(name, help, Kind::kCounter, std::move(labels)).read = std::move(read);
}

void Registry::remove(std::string_view label, std::string_view value) {
  const std::lock_guard lock(mutex_);
  for (const auto& [name, family] : families_) {
    std::erase_if(family->series, [&](const auto& entry) {
      return std::any_of(entry.first.begin(), entry.first.end(), [&](const auto& pair) {
        return pair.first == label && pair.second == value;
      });
    });
  }
}

std::string Registry::text() const {
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : families_) {
    if (family->series.empty()) continue;
    const char* const type = family->kind == Kind::kCounter ? "counter"
                             : family->kind == Kind::kGauge ? "gauge"
                                                            : "histogram";
    fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", name,
                   escaped(family->help, false), name, type);
    for (const auto& [labels, one] : family->series) {
      if (one->histogram != nullptr) {
        write_histogram(out, name, labels, *one->histogram);
      } else if (one->counter != nullptr) {
        fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, label_text(labels),
                       one->counter->value());
      } else if (one->read) {
        fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, label_text(labels), one->read());
      } else {
        fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, label_text(labels),
                       one->gauge->value());
      }
    }
  }
  return out;
}

}  // namespace pyralog::observe
