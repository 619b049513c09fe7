// Whether a replica may be read, or another one may lead by now.

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "replica/participant.h"

namespace pyralog::replica {

void Participant::note_leader(const Append& said) {
  if (!said.active || said.epoch != following_.agreed() || !following_.told() || cutting_) return;
  const Instant now = io::Shard::current().now();
  if (level_.epoch != said.epoch) level_ = {said.epoch, {}, Offset(0), {}};
  // As the leader does it for those in sync: what it had not when it was asked before, it has now.
  const bool has_all = following_.high_watermark() >= *following_.told();
  const bool had_all = following_.high_watermark() >= level_.asked && level_.asked_at != Instant{};
  if (has_all) {
    level_.at = now;
  } else if (had_all) {
    level_.at = std::max(level_.at.value_or(Instant{}), level_.asked_at);
  }
  level_.asked = *following_.told();
  level_.asked_at = now;
}

std::optional<Participant::Followed> Participant::followed(Instant now) const {
  if (failed_ || stopping_ || leading_ || recovery_ || cutting_) return std::nullopt;
  const Epoch epoch = level_.epoch;
  const bool agrees = epoch.value != 0 && epoch == following_.agreed() &&
                      epoch == following_.promise().promised && epoch >= known_.current;
  if (!agrees || !following_.told() || !level_.at) return std::nullopt;
  const bool cut_off = *level_.at + options_.leading.lag_time_max < now;
  if (cut_off && !PYRALOG_PLANT("replica.read_where_cut_off")) return std::nullopt;
  return Followed{epoch, *following_.told()};
}

/// Between two terms the next one cannot come while who leads the metadata log is not heard of.
bool Participant::alone() {
  return between_terms() || (leads() && !may_accept());
}

void Participant::look_whether_cut_off() {
  const bool in_touch = wire_.in_touch();
  const bool was = std::exchange(cut_off_, !in_touch && alone());
  if (cut_off_ && !was) host_.cut_off();
}

io::Task<bool> Participant::confirm(Instant deadline) {
  if (!leads()) co_return false;
  const Epoch epoch = this->epoch();
  const std::uint64_t asked = leading_->ask();
  wake_feeders_.wake_all();
  const auto still = [&] { return leads() && this->epoch() == epoch; };
  while (still() && leading_->confirmed() < asked) {
    if (!co_await confirmed_.wait(deadline)) break;
  }
  co_return still() && leading_->confirmed() >= asked;
}

}  // namespace pyralog::replica
