// The disk under the data directory: who may still write, and when the reserve goes and comes.
#include "base/plant.h"
#include "broker/broker.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {
constexpr Duration kReserveRetry = std::chrono::seconds(30);
}  // namespace

std::string Broker::space_complaint() const {
  const SpaceStatus& space = local().space;
  if (!space.refusing) return {};
  const SpaceLimits& limits = space.limits;
  const std::uint64_t enough = limits.floor + limits.floor / 8 + limits.reserve;
  if (space.free_bytes >= enough && !PYRALOG_PLANT("broker.quota_is_a_full_disk")) {
    return "a write found no space under " + options_.data_dir + ", though the disk has " +
           bytes_text(space.free_bytes) +
           " free (a quota, perhaps): no records are taken for some seconds; raise the quota, delete topics or "
           "records, or let topics keep less";
  }
  return "the disk of " + options_.data_dir + " has " + bytes_text(space.free_bytes) +
         " free, and with less than " + bytes_text(space.limits.floor) +
         " (min.free.bytes) no records are taken; free space, delete topics or records, or let "
         "topics keep less";
}

io::Task<void> Broker::look_at_space(bool no_space) {
  const auto guard = co_await space_turn_.lock();
  // Once more after the reserve has gone or come: then there is another amount of space.
  for (int round = 0; round < 2; ++round) {
    const auto seen = co_await io::Shard::current().disk().space(options_.data_dir);
    if (!seen) {
      if (!std::exchange(space_unknown_, true)) {
        observe::log_warn("broker.space_unknown",
                          {{"data_dir", options_.data_dir}, {"reason", seen.error().message}});
      }
      space_again_ = std::chrono::seconds(1);
      co_return;
    }
    space_unknown_ = false;
    space_guard_.limit(space_limits(options_.space, seen->total_bytes));
    const std::uint64_t held = cluster_->reserve().bytes();
    const SpaceGuard::Step step = space_guard_.step(
        {seen->free_bytes, held, std::exchange(no_space, false)}, io::Shard::current().now());
    space_again_ = step.again;
    const SpaceStatus status{seen->free_bytes, seen->total_bytes, held, space_guard_.limits(),
                             space_guard_.refusing()};
    // Before the reserve goes: what it sets free is not for clients.
    const Groups everybody(shards_.size(), {0});
    co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
      states_[s]->space = status;
      co_return;
    });
    if (step.turned && status.refusing) {
      observe::log_warn("broker.writes_refused", {{"reason", space_complaint()}});
    } else if (step.turned) {
      observe::log_info("broker.writes_resumed",
                        {{"data_dir", options_.data_dir}, {"free_bytes", seen->free_bytes}});
    }
    if (step.reserve == SpaceGuard::Reserve::kKeep) co_return;
    co_await follow_reserve(step.reserve);
  }
}

io::Task<void> Broker::follow_reserve(SpaceGuard::Reserve what) {
  cluster::Reserve& reserve = cluster_->reserve();
  const std::uint64_t held = reserve.bytes();
  const std::uint64_t wanted = space_guard_.limits().reserve;
  const Instant now = io::Shard::current().now();
  Result<void> done;
  if (what == SpaceGuard::Reserve::kRelease) {
    if (PYRALOG_PLANT("broker.keep_reserve")) co_return;
    done = co_await reserve.release();
    if (done) observe::log_warn("broker.reserve_released", {{"bytes", held}});
  } else {
    if (now < reserve_not_before_) co_return;
    done = co_await reserve.hold(wanted);
    if (done) {
      observe::log_info("broker.reserve_made", {{"bytes", wanted}});
    } else {
      reserve_not_before_ = now + kReserveRetry;
    }
  }
  if (!done) {
    observe::log_warn("broker.reserve_failed",
                      {{"data_dir", options_.data_dir}, {"reason", done.error().message}});
  }
}

io::Task<void> Broker::space_loop(ShardState& state) {
  while (!state.stopping) {
    if (co_await state.stop_wanted.wait(io::Shard::current().now() + space_again_)) break;
    co_await look_at_space(false);
  }
}

io::Task<bool> Broker::make_room() {
  co_return co_await io::on(*shards_[0], [this]() -> io::Task<bool> {
    co_await look_at_space(true);
    co_return space_guard_.limits().reserve > 0;
  });
}

void Broker::look_soon(ShardState& state) {
  if (state.looking || state.stopping) return;
  state.looking = true;
  state.background.spawn([](Broker* self, ShardState* from) -> io::Task<void> {
    (void)co_await self->make_room();
    from->looking = false;
  }(this, &state));
}

bool Broker::may_compact(const ShardState& state, std::uint64_t bytes) const {
  const SpaceStatus& space = state.space;
  return !space.refusing || space.free_bytes >= bytes + space.limits.reserve;
}

}  // namespace pyralog::broker
