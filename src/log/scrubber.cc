#include "log/scrubber.h"

#include <algorithm>

#include "base/plant.h"
#include "io/rng.h"
#include "io/shard.h"
#include "log/segment_scrub.h"
#include "log/shard_logs.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {
constexpr std::uint64_t kLeastRate = 1u << 20;
constexpr Duration kShortestSleep = std::chrono::milliseconds(5);
// In slices: a node that stops must not wait for the pace.
constexpr Duration kLongestSleep = std::chrono::milliseconds(200);
}  // namespace

std::uint64_t scrub_rate(std::uint64_t bytes, Duration interval, std::uint64_t most) {
  most = std::max<std::uint64_t>(most, 1);
  const double seconds = std::max(std::chrono::duration<double>(interval).count() / 2, 1e-3);
  const double wanted = static_cast<double>(bytes) / seconds;
  if (wanted >= static_cast<double>(most)) return most;
  return std::min(most, std::max(kLeastRate, static_cast<std::uint64_t>(wanted)));
}

/// Of segments whose records are all deleted some may have come back with the power and others not.
bool Scrubber::closed(const PartitionLog& log, const Segment& segment) {
  const bool deleted =
      segment.next <= log.start_offset() && !PYRALOG_PLANT("log.scrub_deleted_segments");
  return segment.sealed && segment.file == nullptr && segment.synced >= segment.size &&
         !segment.dropped && !segment.replaced && !deleted;
}

/// The first closed one that reaches into [from, to).
Scrubber::SegmentRef Scrubber::next(const PartitionLog& log, Offset from, Offset to) {
  const auto& segments = log.segments_;
  auto at = std::ranges::partition_point(
      segments, [from](const SegmentRef& segment) { return segment->next <= from; });
  for (; at != segments.end() && (*at)->base < to; ++at) {
    if (closed(log, **at)) return *at;
  }
  return nullptr;
}

std::uint64_t Scrubber::closed_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [id, log] : shard_.logs_) {
    for (const SegmentRef& segment : log->segments_) sum += closed(*log, *segment) ? segment->size : 0;
  }
  return sum;
}

std::vector<Scrubber::Leg> Scrubber::plan(std::uint64_t at) const {
  std::vector<Leg> legs;
  std::size_t first = 0;
  std::optional<Offset> begin;
  std::uint64_t sum = 0;
  for (const auto& [id, log] : shard_.logs_) {
    for (const SegmentRef& segment : log->segments_) {
      if (begin || !closed(*log, *segment)) continue;
      sum += segment->size;
      if (sum <= at) continue;
      begin = segment->base;
      first = legs.size();
    }
    legs.push_back({id});
  }
  if (!begin) return legs;
  std::ranges::rotate(legs, legs.begin() + static_cast<std::ptrdiff_t>(first));
  Leg rest = legs.front();
  legs.front().from = rest.to = *begin;
  legs.push_back(rest);
  return legs;
}

io::Task<Result<void>> Scrubber::pace(std::uint64_t bytes) {
  co_await io::yield();
  bytes_ += bytes;
  const io::Shard& shard = io::Shard::current();
  due_ = std::max(shard.now(),
                  due_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(
                             static_cast<double>(bytes) / static_cast<double>(rate_))));
  while (!stopped() && due_ - shard.now() >= kShortestSleep &&
         !PYRALOG_PLANT("log.scrub_no_pace")) {
    co_await io::sleep_for(std::min(due_ - shard.now(), kLongestSleep));
  }
  if (stopped()) co_return fail(Code::kCancelled, "the scrubber was stopped");
  co_return Result<void>{};
}

Scrubber::SegmentRef Scrubber::current(const Known& known) const {
  const LogRef log = known.log.lock();
  SegmentRef segment = known.segment.lock();
  const bool there = log != nullptr && segment != nullptr && shard_.find(log->id()) == log &&
                     log->segment_of(segment->base) == segment;
  return there ? segment : nullptr;
}

void Scrubber::remember(const LogRef& log, const SegmentRef& segment) {
  std::erase_if(known_, [&](const Known& known) {
    const SegmentRef there = current(known);
    return there == nullptr || there->damaged.empty() || there == segment;
  });
  known_.push_back({log, segment});
}

/// False = stopped.
io::Task<bool> Scrubber::go(Leg leg, Scrubbed& done) {
  while (!stopped()) {
    co_await io::yield();  // there may be very many with nothing to do
    const LogRef log = shard_.find(leg.log);
    if (log == nullptr || log->offline_) co_return true;
    const SegmentRef segment = next(*log, leg.from, leg.to);
    if (segment == nullptr) co_return true;
    leg.from = segment->next;
    remember(log, segment);
    SegmentScrub scrub(shard_, log, segment, [this](std::uint64_t bytes) { return pace(bytes); });
    const auto passed = co_await scrub.run();
    if (passed) {
      ++done.segments;
    } else if (passed.error().code != Code::kCancelled &&
               passed.error().code != Code::kUnavailable) {
      observe::log_warn("log.scrub_skipped", {{"partition", log->name()},
                                              {"segment", segment_file_name(segment->base, "log")},
                                              {"reason", passed.error().message}});
    }
  }
  co_return false;
}

io::Task<Scrubbed> Scrubber::round(ScrubCall call) {
  call_ = std::move(call);
  Scrubbed done;
  const std::uint64_t bytes = closed_bytes();
  rate_ = scrub_rate(bytes, call_.interval, call_.bytes_per_second);
  const io::Shard& shard = io::Shard::current();
  due_ = shard.now();
  bytes_ = 0;
  done.whole = true;
  for (const Leg& leg : plan(bytes == 0 ? 0 : io::Shard::current().rng().below(bytes))) {
    done.whole = co_await go(leg, done);
    if (!done.whole) break;
  }
  done.bytes = bytes_;
  call_.stop = nullptr;
  if (!done.whole) co_return done;
  last_round_ = shard.wall();
  ++shard_.stats_.scrub_rounds;
  co_return done;
}

std::size_t Scrubber::damaged_ranges() const {
  std::size_t sum = 0;
  for (const Known& known : known_) {
    if (const SegmentRef segment = current(known)) sum += segment->damaged.size();
  }
  return sum;
}

std::vector<std::string> Scrubber::damage(std::size_t most) const {
  std::vector<std::string> out;
  for (const Known& known : known_) {
    const SegmentRef segment = current(known);
    if (segment == nullptr) continue;
    const LogRef log = known.log.lock();
    for (const DamagedRange& range : segment->damaged) {
      if (out.size() >= most) return out;
      out.push_back(log->name() + ": " +
                    damage_message(to_string(log->id()), segment_file_name(segment->base, "log"),
                                   range.from, range.what));
    }
  }
  return out;
}

}  // namespace pyralog::log
