#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "raft/interop_script_testing.h"
#include "raft/raft.h"

namespace pyralog::raft::interop {

/// One of our members, and what etcd's test harness has around one of theirs: a disk, and, where
/// writes are asynchronous, what waits for it and what waits to be applied.
struct Member {
  std::unique_ptr<Raft> raft;
  Options options;
  bool async = false;
  std::map<std::uint64_t, PrintedEntry> disk;
  std::uint64_t disk_last = 0;
  std::deque<Ready> appending;
  std::deque<std::vector<Entry>> applying;
  std::vector<SnapshotMark> history;  ///< after each entry that was applied
  // As of its last Ready.
  HardState hard;
  NodeId lead = kNobody;
  std::map<std::uint64_t, PrintedEntry> entries;
  std::uint64_t last = 0;
  std::uint64_t applied = 0;
  // A timeout that a script has set: the tick at which it campaigns.
  unsigned timeout = 0, ticks = 0;
};

/// A group of our members that is driven as etcd's harness drives theirs: one queue of messages,
/// which nothing but a command moves. Not safe for several threads.
class Group {
 public:
  /// `count` more members, as add-nodes says. kInvalidArgument.
  [[nodiscard]] Result<void> add(const Command& command);
  [[nodiscard]] bool has(std::int32_t id) const { return members_.contains(id); }
  [[nodiscard]] Member& at(std::int32_t id) { return members_.at(id); }
  [[nodiscard]] Raft& raft(std::int32_t id) { return *members_.at(id).raft; }
  [[nodiscard]] std::map<std::int32_t, Member>& members() { return members_; }

  void tick(std::int32_t id, unsigned times);
  void process_ready(std::int32_t id);
  void process_append(std::int32_t id);
  void process_apply(std::int32_t id);
  /// Messages to `id`, of one kind if `kind` is not empty.
  void deliver(std::int32_t id, bool drop, const std::string& kind);
  /// Until none of these members has anything to do. False if that never ends.
  [[nodiscard]] bool stabilize(const std::vector<std::int32_t>& ids);
  void send(const Message& message) { flying_.push_back({message.to.value, message}); }
  /// Forgets the log of `id` up to `index`. False if that is not applied.
  [[nodiscard]] bool compact(std::int32_t id, std::uint64_t index);
  /// What was sent since the last time, as etcd's harness words it.
  [[nodiscard]] std::vector<std::string> take_sent() { return std::exchange(sent_, {}); }
  /// Who was told to sync since the last time.
  [[nodiscard]] std::set<std::int32_t> take_synced() { return std::exchange(synced_, {}); }

 private:
  struct Persisted {
    std::uint64_t number;
  };
  struct Flying {
    std::int32_t to;
    std::variant<Message, Persisted> what;
  };

  void leave(const Message& message);
  void store(Member& member, const Ready& ready);
  void apply(Member& member, const std::vector<Entry>& entries);
  void arrive(const Flying& each);

  std::map<std::int32_t, Member> members_;
  std::deque<Flying> flying_;
  std::vector<std::string> sent_;
  std::set<std::int32_t> synced_;
};

[[nodiscard]] std::string describe(const Message& message);
[[nodiscard]] PrintedEntry printed(const Entry& entry);

}  // namespace pyralog::raft::interop
