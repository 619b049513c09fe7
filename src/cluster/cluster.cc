#include "cluster/cluster.h"

#include <algorithm>

#include "base/plant.h"
#include "cluster/entries.h"
#include "observe/log.h"

namespace pyralog::cluster {

namespace {

constexpr const char* kLoneFile = "/metadata.log";
/// What the lone node's log is called while its directory becomes a cluster's.
constexpr const char* kConvertedFile = "/metadata.log.converted";
constexpr Duration kReplay = std::chrono::minutes(5);

Uuid random_uuid(io::Rng& rng) {
  Uuid id;
  rng.fill(id.bytes);
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x40);
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

// What may lie in a directory that is still free to become a node's: what a first start that was
// cut short leaves, and what file systems put there themselves.
bool is_harmless(const io::DirEntry& entry) {
  return entry.name == "lock" || entry.name == "lost+found" || entry.name.ends_with(".tmp");
}

LoneLog::Options lone_options(const Cluster::Options& options) {
  LoneLog::Options out = options.metadata;
  out.understood = options.feature_level;
  return out;
}

}  // namespace

namespace {
/// A first start that was killed may have made the directory, or one above it, without making its
/// name durable: a power loss would take it away with everything that was written since.
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

Result<void> Cluster::check_cookie(const std::string& data_dir,
                                   const catalog::Catalog& state) const {
  const std::string path = cookie_path(data_dir);
  if (state.position() == 0) {
    if (cookie_.boot_counter == 0) return {};  // the first start did not get further
    return fail(Code::kCorrupt, data_dir + "/metadata.log: empty, yet " + path +
                                    " counts earlier starts; restore the whole directory");
  }
  if (state.cluster() != cookie_.cluster) {
    return fail(Code::kFenced, path +
                                   ": names another cluster than metadata.log beside it; these "
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
    if (!PYRALOG_PLANT("cluster.unsynced_directory"))
      PYRALOG_CO_TRY(co_await sync_names(disk, dir));
    // A cluster's name is agreed on by its nodes.
    const Uuid cluster = options.join.wanted() ? Uuid{} : random_uuid(rng);
    cookie_ = Cookie{cluster, options.node, random_uuid(rng), 0, disk.boot_id()};
    PYRALOG_CO_TRY(co_await write_cookie(disk, dir, cookie_));
  } else {
    cookie_ = std::move(*found);
    if (cookie_.node != options.node) {
      co_return fail(Code::kInvalidArgument, "data directory " + dir + ": belongs to node " +
                                                 std::to_string(cookie_.node.value) + ", not " +
                                                 std::to_string(options.node.value) +
                                                 "; correct node.id");
    }
  }
  PYRALOG_CO_TRY(co_await end_conversion(disk, dir));
  PYRALOG_CO_ASSIGN(const bool has_raft, co_await disk.exists(dir + "/raft.log"));
  PYRALOG_CO_ASSIGN(bool has_lone, co_await disk.exists(dir + kLoneFile));
  const bool named = !options.join.members.empty();
  if (has_raft && has_lone) {
    co_return fail(Code::kFenced, "data directory " + dir +
                                      ": has metadata.log, a lone node's, beside raft.log, a "
                                      "cluster's; these files do not belong together");
  }
  if (has_lone && named) {
    co_return fail(Code::kInvalidArgument,
                   "data directory " + dir +
                       ": is a lone node's; start it with --peer HOST:PORT instead of --cluster, "
                       "which makes a cluster of one of it, and `pyralog cluster add` others");
  }
  if (!has_raft && !has_lone && cookie_.boot_counter > 0) {
    // What it had agreed to is gone with it: with an empty one it would vote again.
    co_return fail(Code::kCorrupt, "data directory " + dir +
                                       ": neither raft.log nor metadata.log is there, yet its "
                                       "cookie counts earlier starts; restore the whole directory, "
                                       "or start with an empty one after `pyralog cluster "
                                       "replace-disk`");
  }
  if (!has_raft && !has_lone && options.join.wanted() && !named) {
    co_return fail(Code::kInvalidArgument,
                   "data directory " + dir +
                       ": is no cluster's yet; name the nodes of the cluster with --cluster");
  }
  if (!has_raft && !has_lone && (cookie_.cluster.is_nil() != options.join.wanted())) {
    // A first start of the other kind, or of this one, ended before it had begun anything.
    cookie_.cluster = options.join.wanted() ? Uuid{} : random_uuid(rng);
    PYRALOG_CO_TRY(co_await write_cookie(disk, dir, cookie_));
  }
  if (has_lone && options.join.wanted()) {
    PYRALOG_CO_TRY(co_await convert(disk, options));
    has_lone = false;
  }
  if (has_raft || options.join.wanted()) co_return co_await join(disk, rng, options);
  PYRALOG_CO_ASSIGN(lone_, co_await LoneLog::open(disk, dir, lone_options(options)));
  co_return check_cookie(dir, *lone_->catalog());
}

io::Task<Result<void>> Cluster::end_conversion(io::Disk& disk, std::string dir) {
  PYRALOG_CO_ASSIGN(const bool aside, co_await disk.exists(dir + kConvertedFile));
  if (!aside) co_return Result<void>{};
  PYRALOG_CO_ASSIGN(const bool has_raft, co_await disk.exists(dir + "/raft.log"));
  if (has_raft) {
    PYRALOG_CO_TRY(co_await disk.remove(dir + kConvertedFile));
  } else {
    PYRALOG_CO_TRY(co_await disk.rename(dir + kConvertedFile, dir + kLoneFile));
  }
  co_return co_await disk.sync_dir(dir);
}

io::Task<Result<void>> Cluster::convert(io::Disk& disk, const Options& options) {
  const std::string& dir = options.data_dir;
  {
    // Opened as a lone node does: what a crash has torn off is cut off here as well.
    PYRALOG_CO_ASSIGN(const auto lone, co_await LoneLog::open(disk, dir, lone_options(options)));
    PYRALOG_CO_TRY(check_cookie(dir, *lone->catalog()));
    if (lone->catalog()->position() == 0) {
      co_return fail(Code::kInvalidArgument,
                     "data directory " + dir +
                         ": its first start alone has not ended; start it once without --peer");
    }
    // Once raft.log is there this is a cluster's directory, and metadata.log has to be gone: it
    // goes aside before, and comes back if a crash leaves no raft.log.
    PYRALOG_CO_TRY(co_await disk.rename(dir + kLoneFile, dir + kConvertedFile));
    PYRALOG_CO_TRY(co_await disk.sync_dir(dir));
    PYRALOG_CO_TRY(co_await Joined::found_alone(disk, dir, cookie_, *lone->catalog()));
  }
  PYRALOG_CO_TRY(co_await end_conversion(disk, dir));
  observe::log_info("cluster.converted", {{"cluster", to_string(cookie_.cluster)}});
  co_return Result<void>{};
}

io::Task<Result<void>> Cluster::join(io::Disk& disk, io::Rng& rng, const Options& options) {
  const auto give_up = options.give_up ? options.give_up : [] { return false; };
  JoinOptions join = options.join;
  join.feature_level = options.feature_level;
  PYRALOG_CO_ASSIGN(
      joined_, co_await Joined::open(disk, options.data_dir, cookie_, std::move(join), give_up));
  if (cookie_.cluster.is_nil()) {
    PYRALOG_CO_ASSIGN(
        const Uuid cluster,
        co_await joined_->named(random_uuid(rng), io::Shard::current().wall(), give_up));
    cookie_.cluster = cluster;
    PYRALOG_CO_TRY(co_await write_cookie(disk, options.data_dir, cookie_));
    co_await joined_->set_cluster(cluster);
  }
  // What its own journal says to be agreed comes first.
  const auto agreed = joined_->raft().status(kGlobalGroup).committed;
  if (!co_await joined_->raft().wait_applied(kGlobalGroup, agreed,
                                             io::Shard::current().now() + kReplay)) {
    if (joined_->raft().dead()) co_return fail(*joined_->raft().dead());
    co_return fail(Code::kTimedOut, "data directory " + options.data_dir +
                                        ": what raft.log says to be agreed could not be replayed "
                                        "in time; look at the log");
  }
  if (catalog()->position() == 0) co_return Result<void>{};
  co_return check_cookie(options.data_dir, *catalog());
}

io::Task<Result<std::unique_ptr<Cluster>>> Cluster::open(io::Disk& disk, io::Rng& rng,
                                                         Options options) {
  std::unique_ptr<Cluster> self(new Cluster);
  self->disk_ = &disk;
  self->data_dir_ = options.data_dir;
  PYRALOG_CO_TRY(co_await self->take_directory(disk, options.data_dir));
  co_await self->make_room(disk, options.data_dir);
  auto opened = co_await self->form_or_rejoin(disk, rng, options);
  if (opened) opened = co_await self->register_start(options);
  if (!opened) {
    co_await self->stop();
    co_return fail(std::move(opened.error()));
  }
  co_return self;
}

io::Task<Result<void>> Cluster::register_start(const Options& options) {
  const WallMs now = io::Shard::current().wall();
  if (lone_ != nullptr && catalog()->position() == 0) {
    PYRALOG_CO_TRY(co_await metadata().propose([&](const catalog::Catalog&) {
      catalog::ClusterCreated created;
      created.cluster = cookie_.cluster;
      created.created = now;
      return Result<std::vector<catalog::Entry>>({created});
    }));
  }
  // The counter goes up on disk before it goes into the log: a cookie may run ahead of what was
  // registered, never behind.
  new_os_boot_ = cookie_.boot_counter > 0 && cookie_.os_boot_id != disk_->boot_id();
  ++cookie_.boot_counter;
  if (PYRALOG_PLANT("cluster.early_boot_id")) cookie_.os_boot_id = disk_->boot_id();
  PYRALOG_CO_TRY(co_await write_cookie(*disk_, options.data_dir, cookie_));
  const auto registration = [&] {
    catalog::NodeRegistered node;
    node.node = cookie_.node;
    node.incarnation = cookie_.incarnation;
    node.boot_counter = cookie_.boot_counter;
    node.host = options.host;
    node.port = options.port;
    node.rack = options.rack;
    return node;
  };
  const auto set_role = [&](const catalog::Node* known, std::vector<catalog::Entry>& entries) {
    const auto before = known != nullptr ? known->role : catalog::NodeRole::kAll;
    if (before != options.role)
      entries.emplace_back(catalog::NodeRoleSet{cookie_.node, options.role});
  };
  if (joined_ == nullptr) {
    PYRALOG_CO_TRY(co_await lone_->propose(
        [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
          std::vector<catalog::Entry> entries{registration()};
          set_role(state.node(cookie_.node), entries);
          return entries;
        }));
    co_return Result<void>{};
  }
  const auto plan = [&](bool may_stand,
                        const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
    std::vector<catalog::Entry> entries;
    // Only after a try whose end nobody could tell may it be ours that stands: else it is a twin's,
    // of a copied directory, and the catalogue refuses this one.
    const catalog::Node* known = state.node(cookie_.node);
    const bool stands = may_stand && known != nullptr &&
                        known->incarnation == cookie_.incarnation &&
                        known->boot_counter == cookie_.boot_counter;
    if (!stands) entries.emplace_back(registration());
    const io::Address& peer = joined_->advertised();
    entries.emplace_back(catalog::PeerRegistered{cookie_.node, cookie_.incarnation, peer.host,
                                                 peer.port, options.feature_level});
    set_role(known, entries);
    return entries;
  };
  PYRALOG_CO_TRY(
      co_await joined_->insist(plan, options.give_up ? options.give_up : [] { return false; }));
  co_return Result<void>{};
}

io::Task<void> Cluster::stop() {
  if (joined_ != nullptr) co_await joined_->stop();
}

io::Task<Result<void>> Cluster::losses_recorded() {
  if (cookie_.os_boot_id == disk_->boot_id()) co_return Result<void>{};
  cookie_.os_boot_id = disk_->boot_id();
  co_return co_await write_cookie(*disk_, data_dir_, cookie_);
}

catalog::EpochActivation Cluster::own_epoch(const PartitionId& id, std::size_t replicas) const {
  catalog::EpochActivation a;
  a.partition = id;
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

namespace {
// The first epoch of a partition that has just been made: its preferred replica leads.
Result<catalog::EpochActivation> first_epoch(const catalog::Catalog& state, const PartitionId& id,
                                             const std::vector<NodeId>& nodes) {
  catalog::EpochActivation a;
  a.partition = id;
  a.epoch = Epoch(1);
  a.leader = nodes.front();
  for (const NodeId each : nodes) {
    const catalog::Node* node = state.node(each);
    if (node == nullptr)
      return fail(Code::kNotFound, "node " + std::to_string(each.value) + ": is not registered");
    a.replicas.push_back({each, node->incarnation});
  }
  a.write_quorum =
      catalog::write_quorum(nodes.size(), state.topic(id.topic)->config.min_insync_replicas);
  return a;
}

Result<std::vector<catalog::Entry>> with_epochs(const catalog::Entry& made, const TopicId& topic,
                                                std::int32_t first,
                                                const std::vector<std::vector<NodeId>>& partitions,
                                                const catalog::Catalog& before) {
  std::vector<catalog::Entry> entries{made};
  PYRALOG_ASSIGN(const catalog::Catalog state, with(before, entries));
  std::vector<catalog::EpochActivation> activations;
  for (std::size_t i = 0; i < partitions.size(); ++i) {
    const PartitionId id{topic, PartitionIndex(first + static_cast<std::int32_t>(i))};
    PYRALOG_ASSIGN(auto activation, first_epoch(state, id, partitions[i]));
    activations.push_back(std::move(activation));
  }
  append_activations(entries, std::move(activations));
  return entries;
}
}  // namespace

Result<std::vector<catalog::Entry>> Cluster::with_first_epochs(const catalog::TopicCreated& created,
                                                               const catalog::Catalog& state) {
  return with_epochs(created, created.id, 0, created.partitions, state);
}

Result<std::vector<catalog::Entry>> Cluster::with_first_epochs(
    const catalog::PartitionsAdded& added, const catalog::Catalog& state) {
  return with_epochs(added, added.id, added.first.value, added.partitions, state);
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
  co_return co_await metadata().propose(
      [this, now, led = std::move(partitions)](
          const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        std::vector<catalog::Entry> entries;
        std::vector<catalog::EpochActivation> activations;
        for (const LedPartition& each : led) {
          const catalog::Partition* partition = state.partition(each.id);
          if (partition == nullptr) continue;  // deleted meanwhile
          catalog::EpochActivation a = own_epoch(each.id, partition->replicas.size());
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
  PYRALOG_CO_TRY(co_await metadata().propose(
      [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        start = state.next_producer_id();
        return std::vector<catalog::Entry>{catalog::ProducerIdBlock{start, count, cookie_.node}};
      }));
  co_return start;
}

}  // namespace pyralog::cluster
