#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "group/group.h"
#include "group/messages.h"
#include "group/options.h"
#include "group/records.h"

namespace pyralog::group {

/// The consumer groups of one partition of __consumer_offsets. Pure; lives on the shard that leads
/// that partition, made anew at each takeover, and shares a Tally with the other tables there:
///
///   GroupTable table(options, tally);                   // loading: everything answers 14
///   for (record : partition) table.load(key, value);
///   effects = table.loaded(now);                        // sessions start afresh
///   effects = table.step(JoinRequest{…}, now);          // and so on
///
/// After each call the caller appends, replies and sets its timer as the effects say. Whoever is
/// still waiting when leadership goes is told by `unload`.
class GroupTable {
 public:
  /// `tally` counts what its groups keep together with those of other tables, and is what the bounds
  /// on all groups go by.
  explicit GroupTable(Options options,
                      std::shared_ptr<Tally> tally = std::make_shared<Tally>());
  ~GroupTable();
  GroupTable(GroupTable&&) noexcept;
  GroupTable& operator=(GroupTable&&) noexcept;

  /// One committed record, in log order, before `loaded`. kUnsupported for a record of a newer
  /// version (skip it and count it), kCorrupt for one that breaks its schema; neither changes
  /// anything.
  [[nodiscard]] Result<void> load(ByteView key, std::optional<ByteView> value);
  [[nodiscard]] Effects loaded(const Now& now);
  [[nodiscard]] bool is_loaded() const { return loaded_; }

  [[nodiscard]] Effects step(const Input& input, const Now& now);

  /// One step of a round of expiry: appends tombstones, as many as `Options` allow, and moves
  /// `round` on. Feed their Appended back before the next step; nothing is gone before. At a
  /// failure end the round: the next one finds it all again. Over at once while loading.
  [[nodiscard]] Effects expire(ExpiryRound& round, const Now& now);

  /// Answers everybody who waits with NOT_COORDINATOR and forgets all; back to loading.
  [[nodiscard]] Effects unload();

  [[nodiscard]] FetchOffsetsResponse fetch_offsets(const FetchOffsetsRequest& request) const;
  /// kGroupIdNotFound with state Dead if there is no such group: versions below 6 of DescribeGroups
  /// show that state and no error.
  [[nodiscard]] GroupDescription describe(std::string_view group) const;
  /// `states` empty = all; compared without regard to case.
  [[nodiscard]] ListGroupsResponse list(const std::vector<std::string>& states) const;
  [[nodiscard]] std::size_t size() const { return groups_.size(); }
  /// What its own groups keep in memory. O(groups).
  [[nodiscard]] Kept kept() const;
  /// All that is counted as things change is what a recount says. O(all of it): for tests.
  [[nodiscard]] bool consistent() const;
  /// All topics that groups have offsets in. After `loaded`, feed TopicsDeleted for those that no
  /// longer exist: what was deleted while nobody led, or while this was loading, is cleaned up so.
  [[nodiscard]] std::set<std::string> topics() const;

 private:
  void take(const JoinRequest& in, const Now& now, Effects& out);
  void take(const SyncRequest& in, const Now& now, Effects& out);
  void take(const HeartbeatRequest& in, const Now& now, Effects& out);
  void take(const LeaveRequest& in, const Now& now, Effects& out);
  void take(const CommitRequest& in, const Now& now, Effects& out);
  void take(const DeleteRequest& in, const Now& now, Effects& out);
  void take(const DeleteOffsetsRequest& in, const Now& now, Effects& out);
  void take(const TopicsDeleted& in, const Now& now, Effects& out);
  void take(const Appended& in, const Now& now, Effects& out);
  void take(const Tick& in, const Now& now, Effects& out);

  /// Why no request for `group` can be served: a bad id, or the table is loading.
  [[nodiscard]] std::optional<KafkaError> refused(std::string_view group, bool may_be_empty) const;
  Group* find(std::string_view group);
  [[nodiscard]] const Group* find(std::string_view group) const;
  /// The group, made if need be; null at the bound on groups.
  Group* find_or_make(const std::string& group);
  Group& make(const std::string& group);
  [[nodiscard]] bool has_room_for(std::string_view group) const;
  /// After any input to `group`: notes whose the new appends are and its timer, drops it if empty.
  void settle(Group& group, std::size_t appends_before, Effects& out);
  void note_timer(const std::string& group, Instant at);

  std::unique_ptr<const Options> options_;  ///< groups point to it, also after a move
  std::shared_ptr<Tally> tally_;
  bool loaded_ = false;
  std::uint64_t next_append_ = 1;
  std::map<std::string, std::unique_ptr<Group>, std::less<>> groups_;
  std::map<std::uint64_t, std::string> appends_;  ///< in flight → group
  std::map<std::string, Instant, std::less<>> timers_;
  std::set<std::pair<Instant, std::string>> due_;
};

}  // namespace pyralog::group
