#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "observe/histogram.h"

namespace pyralog {
using namespace base;
}

namespace pyralog::observe {

/// Names and values, e.g. {{"topic", "orders"}}.
using Labels = std::vector<std::pair<std::string, std::string>>;

namespace detail {

/// The number of the shard that is running, or `shards` for threads that are none.
[[nodiscard]] unsigned cell_index(unsigned shards);

/// A number with one writer, or many if it is the last cell.
struct alignas(64) Cell {
  std::atomic<std::uint64_t> value{0};
};

}  // namespace detail

/// A count that only grows. Each shard adds to a cell of its own without a locked instruction; other
/// threads share one. Any thread.
class Counter {
 public:
  explicit Counter(unsigned shards) : shards_(shards), cells_(shards + 1) {}
  void add(std::uint64_t count = 1) {
    const unsigned index = detail::cell_index(shards_);
    std::atomic<std::uint64_t>& cell = cells_[index].value;
    if (index == shards_) {
      cell.fetch_add(count, std::memory_order_relaxed);
    } else {
      cell.store(cell.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
    }
  }
  [[nodiscard]] std::uint64_t value() const {
    std::uint64_t sum = 0;
    for (const auto& cell : cells_) sum += cell.value.load(std::memory_order_relaxed);
    return sum;
  }

 private:
  unsigned shards_;
  std::vector<detail::Cell> cells_;
};

/// A number that goes up and down. Any thread.
class Gauge {
 public:
  void set(std::int64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(std::int64_t change) { value_.fetch_add(change, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

/// What a histogram's whole numbers mean; times are recorded in ns and shown in seconds.
enum class Unit : std::uint8_t { kSeconds, kBytes, kCount };

/// A distribution, with cells as Counter has. A cell's memory comes with its first value.
class Histogram {
 public:
  Histogram(unsigned shards, Unit unit) : shards_(shards), unit_(unit), cells_(shards + 1) {}
  Histogram(const Histogram&) = delete;
  Histogram& operator=(const Histogram&) = delete;
  ~Histogram();
  void record(std::uint64_t value);
  void record(Duration time) {
    record(time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : std::uint64_t{0});
  }
  /// All cells, merged.
  [[nodiscard]] HistogramData snapshot() const;
  [[nodiscard]] Unit unit() const { return unit_; }

 private:
  struct alignas(64) Buckets {
    std::array<std::atomic<std::uint64_t>, HistogramLayout::kBuckets> counts{};
    std::atomic<std::uint64_t> sum{0};
    std::atomic<std::uint64_t> max{0};
  };
  [[nodiscard]] Buckets& cell(unsigned index);

  unsigned shards_;
  Unit unit_;
  std::vector<std::atomic<Buckets*>> cells_;
};

/// All metrics of one node. Metrics are made once and referred to; a reference stays valid as long as
/// the registry. Asking for an existing name and labels returns the same metric. Any thread.
class Registry {
 public:
  explicit Registry(unsigned shards);
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;
  ~Registry();

  /// Names are pyralog_<room>_<what>_<unit>; a counter's ends in _total, a histogram of times in
  /// _seconds.
  Counter& counter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, Unit unit, Labels labels = {});
  /// A gauge whose value is asked for at each scrape, on the scraping thread.
  void gauge_from(std::string_view name, std::string_view help, Labels labels,
                  std::function<double()> read);
  /// The same for a counter; what is read never falls.
  void counter_from(std::string_view name, std::string_view help, Labels labels,
                    std::function<double()> read);
  /// Forgets all series of a family with this label, e.g. of a topic that was deleted; references to
  /// them are void from then on.
  void remove(std::string_view label, std::string_view value);

  /// All series in Prometheus' text format, version 0.0.4.
  [[nodiscard]] std::string text() const;

 private:
  struct Series;
  struct Family;
  enum class Kind : std::uint8_t { kCounter, kGauge, kHistogram };
  Series& series(std::string_view name, std::string_view help, Kind kind, Labels labels);

  unsigned shards_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_;
};

}  // namespace pyralog::observe
