#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "raft/raft.h"

namespace pyralog::raft {

inline SharedBytes text(const std::string& value) {
  return SharedBytes(Bytes(value.begin(), value.end()));
}
inline std::string text(const SharedBytes& bytes) {
  return {bytes.view().begin(), bytes.view().end()};
}

/// Members whose messages arrive at once, in order, and whose disks are as fast; but for what is
/// held up.
class RaftTest : public ::testing::Test {
 protected:
  struct Member {
    std::unique_ptr<Raft> raft;
    Stored disk;
    bool slow_disk = false;
    bool loses_unsynced = false;  ///< of hard states
    std::vector<Ready> storing;
    std::vector<std::string> applied;
    std::map<std::uint64_t, ReadReady> reads;
  };

  Raft& at(int id) { return *members_.at(id).raft; }
  Member& member(int id) { return members_.at(id); }

  void add(int id, const Config& config) {
    Member& made = members_[id];
    made.disk.snapshot.config = config;
    start(id);
  }
  void start(int id) {
    Options options = options_;
    options.id = NodeId(id);
    Member& it = members_.at(id);
    it.storing.clear();
    it.raft = std::make_unique<Raft>(options, it.disk);
  }
  void group(int count) {
    Config config;
    for (int i = 1; i <= count; ++i) config.voters.emplace_back(i);
    for (int i = 1; i <= count; ++i) add(i, config);
  }
  /// Makes `id` the leader.
  void elect(int id) {
    at(id).campaign();
    settle();
    ASSERT_EQ(at(id).role(), Role::kLeader);
  }
  void tick(int times = 1) {
    for (int i = 0; i < times; ++i) {
      for (auto& [id, each] : members_) {
        if (each.raft != nullptr) each.raft->tick();
      }
      settle();
    }
  }
  void store(int id) {
    Member& it = members_.at(id);
    for (const Ready& ready : std::exchange(it.storing, {})) keep(it, ready);
  }
  /// Until nothing moves.
  void settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (auto& [id, each] : members_) {
        while (each.raft != nullptr && each.raft->has_ready()) {
          moved = true;
          handle(each, each.raft->ready());
        }
      }
      while (!wire_.empty()) {
        moved = true;
        const Message m = std::move(wire_.front());
        wire_.pop_front();
        const auto to = members_.find(m.to.value);
        if (to == members_.end() || to->second.raft == nullptr) continue;
        to->second.raft->step(m);
      }
    }
  }

  Options options_;
  std::set<int> cut_;  ///< nothing leaves or reaches them
  std::function<bool(Message&)> drop_ = [](const Message&) { return false; };

 private:
  void handle(Member& it, Ready ready) {
    for (const Message& m : ready.messages) send(m);
    for (const Entry& entry : ready.committed) it.applied.push_back(text(entry.data));
    for (const ReadReady& read : ready.reads) it.reads[read.context] = read;
    if (!ready.committed.empty()) it.raft->applied(ready.committed.back().index);
    if (it.slow_disk) {
      it.storing.push_back(std::move(ready));
    } else {
      keep(it, ready);
    }
  }
  void keep(Member& it, const Ready& ready) {
    if (ready.snapshot) it.disk = {it.disk.hard, *ready.snapshot, {}};
    for (const Entry& entry : ready.entries) {
      std::erase_if(it.disk.entries, [&](const Entry& old) { return old.index >= entry.index; });
      it.disk.entries.push_back(entry);
    }
    if (ready.hard && (ready.sync || !it.loses_unsynced)) it.disk.hard = *ready.hard;
    for (const Message& m : ready.after) send(m);
    it.raft->persisted(ready.number);
  }
  void send(Message m) {
    if (cut_.contains(m.from.value) || cut_.contains(m.to.value) || drop_(m)) return;
    wire_.push_back(m);
  }

  std::map<int, Member> members_;
  std::deque<Message> wire_;
};

}  // namespace pyralog::raft
