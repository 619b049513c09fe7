#include "cluster/pharaoh.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/plant.h"

namespace pyralog::cluster {
namespace {

using Entries = std::vector<catalog::Entry>;

constexpr std::int64_t kLeastBlock = 100;
constexpr Duration kUsedFast = 1s;
constexpr Duration kUsedSlowly = 10s;

std::uint64_t since_scarab_epoch(WallMs wall) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(wall.ms - obelisk::kScarabEpochMs, 0));
}

std::unexpected<Error> stopping() {
  return fail(Code::kUnavailable, "ids and counters: this node is stopping; ask another");
}

/// Counts a call for as long as it is under way.
class Under {
 public:
  Under(std::size_t& count, io::WaitList& idle) : count_(count), idle_(idle) { ++count_; }
  Under(const Under&) = delete;
  Under& operator=(const Under&) = delete;
  ~Under() {
    if (--count_ == 0 && !io::Shard::tearing_down()) idle_.wake_all();
  }

 private:
  std::size_t& count_;
  io::WaitList& idle_;
};

}  // namespace

// ---- Ids ----

std::uint64_t Pharaoh::left_ms() {
  if (clock_ == nullptr) return 0;
  const io::Shard& shard = io::Shard::current();
  const std::uint64_t time = clock_->time_ms(shard.wall(), shard.now());
  return clock_->ceiling_ms() > time ? clock_->ceiling_ms() - time : 0;
}

io::Task<Result<obelisk::ScarabRange>> Pharaoh::next_ids(std::uint64_t count, Instant deadline) {
  if (count < 1 || count > obelisk::kScarabMaxBatch) {
    co_return fail(Code::kInvalidArgument, "ids: " + std::to_string(count) +
                                               " at once; ask for 1 to " +
                                               std::to_string(obelisk::kScarabMaxBatch));
  }
  const Under under(calls_, idle_);
  while (!stopping_) {
    const io::Shard& shard = io::Shard::current();
    const Instant now = shard.now();
    bool ahead = false;
    if (clock_ != nullptr) {
      const auto first = clock_->take(count, shard.wall(), now);
      if (first) {
        if (left_ms() < kMachineGrantMs / 2) renew_soon();
        co_return obelisk::ScarabRange(*first, count, lease_->machine);
      }
      if (first.error() == obelisk::ScarabClock::Wait::kEnd) {
        co_return fail(
            Code::kExhausted,
            "ids: the 41 bits of milliseconds are used up, or the clock is wrong; set it");
      }
      ahead = first.error() == obelisk::ScarabClock::Wait::kTime;
    }
    if (now >= deadline) {
      co_return fail(Code::kTimedOut,
                     "ids: none could be issued in time; ask again, or another node");
    }
    if (ahead) {
      co_await io::sleep_for(1ms);
      continue;
    }
    const std::uint64_t seen = renewals_;
    renew_soon();
    if (renewals_ == seen) (void)co_await renewed_.wait(deadline);
    if (renewals_ != seen && failed_) co_return fail(*failed_);
  }
  co_return stopping();
}

void Pharaoh::renew_soon() {
  if (std::exchange(renewing_, true)) return;
  tasks_.spawn(renew());
}

io::Task<void> Pharaoh::renew() {
  auto got = co_await ask();
  failed_.reset();
  if (!got) {
    failed_ = std::move(got.error());
  } else {
    const bool renewed =
        lease_ && lease_->machine == got->machine && lease_->from_ms == got->from_ms;
    if (!renewed) {
      const std::uint64_t last = clock_ != nullptr ? clock_->last_ms() + 1 : 0;
      const io::Shard& shard = io::Shard::current();
      clock_ = std::make_unique<obelisk::ScarabClock>(std::max(got->from_ms, last), shard.wall(),
                                                      shard.now());
    }
    clock_->raise_ceiling(got->ceiling_ms);
    lease_ = *got;
    renewable_ = true;
  }
  renewing_ = false;
  ++renewals_;
  renewed_.wake_all();
}

io::Task<Result<MachineLease>> Pharaoh::ask() {
  MachineLease next;
  if (std::exchange(renewable_, false)) {
    const auto done = co_await log_.propose([&](const catalog::Catalog& state) -> Result<Entries> {
      const io::Shard& shard = io::Shard::current();
      PYRALOG_ASSIGN(
          next, renew_machine(state, node_, *lease_, clock_->time_ms(shard.wall(), shard.now())));
      return Entries{next.entry(node_)};
    });
    if (done) co_return next;
    // What may yet come to stand is nothing to go on from: another id is taken then.
    const Code code = done.error().code;
    renewable_ = code == Code::kUnavailable || code == Code::kExhausted;
    if (code != Code::kFenced) co_return fail(done.error());
  }
  PYRALOG_CO_TRY(co_await log_.propose([&](const catalog::Catalog& state) -> Result<Entries> {
    PYRALOG_ASSIGN(next, take_machine(state, io::Shard::current().wall()));
    return Entries{next.entry(node_)};
  }));
  co_return next;
}

void Pharaoh::follow(const catalog::Catalog& state) {
  if (stopping_ || renewing_ || left_ms() >= kMachineGrantMs * 3 / 4) return;
  const std::uint64_t time = since_scarab_epoch(io::Shard::current().wall());
  const bool used = std::ranges::any_of(state.machine_grants(), [&](const auto& each) {
    return each.second.node != node_ && each.second.ceiling_ms > time;
  });
  if (used) renew_soon();
}

// ---- Counters ----

std::optional<std::int64_t> Pharaoh::Counter::take(std::int64_t count) {
  while (!ranges.empty()) {
    Range& range = ranges.front();
    if (range.end - range.next >= count) {
      const std::int64_t first = range.next;
      range.next += count;
      if (range.next == range.end) ranges.pop_front();
      return first;
    }
    // What is left of the older block is too little: it is a gap once the newer one is begun.
    if (ranges.size() < 2 || ranges.back().end - ranges.back().next < count) return std::nullopt;
    ranges.pop_front();
  }
  return std::nullopt;
}

std::int64_t Pharaoh::Counter::left() const {
  std::int64_t sum = 0;
  for (const Range& each : ranges) sum += each.end - each.next;
  return sum;
}

io::Task<Result<std::int64_t>> Pharaoh::next_counter(std::string name, std::int64_t count,
                                                     bool strict, Instant deadline) {
  if (!catalog::is_valid_counter_name(name)) {
    co_return fail(Code::kInvalidArgument, "counter \"" + name.substr(0, 260) +
                                               "\": a name has 1 to 249 of a-z 0-9 . _ -; choose "
                                               "another");
  }
  if (count < 1 || count > catalog::kMaxCounterBlock) {
    co_return fail(Code::kInvalidArgument, "counter \"" + name + "\": " + std::to_string(count) +
                                               " values at once; ask for 1 to " +
                                               std::to_string(catalog::kMaxCounterBlock));
  }
  if (stopping_) co_return stopping();
  const Under under(calls_, idle_);
  if (strict) co_return co_await take_block(std::move(name), count);
  auto& place = counters_[name];
  if (place == nullptr) place = std::make_shared<Counter>();
  const std::shared_ptr<Counter> counter = place;
  while (!stopping_) {
    if (const auto first = counter->take(count)) {
      if (counter->left() < counter->size / 2) fetch_soon(name, counter, 0);
      co_return *first;
    }
    if (io::Shard::current().now() >= deadline) {
      co_return fail(Code::kTimedOut,
                     "counter \"" + name + "\": no block came in time; ask again, or another node");
    }
    const std::uint64_t seen = counter->fetches;
    fetch_soon(name, counter, count);
    if (counter->fetches == seen) (void)co_await counter->came.wait(deadline);
    if (counter->fetches != seen && counter->failed) co_return fail(*counter->failed);
  }
  co_return stopping();
}

void Pharaoh::fetch_soon(std::string name, std::shared_ptr<Counter> counter, std::int64_t least) {
  if (std::exchange(counter->fetching, true)) return;
  const Duration since = io::Shard::current().now() - counter->granted;
  if (counter->fetches > 0 && since < kUsedFast) {
    counter->size = std::min(counter->size * 4, catalog::kMaxCounterBlock);
  } else if (since > kUsedSlowly) {
    counter->size = std::max(counter->size / 2, kLeastBlock);
  }
  const std::int64_t size = std::max(counter->size, least);
  tasks_.spawn(fetch(std::move(name), std::move(counter), size));
}

io::Task<void> Pharaoh::fetch(std::string name, std::shared_ptr<Counter> counter,
                              std::int64_t size) {
  const auto first = co_await take_block(name, size);
  counter->failed.reset();
  if (first) {
    auto& ranges = counter->ranges;
    if (!ranges.empty() && ranges.back().end == *first) {
      ranges.back().end += size;
    } else {
      ranges.push_back({*first, *first + size});
    }
    if (ranges.size() > 2) ranges.pop_front();
    counter->granted = io::Shard::current().now();
  } else {
    counter->failed = first.error();
    // A name that was refused is not kept.
    const auto at = counters_.find(name);
    if (counter->ranges.empty() && at != counters_.end() && at->second == counter)
      counters_.erase(at);
  }
  counter->fetching = false;
  ++counter->fetches;
  counter->came.wake_all();
}

io::Task<Result<std::int64_t>> Pharaoh::take_block(std::string name, std::int64_t size) {
  std::int64_t first = 1;
  PYRALOG_CO_TRY(co_await log_.propose([&](const catalog::Catalog& state) -> Result<Entries> {
    const std::int64_t* next = state.counters().find(name);
    first = next != nullptr ? *next : 1;
    return Entries{catalog::CounterBlock{name, first, size}};
  }));
  co_return first;
}

// ---- The end ----

io::Task<void> Pharaoh::stop() {
  stopping_ = true;
  renewed_.wake_all();
  for (const auto& [name, counter] : counters_) counter->came.wake_all();
  while (calls_ > 0) (void)co_await idle_.wait(Instant::never());
  co_await tasks_.join();
}

}  // namespace pyralog::cluster
