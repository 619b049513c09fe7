// One of several replicas whose log is damaged: it gives way, and gets another log from the others.
#include <optional>
#include <string_view>
#include <utility>

#include "base/plant.h"
#include "broker/shard_broker.h"
#include "log/segment.h"
#include "log/set_aside.h"
#include "observe/log.h"

namespace pyralog::broker {

namespace {

std::optional<PartitionId> partition_set_aside(std::string_view name) {
  const auto path = log::path_of_damaged(name);
  if (!path) return std::nullopt;
  auto id = parse_partition_id(*path);
  return id ? std::optional(*id) : std::nullopt;
}

}  // namespace

void ShardBroker::give_up_damaged() {
  if (seats_ == nullptr || PYRALOG_PLANT("broker.go_on_with_damage")) return;
  if (logs_->stats().corrupt_ranges == 0 && scrubber_->damaged_ranges() == 0) return;
  const Instant now = io::Shard::current().now();
  for (const auto& [id, hosted] : hosted_) {
    if (hosted.replica == nullptr || hosted.replica->offline()) continue;
    // With too few others the sound part of it is worth more than nothing.
    if (auto damage = hosted.replica->log().damage();
        damage && seats_->can_be_spared(id, *catalog_, now)) {
      hosted.replica->participant()->give_up(Error{Code::kCorrupt, std::move(*damage), 0});
    }
  }
}

io::Task<void> ShardBroker::mend_damaged() {
  if (seats_ == nullptr) co_return;
  const Instant now = io::Shard::current().now();
  std::vector<PartitionId> due;
  for (const auto& [id, hosted] : hosted_) {
    if (hosted.replica != nullptr || !hosted.failed || hosted.failed->code != Code::kCorrupt)
      continue;
    const auto [at, fresh] = mending_.try_emplace(id, Mending{io::Backoff(options_.reopen), now});
    if (at->second.due <= now && seats_->is_led_elsewhere(id, *catalog_)) due.push_back(id);
  }
  for (const PartitionId& id : due) {
    Mending& mending = mending_.at(id);
    io::Shard& shard = io::Shard::current();
    mending.due = shard.now() + mending.pause.next_delay(shard.rng());
    const std::string name = hosted_.at(id).name;
    if (auto made = co_await make_anew(id); !made) {
      observe::log_warn("broker.damaged_partition_stays",
                        {{"partition", name}, {"reason", made.error().message}});
    }
  }
  if (!set_aside_.empty()) co_await remove_set_aside();
}

io::Task<Result<void>> ShardBroker::make_anew(PartitionId id) {
  const catalog::TopicPtr topic = catalog_->topic(id.topic);
  if (topic == nullptr) co_return Result<void>{};
  const std::string why = hosted_.at(id).failed->message;
  const Epoch lossy = seats_->promised(id).lossy;
  // Before anything goes: from now on it counts for nothing that was acknowledged.
  if (!PYRALOG_PLANT("broker.mend_without_doubt")) PYRALOG_CO_TRY(co_await seats_->doubt(id, true));
  if (snapshots_.erase(id) > 0) PYRALOG_CO_TRY(co_await store_snapshots());
  PYRALOG_CO_ASSIGN(std::string kept, co_await logs_->set_aside(id));
  set_aside_[id].push_back({kept, lossy});
  co_await open_partition(topic, id.partition);
  observe::log_warn("broker.damaged_partition_made_anew",
                    {{"partition", hosted_.at(id).name}, {"reason", why}, {"kept", kept}});
  co_return Result<void>{};
}

io::Task<void> ShardBroker::find_set_aside() {
  if (seats_ == nullptr) co_return;
  const auto entries = co_await io::Shard::current().disk().list(options_.data_dir);
  if (!entries) co_return;
  for (const auto& entry : *entries) {
    const auto id = entry.is_directory ? partition_set_aside(entry.name) : std::nullopt;
    if (id && mine(*id)) set_aside_[*id].push_back({options_.data_dir + "/" + entry.name, Epoch(0)});
  }
}

io::Task<void> ShardBroker::remove_set_aside() {
  const Instant now = io::Shard::current().now();
  std::vector<PartitionId> whole;
  for (const auto& [id, paths] : set_aside_) {
    if (!hosted_.contains(id) || seats_->has_all(id, now)) whole.push_back(id);
  }
  for (const PartitionId& id : whole) {
    for (SetAside& copy : std::exchange(set_aside_[id], {})) {
      if (!co_await is_needless(id, copy)) {
        if (!std::exchange(copy.told, true)) {
          observe::log_warn("broker.damaged_copy_kept", {{"path", copy.path}});
        }
      } else if (co_await io::Shard::current().disk().remove_tree(copy.path)) {
        observe::log_info("broker.damaged_copy_removed", {{"path", copy.path}});
        continue;
      }
      set_aside_[id].push_back(std::move(copy));
    }
    if (set_aside_[id].empty()) set_aside_.erase(id);
  }
}

/// Whether all that was acknowledged and lies in what was set aside is in the log that is there now:
/// no epoch has begun without some of what was committed since, and it goes as far, as far as the
/// names of files tell.
io::Task<bool> ShardBroker::is_needless(PartitionId id, SetAside copy) const {
  if (PYRALOG_PLANT("broker.remove_what_may_be_needed")) co_return true;
  const auto files = co_await io::Shard::current().disk().list(copy.path);
  if (!files) co_return false;
  Offset last;
  for (const auto& file : *files) {
    if (const auto base = log::parse_segment_name(file.name)) last = std::max(last, *base);
  }
  const auto hosted = hosted_.find(id);
  if (hosted == hosted_.end()) co_return true;
  replica::Replica* replica = hosted->second.replica.get();
  if (replica == nullptr || replica->participant() == nullptr) co_return false;
  const Epoch lossy = replica->participant()->following().promise().lossy;
  co_return lossy <= copy.lossy && replica->log().end_offset() >= last;
}

}  // namespace pyralog::broker
