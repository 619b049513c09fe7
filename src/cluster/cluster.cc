#include "cluster/cluster.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::cluster {

namespace {

Uuid random_uuid(io::Rng& rng) {
  Uuid id;
  rng.fill(id.bytes);
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x40);
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

// What may lie in a directory that is still free to become a node's: what a first start that was cut
// short leaves, and what file systems put there themselves.
bool is_harmless(const io::DirEntry& entry) {
  return entry.name == "lock" || entry.name == "lost+found" || entry.name.ends_with(".tmp");
}

}  // namespace

namespace {
/// A first start that was killed may have made the directory, or one above it, without making its name
/// durable: a power loss would take it away with everything that was written since.
io::Task<Result<void>> sync_names(io::Disk& disk, std::string dir) {
  bool nearest = true;
  while (true) {
    const std::string above = io::parent_dir(dir);
    auto synced = co_await disk.sync_dir(above);
    // Further up we may not be allowed to look, and nothing there was made by us.
    if (!synced && nearest) co_return synced;
    if (above == dir || above == "." || above == "/") co_return Result<void>{};
    nearest = false;
    dir = above;
  }
}
}  // namespace

io::Task<Result<void>> Cluster::take_directory(io::Disk& disk, const std::string& dir) {
  PYRALOG_CO_TRY(co_await disk.make_dirs(dir));
  auto lock = co_await disk.lock(dir + "/lock");
  if (!lock && lock.error().code == Code::kAlreadyExists) {
    co_return fail(Code::kAlreadyExists,
                   "data directory " + dir +
                       ": another pyralog is running on it; stop that one or choose another "
                       "--data-dir");
  }
  if (!lock) co_return fail(std::move(lock.error()));
  lock_ = std::move(*lock);
  co_return Result<void>{};
}

io::Task<void> Cluster::make_room(io::Disk& disk, const std::string& dir) {
  reserve_.emplace(disk, dir);
  co_await reserve_->open();
  if (reserve_->bytes() == 0 || PYRALOG_PLANT("cluster.start_needs_space")) co_return;
  const auto space = co_await disk.space(dir);
  if (!space || space->free_bytes >= reserve_->bytes()) co_return;
  // If it cannot go, what is written next says why.
  (void)co_await reserve_->release();
}

Result<void> Cluster::check_cookie(const std::string& data_dir) const {
  const catalog::Catalog& state = *metadata_->catalog();
  const std::string path = cookie_path(data_dir);
  if (state.position() == 0) {
    if (cookie_.boot_counter == 0) return {};  // the first start did not get further
    return fail(Code::kCorrupt, data_dir + "/metadata.log: empty, yet " + path +
                                    " counts earlier starts; restore the whole directory");
  }
  if (state.cluster() != cookie_.cluster) {
    return fail(Code::kFenced, path + ": names another cluster than metadata.log beside it; these "
                                      "files do not belong together");
  }
  const catalog::Node* node = state.node(cookie_.node);
  if (node == nullptr) return {};
  if (node->incarnation != cookie_.incarnation) {
    return fail(Code::kFenced, path + ": this disk is unknown to the cluster as node " +
                                   std::to_string(cookie_.node.value) +
                                   "'s; it needs `cluster replace-disk`");
  }
  if (cookie_.boot_counter < node->boot_counter && !PYRALOG_PLANT("cluster.old_cookie")) {
    return fail(Code::kFenced, path + ": older than what was registered (start " +
                                   std::to_string(cookie_.boot_counter) + " of " +
                                   std::to_string(node->boot_counter) +
                                   "); was part of the directory restored from a copy?");
  }
  return {};
}

io::Task<Result<void>> Cluster::form_or_rejoin(io::Disk& disk, io::Rng& rng,
                                               const Options& options) {
  const std::string& dir = options.data_dir;
  PYRALOG_CO_ASSIGN(auto found, co_await read_cookie(disk, dir));
  const bool forming = !found.has_value();
  if (forming) {
    PYRALOG_CO_ASSIGN(const auto entries, co_await disk.list(dir));
    const auto other = std::ranges::find_if_not(entries, is_harmless);
    if (other != entries.end()) {
      co_return fail(Code::kFenced, "data directory " + dir + ": holds " + other->name +
                                        " but no cookie; choose an empty directory, or put the "
                                        "cookie back");
    }
    if (!PYRALOG_PLANT("cluster.unsynced_directory")) PYRALOG_CO_TRY(co_await sync_names(disk, dir));
    cookie_ = Cookie{random_uuid(rng), options.node, random_uuid(rng), 0, disk.boot_id()};
    PYRALOG_CO_TRY(co_await write_cookie(disk, dir, cookie_));
  } else {
    cookie_ = std::move(*found);
    if (cookie_.node != options.node) {
      co_return fail(Code::kInvalidArgument,
                     "data directory " + dir + ": belongs to node " +
                         std::to_string(cookie_.node.value) + ", not " +
                         std::to_string(options.node.value) + "; correct node.id");
    }
  }
  PYRALOG_CO_ASSIGN(metadata_, co_await LoneLog::open(disk, dir, options.metadata));
  PYRALOG_CO_TRY(check_cookie(dir));
  co_return Result<void>{};
}

io::Task<Result<std::unique_ptr<Cluster>>> Cluster::open(io::Disk& disk, io::Rng& rng,
                                                         Options options) {
  std::unique_ptr<Cluster> self(new Cluster);
  self->disk_ = &disk;
  self->data_dir_ = options.data_dir;
  PYRALOG_CO_TRY(co_await self->take_directory(disk, options.data_dir));
  co_await self->make_room(disk, options.data_dir);
  PYRALOG_CO_TRY(co_await self->form_or_rejoin(disk, rng, options));
  Cookie& cookie = self->cookie_;
  const WallMs now = io::Shard::current().wall();
  if (self->catalog()->position() == 0) {
    PYRALOG_CO_TRY(co_await self->metadata_->propose([&](const catalog::Catalog&) {
      catalog::ClusterCreated created;
      created.cluster = cookie.cluster;
      created.created = now;
      return Result<std::vector<catalog::Entry>>({created});
    }));
  }
  // The counter goes up on disk before it goes into the log: a cookie may run ahead of what was
  // registered, never behind.
  self->new_os_boot_ = cookie.boot_counter > 0 && cookie.os_boot_id != disk.boot_id();
  ++cookie.boot_counter;
  if (PYRALOG_PLANT("cluster.early_boot_id")) cookie.os_boot_id = disk.boot_id();
  PYRALOG_CO_TRY(co_await write_cookie(disk, options.data_dir, cookie));
  PYRALOG_CO_TRY(co_await self->metadata_->propose([&](const catalog::Catalog&) {
    catalog::NodeRegistered node;
    node.node = cookie.node;
    node.incarnation = cookie.incarnation;
    node.boot_counter = cookie.boot_counter;
    node.host = options.host;
    node.port = options.port;
    return Result<std::vector<catalog::Entry>>({node});
  }));
  co_return self;
}

io::Task<Result<void>> Cluster::losses_recorded() {
  if (cookie_.os_boot_id == disk_->boot_id()) co_return Result<void>{};
  cookie_.os_boot_id = disk_->boot_id();
  co_return co_await write_cookie(*disk_, data_dir_, cookie_);
}

catalog::EpochActivation Cluster::first_epoch(const TopicId& topic, std::int32_t index,
                                              std::size_t replicas) const {
  catalog::EpochActivation a;
  a.partition = {topic, PartitionIndex(index)};
  a.epoch = Epoch(1);
  a.leader = cookie_.node;
  a.replicas = {{cookie_.node, cookie_.incarnation}};
  a.write_quorum = catalog::write_quorum(replicas, 1);
  return a;
}

namespace {
// Splits activations so that no entry is over the catalogue's bound.
void append_activations(std::vector<catalog::Entry>& entries,
                        std::vector<catalog::EpochActivation> activations) {
  for (std::size_t i = 0; i < activations.size(); i += catalog::kMaxActivationsPerEntry) {
    const auto from = activations.begin() + static_cast<std::ptrdiff_t>(i);
    const auto count = std::min(catalog::kMaxActivationsPerEntry, activations.size() - i);
    entries.emplace_back(
        catalog::EpochsActivated{{from, from + static_cast<std::ptrdiff_t>(count)}});
  }
}
}  // namespace

std::vector<catalog::Entry> Cluster::with_first_epochs(const catalog::TopicCreated& created) const {
  std::vector<catalog::Entry> entries{created};
  std::vector<catalog::EpochActivation> activations;
  for (std::size_t i = 0; i < created.partitions.size(); ++i) {
    activations.push_back(
        first_epoch(created.id, static_cast<std::int32_t>(i), created.partitions[i].size()));
  }
  append_activations(entries, std::move(activations));
  return entries;
}

std::vector<catalog::Entry> Cluster::with_first_epochs(const catalog::PartitionsAdded& added) const {
  std::vector<catalog::Entry> entries{added};
  std::vector<catalog::EpochActivation> activations;
  for (std::size_t i = 0; i < added.partitions.size(); ++i) {
    activations.push_back(first_epoch(added.id, added.first.value + static_cast<std::int32_t>(i),
                                      added.partitions[i].size()));
  }
  append_activations(entries, std::move(activations));
  return entries;
}

namespace {
// What may be missing of a log whose last epoch began at `known`: nothing below that may, unless
// the log was cut.
std::optional<catalog::LostRange> lost_range(const LedPartition& led, Offset known, WallMs now) {
  std::string reason = led.lost_reason;
  if (led.end < known && reason.empty()) {
    reason = "the log was found cut below where its last epoch began";
  }
  if (reason.empty()) return std::nullopt;
  return catalog::LostRange{led.id, led.lost_from.value_or(led.end), std::max(led.end, known),
                            std::move(reason), now};
}
}  // namespace

io::Task<Result<CatalogPtr>> Cluster::activate(std::vector<LedPartition> partitions, WallMs now) {
  co_return co_await metadata_->propose(
      [this, now, led = std::move(partitions)](
          const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        std::vector<catalog::Entry> entries;
        std::vector<catalog::EpochActivation> activations;
        for (const LedPartition& each : led) {
          const catalog::Partition* partition = state.partition(each.id);
          if (partition == nullptr) continue;  // deleted meanwhile
          catalog::EpochActivation a =
              first_epoch(each.id.topic, each.id.partition.value, partition->replicas.size());
          const std::uint32_t before =
              std::max(partition->highest_proposed.value,
                       partition->current ? partition->current->epoch.value : 0u);
          if (before >= 0x7fffffffu) {
            return fail(Code::kExhausted, "partition " + to_string(each.id) +
                                              ": has used up its 2³¹−1 leader epochs");
          }
          a.epoch = Epoch(before + 1);
          a.start = each.end;
          a.log_start = each.log_start;
          // Every start recovers what there is: the greatest end of the only replica.
          const Offset known = partition->current ? partition->current->start : Offset(0);
          a.unclean = each.end < known;
          activations.push_back(std::move(a));
          if (auto lost = lost_range(each, known, now)) entries.emplace_back(std::move(*lost));
        }
        append_activations(entries, std::move(activations));
        return entries;
      });
}

io::Task<Result<std::int64_t>> Cluster::reserve_producer_ids(std::int32_t count) {
  std::int64_t start = 0;
  PYRALOG_CO_TRY(co_await metadata_->propose(
      [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        start = state.next_producer_id();
        return std::vector<catalog::Entry>{catalog::ProducerIdBlock{start, count, cookie_.node}};
      }));
  co_return start;
}

}  // namespace pyralog::cluster
