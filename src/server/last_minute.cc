#include "server/last_minute.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::server {

namespace {

/// What was recorded between two readings.
observe::HistogramData since(const observe::HistogramData& before, const observe::HistogramData& now) {
  using Layout = observe::HistogramLayout;
  observe::HistogramData out;
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < Layout::kBuckets; ++i) {
    const std::uint64_t bound = Layout::upper(i);
    const std::uint64_t upto = now.count_up_to(bound) - before.count_up_to(bound);
    if (upto > seen) out.add_bucket(i, upto - seen);
    seen = upto;
    if (seen == now.count() - before.count()) break;
  }
  out.add_sum(now.sum() - before.sum(), now.max());
  return out;
}

}  // namespace

void LastMinute::note(Movement now) {
  // The oldest one that is kept is a minute old, or all there is.
  while (readings_.size() > 1 && now.at - readings_[1].at >= kSpan) readings_.pop_front();
  readings_.push_back(std::move(now));
}

MinuteMoved LastMinute::until(const Movement& now) const {
  MinuteMoved out;
  if (readings_.empty()) return out;
  auto from = readings_.begin();
  while (std::next(from) != readings_.end() && now.at - std::next(from)->at >= kSpan) ++from;
  if (PYRALOG_PLANT("server.minute_has_no_end")) from = readings_.begin();
  out.seconds = static_cast<double>((now.at - from->at).count()) / 1e9;
  out.records_in = now.records_in - from->records_in;
  out.bytes_in = now.bytes_in - from->bytes_in;
  out.records_out = now.records_out - from->records_out;
  out.bytes_out = now.bytes_out - from->bytes_out;
  const observe::HistogramData produce = since(from->produce, now.produce);
  if (produce.count() > 0) out.produce_p99 = Duration(static_cast<std::int64_t>(produce.quantile(0.99)));
  return out;
}

}  // namespace pyralog::server
