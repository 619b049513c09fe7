#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "io/sim/simulator.h"
#include "multiraft/multiraft.h"

namespace pyralog::multiraft::testing {

using namespace std::chrono_literals;

/// A list of texts.
class List final : public StateMachine {
 public:
  Result<void> apply(raft::Index index, const SharedBytes& data) override {
    if (as_text(data.view()) == "newer") return fail(Code::kUnsupported, "too new");
    EXPECT_GT(index, applied_);
    applied_ = index;
    texts.emplace_back(as_text(data.view()));
    return {};
  }
  [[nodiscard]] Bytes snapshot() const override {
    Writer out;
    out.le(applied_.value);
    for (const std::string& text : texts) out.sized(text);
    return out.take();
  }
  [[nodiscard]] Result<void> restore(ByteView content) override {
    PYRALOG_TRY(check(content));
    Reader in(content);
    applied_ = raft::Index(in.le<std::uint64_t>());
    texts.clear();
    while (in.left() > 0) texts.emplace_back(in.sized_text());
    return {};
  }
  [[nodiscard]] Result<void> check(ByteView content) const override {
    if (refuses_snapshots) return fail(Code::kUnsupported, "too new");
    Reader in(content);
    (void)in.le<std::uint64_t>();
    while (in.left() > 0) (void)in.sized();
    if (!in.ok()) return fail(Code::kCorrupt, "not a list");
    return {};
  }
  std::vector<std::string> texts;
  bool refuses_snapshots = false;

 private:
  raft::Index applied_;
};

/// Some simulated machines with the same groups, and a network between them that a test can cut.
class Machines {
 public:
  Machines(std::uint64_t seed, std::size_t nodes, std::uint16_t groups)
      : groups_(groups), sim_(seed) {
    for (std::size_t i = 0; i < nodes; ++i) {
      sim_.add_node();
      auto& made = *nodes_.emplace_back(std::make_unique<One>(*this, i));
      voters_.voters.push_back(made.id);
    }
    for (auto& each : nodes_) boot(*each);
  }

  struct One final : Transport {
    One(Machines& machines, std::size_t at)
        : all(machines), index(at), id(static_cast<std::int32_t>(at) + 1) {}
    bool send(NodeId to, std::vector<GroupMessage> messages) override {
      ++frames;
      for (const GroupMessage& each : messages) refusals += each.message.reject ? 1U : 0U;
      return all.carry(*this, to, [messages = std::move(messages), from = id](MultiRaft& raft) {
        raft.receive(from, messages);
      });
    }
    io::Task<Result<void>> send_snapshot(GroupMessage message, SharedBytes content) override {
      const NodeId to = message.message.to;
      ++snapshots;
      const std::size_t now = ++under_way[to];
      most_under_way = std::max(most_under_way, now);
      const auto answer = std::make_shared<Result<void>>();
      *answer = fail(Code::kTimedOut, "no answer");
      const bool open = all.carry(*this, to, [=, from = id](MultiRaft& raft) {
        *answer = raft.install(from, message, content);
      });
      if (!stopped) co_await halt.wait(io::Shard::current().now() + all.snapshot_time_);
      --under_way[to];
      if (stopped) co_return fail(Code::kCancelled, "stopped");
      if (!open) co_return fail(Code::kUnavailable, "cut off");
      co_return *answer;
    }
    void stop() override {
      stopped = true;
      halt.wake_all();
    }
    Machines& all;
    std::size_t index;
    NodeId id;
    std::map<GroupId, List> lists;
    MultiRaft* raft = nullptr;  ///< lives in a root of its machine, and ends with that
    std::uint64_t frames = 0;
    std::uint64_t refusals = 0;  ///< that this one has said
    std::uint64_t snapshots = 0;
    std::map<NodeId, std::size_t> under_way;
    std::size_t most_under_way = 0;  ///< snapshots to one other at once
    bool stopped = false;
    io::WaitList halt;
    std::string refused;
  };

  void boot(One& one) {
    one.lists.clear();
    one.under_way.clear();
    one.stopped = false;
    sim_.node(one.index).spawn([this, &one]() -> io::Task<void> {
      Options options = options_;
      options.path = "/raft.log";
      options.self = one.id;
      std::vector<GroupSpec> specs;
      for (std::uint16_t g = 0; g < groups_; ++g) {
        specs.push_back({GroupId(g), voters_, &one.lists[GroupId(g)]});
      }
      auto opened =
          co_await MultiRaft::open(io::Shard::current().disk(), options, std::move(specs));
      if (!opened) {
        one.refused = opened.error().message;
        co_return;
      }
      // The first of the two to go is the name by which the test knows it.
      const std::unique_ptr<MultiRaft> owned = std::move(*opened);
      const std::unique_ptr<MultiRaft*, void (*)(MultiRaft**)> known(
          &one.raft, [](MultiRaft** name) { *name = nullptr; });
      one.raft = owned.get();
      one.raft->start(one);
      io::WaitList forever;
      co_await forever.wait(Instant::never());
    });
  }

  void crash(std::size_t i, bool power) { power ? node(i).lose_power() : node(i).kill(); }
  void restart(std::size_t i) {
    node(i).restart();
    boot(*nodes_[i]);
  }

  template <typename F>
  bool carry(One& from, NodeId to, F deliver) {
    One& target = at(to);
    if (cut_.contains({from.id, to}) || sim_.rng().below(1000) < loss_) return false;
    const Duration delay = std::chrono::microseconds(200 + sim_.rng().below(2000));
    const std::uint64_t life = node(target.index).incarnation();
    sim_.schedule(delay, [this, &target, life, deliver = std::move(deliver)] {
      io::sim::Node& machine = node(target.index);
      if (!machine.up() || machine.incarnation() != life || target.raft == nullptr) return;
      machine.shard().post([&target, deliver] {
        if (target.raft != nullptr) deliver(*target.raft);
      });
    });
    return true;
  }
  void cut(std::size_t i) {
    for (const auto& each : nodes_) {
      cut_.insert({nodes_[i]->id, each->id});
      cut_.insert({each->id, nodes_[i]->id});
    }
  }
  void heal() { cut_.clear(); }

  /// Nothing can be written there, or to what `only` names.
  void fill_disk(std::size_t i, std::string only = "") {
    node(i).disk().set_hook([only](io::sim::DiskOp op, const std::string& path) {
      const bool full = op == io::sim::DiskOp::kWrite && (only.empty() || path == only);
      return full ? io::sim::DiskFault::kNoSpace : io::sim::DiskFault::kNone;
    });
  }
  void free_disk(std::size_t i) { node(i).disk().set_hook(nullptr); }
  /// Starts them anew, with options_ as they are now.
  void restart_all() {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      crash(i, false);
      restart(i);
    }
  }

  io::sim::Node& node(std::size_t i) { return sim_.node(i); }
  One& one(std::size_t i) { return *nodes_[i]; }
  One& at(NodeId id) { return *nodes_[static_cast<std::size_t>(id.value - 1)]; }
  [[nodiscard]] bool runs(std::size_t i) { return node(i).up() && nodes_[i]->raft != nullptr; }

  /// The index of the one that leads the group and may decide; −1 = none.
  int leader(GroupId group) {
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (runs(i) && nodes_[i]->raft->settled_leader(group)) return static_cast<int>(i);
    }
    return -1;
  }
  bool await_leader(GroupId group, Duration limit = 10s) {
    return sim_.run_until([&] { return leader(group) >= 0; }, limit);
  }
  /// Proposes at the leader; the error's code, or kOk-like nullopt.
  std::optional<Error> propose(GroupId group, const std::string& text, Duration limit = 2s) {
    if (!await_leader(group)) return Error{Code::kUnavailable, "nobody leads", 0};
    const auto i = static_cast<std::size_t>(leader(group));
    const auto done =
        node(i).try_run([this, i, group, text, limit]() -> io::Task<Result<raft::Index>> {
          co_return co_await nodes_[i]->raft->propose(group, SharedBytes::copy(as_bytes(text)),
                                                      io::Shard::current().now() + limit);
        });
    if (!done) return Error{Code::kUnavailable, "crashed", 0};
    if (!*done) return done->error();
    return std::nullopt;
  }
  bool all_have(GroupId group, std::size_t count, Duration limit = 10s) {
    return sim_.run_until(
        [&] {
          return std::ranges::all_of(nodes_, [&](const auto& each) {
            return node(each->index).up() && each->lists[group].texts.size() >= count;
          });
        },
        limit);
  }

  Options options_;
  std::uint16_t groups_;
  raft::Config voters_;
  std::vector<std::unique_ptr<One>> nodes_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::uint64_t loss_ = 0;  ///< of a thousand
  Duration snapshot_time_ = 20ms;
  io::sim::Simulator sim_;  ///< goes first, with all that runs on it
};

}  // namespace pyralog::multiraft::testing
