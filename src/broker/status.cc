// What a broker tells of itself: of all partitions, of one, of what has been done.
#include <algorithm>
#include <span>

#include "broker/broker.h"

namespace pyralog::broker {

namespace {

constexpr std::size_t kDamageShown = 100;
constexpr std::size_t kEpochsShown = 100;

PartitionStatus status_of(const PartitionId& id, const Hosted& hosted,
                          const catalog::Catalog& catalog) {
  PartitionStatus out;
  out.id = id;
  out.name = hosted.name;
  if (hosted.failed) out.offline = hosted.failed->message;
  const catalog::Partition* known = catalog.partition(id);
  if (known != nullptr) out.lost = known->lost;
  if (const auto& replica = hosted.replica) {
    out.epoch = replica->epoch().value;
    out.log_start = replica->log_start().value;
    out.high_watermark = replica->high_watermark().value;
    out.log_end = replica->log_end().value;
    out.synced_end = replica->log().synced_end().value;
    out.bytes = replica->log().size_bytes();
    for (const auto& [name, from] : replica->holds()) out.holds.push_back({name, from.value});
    out.held_back_bytes = replica->log().held_back_bytes();
    if (replica->offline()) out.offline = replica->offline()->message;
  }
  return out;
}

PartitionDetails details_of(const PartitionId& id, const Hosted& hosted, unsigned shard,
                            const catalog::Catalog& catalog) {
  PartitionDetails out;
  out.status = status_of(id, hosted, catalog);
  out.shard = shard;
  if (const catalog::TopicPtr topic = catalog.topic(id.topic)) {
    out.durability = topic->config.durability;
  }
  if (hosted.replica == nullptr) return out;
  const log::PartitionLog& log = hosted.replica->log();
  const auto& epochs = log.epochs();
  const std::size_t first = epochs.size() - std::min(epochs.size(), kEpochsShown);
  out.epochs.assign(epochs.begin() + static_cast<std::ptrdiff_t>(first), epochs.end());
  out.producers = hosted.replica->producers().size();
  out.log = log.details();
  return out;
}

}  // namespace

io::Task<std::vector<PartitionStatus>> Broker::status() {
  std::vector<std::vector<PartitionStatus>> parts(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    for (const auto& [id, hosted] : states_[s]->partitions.hosted()) {
      parts[s].push_back(status_of(id, hosted, *states_[s]->partitions.catalog()));
    }
    co_return;
  });
  std::vector<PartitionStatus> all;
  for (auto& part : parts) std::ranges::move(part, std::back_inserter(all));
  std::ranges::sort(all, {}, &PartitionStatus::name);
  co_return all;
}

io::Task<std::optional<PartitionDetails>> Broker::partition(PartitionRef target) {
  const auto id = resolve(target);
  if (!id) co_return std::nullopt;
  const unsigned shard = ShardBroker::shard_of(*id, shards_.size());
  co_return co_await io::on(
      *shards_[shard], [this, shard, id = *id]() -> io::Task<std::optional<PartitionDetails>> {
        const ShardBroker& partitions = states_[shard]->partitions;
        const Hosted* hosted = partitions.find(id);
        if (hosted == nullptr) co_return std::nullopt;
        co_return details_of(id, *hosted, shard, *partitions.catalog());
      });
}

io::Task<log::ShardLogUse> Broker::log_use() {
  std::vector<log::ShardLogUse> parts(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    if (const auto* logs = states_[s]->partitions.logs()) parts[s] = logs->use();
    co_return;
  });
  log::ShardLogUse all;
  for (const log::ShardLogUse& part : parts) all += part;
  co_return all;
}

io::Task<BrokerTotals> Broker::totals() {
  std::vector<BrokerTotals> parts(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    if (const auto* logs = states_[s]->partitions.logs()) parts[s].log = logs->stats();
    parts[s].expired = states_[s]->groups.expired();
    parts[s].groups = states_[s]->groups.kept();
    parts[s].refused_for_space = states_[s]->refused_for_space;
    co_return;
  });
  BrokerTotals all;
  for (const BrokerTotals& part : parts) {
    all.log += part.log;
    all.expired += part.expired;
    all.groups += part.groups;
    all.refused_for_space += part.refused_for_space;
  }
  co_return all;
}

io::Task<ScrubStatus> Broker::scrub_status() {
  std::vector<ScrubStatus> parts(shards_.size());
  const Groups everybody(shards_.size(), {0});
  co_await scatter(everybody, [&](unsigned s, const std::vector<std::size_t>&) -> io::Task<void> {
    const log::Scrubber* scrubber = states_[s]->partitions.scrubber();
    if (scrubber == nullptr) co_return;
    const auto last = scrubber->last_round();
    parts[s] = {last ? last->ms : -1, scrubber->damaged_ranges(), scrubber->damage(kDamageShown)};
  });
  ScrubStatus all = parts.front();
  for (const ScrubStatus& part : std::span(parts).subspan(1)) {
    all.last_round_ms = std::min(all.last_round_ms, part.last_round_ms);
    all.damaged_ranges += part.damaged_ranges;
    all.damage.insert(all.damage.end(), part.damage.begin(), part.damage.end());
  }
  all.damage.resize(std::min(all.damage.size(), kDamageShown));
  co_return all;
}

}  // namespace pyralog::broker
