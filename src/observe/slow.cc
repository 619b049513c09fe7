#include "observe/slow.h"

#include "base/plant.h"
#include "io/shard.h"

namespace pyralog::observe {

std::optional<std::uint64_t> LineBound::admit(Instant now) {
  if (lines_ == 0 || now - window_ >= kWindow) {
    window_ = now;
    lines_ = 0;
  }
  if (lines_ >= kLines && !PYRALOG_PLANT("observe.unbounded_slow_lines")) {
    ++left_out_;
    return std::nullopt;
  }
  ++lines_;
  return std::exchange(left_out_, 0);
}

SlowLog::SlowLog(Registry& registry, Duration limit) : limit_(limit) {
  constexpr std::array kNames{"request", "sync", "write"};
  static_assert(kNames.size() == kSlowKinds);
  for (std::size_t i = 0; i < kSlowKinds; ++i) {
    counts_[i] = &registry.counter("pyralog_slow_operations_total",
                                   "Operations that took longer than log.slow.operation.ms",
                                   {{"kind", kNames[i]}});
  }
}

void SlowLog::note(SlowKind kind, Duration took, std::vector<Field> fields) {
  if (!is_slow(took)) return;
  const auto index = static_cast<std::size_t>(kind);
  counts_[index]->add();
  std::optional<std::uint64_t> left_out;
  {
    const std::lock_guard lock(mutex_);
    left_out = bounds_[index].admit(io::Shard::current().now());
  }
  if (!left_out) return;
  fields.push_back({"ms", to_ms(took)});
  fields.push_back({"limit_ms", to_ms(limit_)});
  if (*left_out > 0) fields.push_back({"left_out", *left_out});
  // A place of its own for each, since a place has a bound of its own.
  switch (kind) {
    case SlowKind::kRequest:
      return log(Level::kWarn, "slow.request", std::span<const Field>(fields));
    case SlowKind::kSync:
      return log(Level::kWarn, "slow.sync", std::span<const Field>(fields));
    case SlowKind::kWrite:
      return log(Level::kWarn, "slow.write", std::span<const Field>(fields));
  }
}

}  // namespace pyralog::observe
