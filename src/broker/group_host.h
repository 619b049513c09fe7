#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "base/result.h"
#include "broker/options.h"
#include "catalog/catalog.h"
#include "group/group_table.h"
#include "io/net.h"
#include "io/shard.h"
#include "replica/replica.h"

namespace pyralog::broker {

/// Coordinates the groups of one partition of __consumer_offsets: feeds the pure GroupTable, appends
/// its records to the partition, answers when they are committed. Lives on the partition's shard.
class GroupHost {
 public:
  /// Called when its records find no space; true = they may be tried once more.
  using MakeRoom = std::function<io::Task<bool>()>;
  /// `tally` is what all coordinators of the shard keep together.
  GroupHost(const Options& options, std::shared_ptr<replica::Replica> replica, MakeRoom make_room,
            std::shared_ptr<group::Tally> tally);
  GroupHost(const GroupHost&) = delete;
  GroupHost& operator=(const GroupHost&) = delete;

  /// Replays the partition in the background; until it is through everything answers
  /// COORDINATOR_LOAD_IN_PROGRESS.
  /// `existing` is what exists now: offsets of other topics are of such as were deleted before their
  /// offsets were, and go.
  void load(std::shared_ptr<const catalog::Catalog> existing);
  /// Hands a request to the table and waits for its answer.
  [[nodiscard]] io::Task<group::Response> ask(group::Input request);
  /// Offsets of topics that are gone go, too; while it loads, as soon as it has.
  void forget(const std::vector<std::string>& topics);
  /// Waits until it has loaded (or never will) and what it was about to store by now is durable or
  /// has failed; or until the deadline.
  [[nodiscard]] io::Task<void> settled(Instant deadline);
  /// Waits like `settled`. False if offsets of an earlier topic of this name could not be removed
  /// for good, though it was tried once more, or may be among what could not be loaded.
  [[nodiscard]] io::Task<bool> is_rid_of(std::string topic, Instant deadline);
  /// Why it is not rid of them, and what can be done.
  [[nodiscard]] std::string obstacle() const;
  /// Lets go what retention does not keep at `now`, which must not run ahead of time, a bounded
  /// number of tombstones at a time; nothing while it loads. Returns what has gone. What cannot be
  /// stored stays until the next call.
  [[nodiscard]] io::Task<group::Expired> expire(WallMs now);
  [[nodiscard]] const group::GroupTable& table() const { return table_; }
  /// Whether the partition is led in the epoch in which it was loaded.
  [[nodiscard]] bool is_current() const {
    return replica_->epoch() == epoch_;
  }
  /// In which it was loaded.
  [[nodiscard]] Epoch epoch() const { return epoch_; }
  [[nodiscard]] const std::string& partition_name() const { return replica_->name(); }
  /// Answers everybody who waits and ends; join before destroying.
  [[nodiscard]] io::Task<void> stop();

 private:
  struct Waiting {
    std::optional<group::Response> response;
    io::WaitList done;
  };
  void feed(const group::Input& input);
  void carry_out(group::Effects effects, const std::vector<std::string>& forgotten = {});
  io::Task<void> replay(std::shared_ptr<const catalog::Catalog> existing);
  io::Task<void> replay_all(std::shared_ptr<const catalog::Catalog> existing);
  io::Task<Result<void>> replay_pieces(const std::vector<io::Piece>& pieces);
  [[nodiscard]] Result<void> replay_batches(ByteView bytes);
  io::Task<void> append(group::Append append, std::vector<std::string> forgotten);
  io::Task<KafkaError> append_records(const group::Append& append);
  void set_timer(Instant at);
  [[nodiscard]] static group::Now now();

  const Options& options_;
  std::shared_ptr<replica::Replica> replica_;
  MakeRoom make_room_;
  Epoch epoch_;  ///< in which it speaks: another leader may have stored more meanwhile
  group::GroupTable table_;
  group::Token next_token_ = 1;
  std::map<group::Token, std::shared_ptr<Waiting>> waiting_;
  std::optional<io::Shard::TimerId> timer_;
  Instant timer_at_ = Instant::never();
  bool stopped_ = false;
  bool loading_ = false;
  bool damaged_ = false;             ///< it will not load before the partition is mended
  std::set<std::uint64_t> storing_;  ///< appends under way, numbered as they began
  std::uint64_t last_storing_ = 0;
  io::WaitList progress_;            ///< of loading_ and storing_
  group::Expired expired_;           ///< so far
  std::set<std::string> gone_;       ///< topics that were deleted while it was loading
  /// Topic that is gone → what could not be written about its offsets.
  std::multimap<std::string, std::shared_ptr<const group::Append>> owed_;
  io::TaskGroup tasks_;
};

/// A shard's coordinators.
class GroupHosts {
 public:
  using MakeRoom = GroupHost::MakeRoom;
  /// `believed_now` is the shard's time that offsets expire by: RetentionClock's.
  GroupHosts(const Options& options, MakeRoom make_room, std::function<WallMs()> believed_now)
      : options_(options),
        make_room_(std::move(make_room)),
        believed_now_(std::move(believed_now)) {}
  void add(const PartitionId& id, std::shared_ptr<replica::Replica> replica,
           std::shared_ptr<const catalog::Catalog> existing);
  [[nodiscard]] io::Task<void> remove(PartitionId id);
  [[nodiscard]] std::shared_ptr<GroupHost> find(const PartitionId& id) const;
  /// Waits until all are settled, or the deadline.
  [[nodiscard]] io::Task<void> settled(Instant deadline);
  /// Why a partition is not rid of the offsets of `topic`, if there is one that is not.
  [[nodiscard]] io::Task<std::optional<std::string>> obstacle_to(std::string topic,
                                                                 Instant deadline);
  /// A round of expiry over all; ends early once `stop` has been called.
  [[nodiscard]] io::Task<void> expire();
  /// What has expired so far, also of partitions that are gone.
  [[nodiscard]] const group::Expired& expired() const { return expired_; }
  /// What all their groups keep in memory now.
  [[nodiscard]] const group::Kept& kept() const { return tally_->kept(); }
  [[nodiscard]] const std::unordered_map<PartitionId, std::shared_ptr<GroupHost>>& all() const {
    return hosts_;
  }
  [[nodiscard]] io::Task<void> stop();

 private:
  const Options& options_;
  MakeRoom make_room_;
  std::shared_ptr<group::Tally> tally_ = std::make_shared<group::Tally>();
  std::unordered_map<PartitionId, std::shared_ptr<GroupHost>> hosts_;
  std::function<WallMs()> believed_now_;
  group::Expired expired_;
};

/// What a call on a GroupHost that returns Task<T> yields: T.
template <typename F>
struct GroupCallResult {
  template <typename T>
  static T value(io::Task<T>*);
  using type = decltype(value(static_cast<std::invoke_result_t<F, GroupHost&>*>(nullptr)));
};

}  // namespace pyralog::broker
