#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "cluster/cookie.h"
#include "cluster/joined.h"
#include "cluster/lone_log.h"
#include "cluster/metadata_log.h"
#include "cluster/reserve.h"
#include "io/disk.h"
#include "io/rng.h"
#include "io/shard.h"

namespace pyralog::cluster {

/// A partition that this node is about to lead, as its log was recovered.
struct LedPartition {
  PartitionId id;
  Offset end;  ///< where the new epoch begins
  Offset log_start;
  std::string lost_reason;                         ///< not empty: records may be missing; recorded
  std::optional<Offset> lost_from = std::nullopt;  ///< from here to `end` and on; none = `end`
};

/// A node's membership, alone or in a cluster: its data directory, its identity and its metadata
/// log. Lives on shard 0.
class Cluster {
 public:
  struct Options {
    std::string data_dir = "./data";
    NodeId node{1};
    std::string host = "127.0.0.1";  ///< what clients are told
    std::int32_t port = 9092;
    std::string rack;
    catalog::NodeRole role =
        catalog::NodeRole::kAll;  ///< an obelisk's start is refused while it holds partitions
    std::uint16_t feature_level = catalog::kFeatureLevel;  ///< that this node understands
    LoneLog::Options metadata;
    JoinOptions join;
    std::function<bool()>
        give_up;  ///< a start that waits for others ends once it says so; may be empty
  };

  /// Takes the directory: its lock (kAlreadyExists names the directory if another process has it),
  /// its cookie and its metadata log; then counts this start and registers the node. An empty
  /// directory becomes a new cluster, or, with `join.members`, a part of one: then it waits until a
  /// majority agrees that this node has started. What a directory is, it stays. On a disk that is
  /// all but full the reserve goes first, so that a start can be counted. Refuses, touching
  /// nothing, a directory whose cookie is missing, unknown or older than what was registered, and a
  /// newer format.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Cluster>>> open(io::Disk& disk, io::Rng& rng,
                                                                       Options options);

  [[nodiscard]] const CatalogPtr& catalog() const { return metadata().catalog(); }
  [[nodiscard]] MetadataLog& metadata() {
    return joined_ ? static_cast<MetadataLog&>(joined_->log()) : *lone_;
  }
  [[nodiscard]] const MetadataLog& metadata() const {
    return joined_ ? static_cast<const MetadataLog&>(std::as_const(*joined_).log()) : *lone_;
  }
  /// Null if the node is alone.
  [[nodiscard]] Joined* joined() { return joined_.get(); }
  /// Leaves the others; what is durable stays. A lone node has nothing to leave.
  [[nodiscard]] io::Task<void> stop();
  [[nodiscard]] Reserve& reserve() { return *reserve_; }
  [[nodiscard]] const Cookie& cookie() const { return cookie_; }
  [[nodiscard]] NodeId node() const { return cookie_.node; }
  /// True if the operating system has started anew since a start of this node last said
  /// `losses_recorded`: what was not synced may be gone.
  [[nodiscard]] bool new_os_boot() const { return new_os_boot_; }
  /// Takes note, durably, of this start of the operating system. Once what it may have cost is
  /// recorded: a start that is cut short before must find it again.
  [[nodiscard]] io::Task<Result<void>> losses_recorded();

  /// Activates the next epoch of each partition, led by this node. One entry, or a few for very
  /// many.
  [[nodiscard]] io::Task<Result<CatalogPtr>> activate(std::vector<LedPartition> partitions,
                                                      WallMs now);

  /// `created` together with the first epoch of each of its partitions.
  [[nodiscard]] static Result<std::vector<catalog::Entry>> with_first_epochs(
      const catalog::TopicCreated& created, const catalog::Catalog& state);
  [[nodiscard]] static Result<std::vector<catalog::Entry>> with_first_epochs(
      const catalog::PartitionsAdded& added, const catalog::Catalog& state);

  /// `count` producer ids that nobody else gets; the first is returned.
  [[nodiscard]] io::Task<Result<std::int64_t>> reserve_producer_ids(std::int32_t count);

 private:
  [[nodiscard]] catalog::EpochActivation own_epoch(const PartitionId& id,
                                                   std::size_t replicas) const;
  [[nodiscard]] io::Task<Result<void>> take_directory(io::Disk& disk, const std::string& dir);
  [[nodiscard]] io::Task<void> make_room(io::Disk& disk, const std::string& dir);
  [[nodiscard]] io::Task<Result<void>> form_or_rejoin(io::Disk& disk, io::Rng& rng,
                                                      const Options& options);
  [[nodiscard]] Result<void> check_cookie(const std::string& data_dir,
                                          const catalog::Catalog& state) const;
  /// A lone node's directory becomes that of a cluster of one.
  [[nodiscard]] io::Task<Result<void>> convert(io::Disk& disk, const Options& options);
  /// What a conversion that was cut short has left: the lone node, or the cluster.
  [[nodiscard]] io::Task<Result<void>> end_conversion(io::Disk& disk, std::string dir);
  [[nodiscard]] io::Task<Result<void>> join(io::Disk& disk, io::Rng& rng, const Options& options);
  [[nodiscard]] io::Task<Result<void>> register_start(const Options& options);

  io::Disk* disk_ = nullptr;
  std::string data_dir_;
  std::unique_ptr<io::FileLock> lock_;
  std::optional<Reserve> reserve_;
  Cookie cookie_;
  bool new_os_boot_ = false;
  std::unique_ptr<LoneLog> lone_;   ///< either this
  std::unique_ptr<Joined> joined_;  ///< or that
};

}  // namespace pyralog::cluster
