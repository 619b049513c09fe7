// Groups under loss, delay, reordering, doubles, crashes, drifting clocks, and changes of who takes
// part.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "raft/raft.h"

namespace pyralog::raft {
namespace {

constexpr std::int32_t kNodes = 5;

SharedBytes data_of(std::uint64_t value) {
  Bytes bytes(8);
  store_be(bytes.data(), static_cast<std::int64_t>(value));
  return SharedBytes(std::move(bytes));
}

/// What one seed has met; a kind that no seed has is a test that tests nothing.
struct Seen {
  std::uint64_t elections = 0, commits = 0, crashes = 0, replaced = 0, snapshots = 0, changes = 0,
                joint = 0, reads = 0, lease_reads = 0, transfers = 0, refused_reads = 0,
                learners = 0, isolated = 0;
};

class Cluster {
 public:
  Cluster(std::uint64_t seed, Seen& seen) : random_(seed), seen_(seen), seed_(seed) {
    lease_ = chance(0.5) ? 8U : 0U;
    pre_vote_ = chance(0.8);
    // With short steps much happens within a tick, which is when a lease ends.
    ticks_a_step_ = chance(0.3) ? 0.05 : 0.2;
    isolates_ = chance(0.5);
    for (std::int32_t i = 1; i <= 3; ++i) first_.voters.emplace_back(i);
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      Node& node = nodes_[NodeId(i)];
      node.id = NodeId(i);
      node.disk.snapshot.config = first_;
      // As far apart as 8 ticks of the slowest take less than 10 of the fastest.
      node.pace = 0.9 + (chance(0.5) ? 0.2 * unit() : 0.2 * static_cast<double>(below(2)));
      start(node);
    }
  }

  /// Runs with faults, then without until all agree.
  void run(int steps) {
    loss_ = chance(0.3) ? 0.0 : 0.25 * unit();
    doubles_ = 0.1 * unit();
    cuts_end_ = chance(0.5) ? 0.02 : 0.004;
    slow_disk_ = chance(0.5) ? 0.03 + 0.2 * unit() : 0.5;
    for (int i = 0; i < steps && !failed_; ++i) step(true);
    loss_ = doubles_ = 0;
    cut_.clear();
    for (auto& [id, node] : nodes_) {
      if (node.raft == nullptr) start(node);
    }
    const std::uint64_t before = greatest_committed_;
    for (int i = 0; i < 6'000 && !failed_ && !all_agree(before); ++i) step(false);
    if (!failed_ && !all_agree(before))
      fail("the group does not go on when all faults are over" + state());
  }

  /// Takes a leader's followers away in ways that would let another one commit within its lease.
  void run_leases(int episodes) {
    lease_ = 8;
    pre_vote_ = chance(0.5);
    // Much must fit between the end of a promise and that of a lease.
    ticks_a_step_ = 0.03;
    fast_disk_ = 0.9;
    most_delay_ = 1;
    for (auto& [id, node] : nodes_) {
      node.pace = chance(0.5) ? 0.9 : 1.1;
      start(node);
    }
    for (int i = 0; i < episodes && !failed_; ++i) {
      cut_.clear();
      go_on(35);
      Node* leader = this->leader();
      if (leader == nullptr) continue;
      // One of two is kept from promising anything, the other lets the leader have its lease.
      Node& free = nodes_.at(NodeId(static_cast<std::int32_t>(1 + leader->id.value % 3)));
      Node& bound = nodes_.at(NodeId(6 - leader->id.value - free.id.value));
      // Either of both may be the one that asks for votes: with entries that the other has not, or,
      // where nothing but heartbeats is sent, with the same.
      quiet_ = chance(0.5);
      cut(leader->id, free.id);
      go_on(13);
      quiet_ = quiet_ || chance(0.7);
      go_on_for(static_cast<int>(40 + below(40)));
      if (chance(0.2) && leader->raft != nullptr && leader->raft->transfer_to(bound.id)) {
        ++seen_.transfers;
        go_on_for(static_cast<int>(1 + below(3)));
      }
      cut(leader->id, bound.id);
      quiet_ = false;
      if (chance(0.4)) {
        crash(bound);
        bound.down_for = static_cast<int>(1 + below(3));
      }
      for (int step = 0; step < 450 && !failed_; ++step) {
        if (chance(0.05) && free.raft != nullptr) free.raft->campaign();
        if (chance(0.08) && bound.raft != nullptr) bound.raft->campaign();
        go_on_for(1);
      }
    }
  }

  [[nodiscard]] bool failed() const { return failed_; }

 private:
  struct Disk {
    HardState hard;
    SnapshotMark snapshot;
    std::vector<Entry> entries;
  };
  struct Node {
    NodeId id = kNobody;
    std::unique_ptr<Raft> raft;
    Disk disk;                   ///< what is durable
    std::vector<Ready> storing;  ///< in order, not durable yet
    std::uint64_t applied = 0;
    double pace = 1;
    double ticks = 0;
    int down_for = 0;
    std::map<std::uint64_t, std::uint64_t>
        reads;  ///< context → what was committed when it was asked
  };
  struct Flying {
    int due;
    Message message;
  };

  void go_on_for(int steps) {
    for (int i = 0; i < steps && !failed_; ++i) step(false);
  }
  void go_on(double ticks) { go_on_for(static_cast<int>(ticks / ticks_a_step_)); }
  /// Nullptr if there is none, or several.
  Node* leader() {
    Node* found = nullptr;
    for (auto& [id, node] : nodes_) {
      if (node.raft == nullptr || node.raft->role() != Role::kLeader) continue;
      if (found != nullptr) return nullptr;
      found = &node;
    }
    return found;
  }
  void cut(NodeId one, NodeId other) {
    cut_.insert({one, other});
    cut_.insert({other, one});
  }

  double unit() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  bool chance(double p) { return unit() < p; }
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  void fail(const std::string& why) {
    failed_ = true;
    ADD_FAILURE() << "seed " << seed_ << ", step " << now_ << ": " << why;
  }

  [[nodiscard]] std::string state() const {
    std::string out;
    const auto list = [](const std::vector<NodeId>& nodes) {
      std::string text;
      for (const NodeId node : nodes) text += " " + std::to_string(node.value);
      return text;
    };
    for (const auto& [id, node] : nodes_) {
      if (node.raft == nullptr) continue;
      const Raft& raft = *node.raft;
      out += "\nnode " + std::to_string(id.value) + ": role " +
             std::to_string(static_cast<int>(raft.role())) + ", term " +
             std::to_string(raft.term().value) + ", leader " + std::to_string(raft.leader().value) +
             ", snapshot " + std::to_string(raft.log().snapshot().index.value) + ", applied " +
             std::to_string(raft.log().applied().value) + ", committed " +
             std::to_string(raft.log().committed().value) + ", last " +
             std::to_string(raft.log().last().value) + ", voters" + list(raft.config().voters) +
             ", outgoing" + list(raft.config().outgoing) + ", learners" +
             list(raft.config().learners);
      for (const auto& [to, progress] : raft.progress()) {
        out += "\n  to " + std::to_string(to.value) + ": state " +
               std::to_string(static_cast<int>(progress.state())) + ", match " +
               std::to_string(progress.match().value) + ", next " +
               std::to_string(progress.next().value);
      }
    }
    return out;
  }

  void start(Node& node) {
    Options options;
    options.id = node.id;
    options.seed = seed_;
    options.lease_ticks = lease_;
    options.pre_vote = pre_vote_;
    options.max_append_bytes = 64;
    options.max_apply_bytes = 64;
    options.sending = {.messages = 4, .bytes = 256};
    node.raft = std::make_unique<Raft>(
        options, Stored{node.disk.hard, node.disk.snapshot, node.disk.entries});
    node.applied = node.disk.snapshot.index.value;
    node.storing.clear();
    node.reads.clear();
  }

  void crash(Node& node) {
    ++seen_.crashes;
    // Some of what was being stored may have got there, in order.
    const std::size_t kept = node.storing.empty() ? 0 : below(node.storing.size() + 1);
    for (std::size_t i = 0; i < kept; ++i) store(node, node.storing[i]);
    node.raft.reset();
    node.storing.clear();
    node.down_for = static_cast<int>(1 + below(60));
  }

  void store(Node& node, const Ready& ready) {
    Disk& disk = node.disk;
    if (ready.snapshot) {
      disk.snapshot = *ready.snapshot;
      disk.entries.clear();
      ++seen_.snapshots;
    }
    for (const Entry& entry : ready.entries) {
      const std::uint64_t first = disk.snapshot.index.value + 1;
      if (entry.index.value < first) continue;
      while (disk.entries.size() > entry.index.value - first) {
        disk.entries.pop_back();
        ++seen_.replaced;
      }
      if (disk.entries.size() != entry.index.value - first) return fail("a gap in what is stored");
      disk.entries.push_back(entry);
    }
    if (ready.hard) disk.hard = *ready.hard;
  }

  void step(bool faults) {
    ++now_;
    if (faults) make_trouble();
    for (auto& [id, node] : nodes_) {
      if (node.raft == nullptr) {
        if (--node.down_for <= 0) start(node);
        continue;
      }
      node.ticks += node.pace * ticks_a_step_;
      while (node.ticks >= 1) {
        node.ticks -= 1;
        node.raft->tick();
      }
    }
    deliver();
    for (auto& [id, node] : nodes_) {
      if (node.raft == nullptr) continue;
      if (chance(faults ? slow_disk_ : fast_disk_)) persist(node, faults);
      drain(node);
      check(node);
    }
    ask();
    read_by_lease();
  }

  void make_trouble() {
    if (chance(0.004)) crash(any());
    if (chance(0.01)) cut_.insert({any().id, any().id});  // one way
    if (isolates_ && chance(0.002 + 0.02 * ticks_a_step_)) isolate();
    if (chance(cuts_end_)) cut_.clear();
    Node& node = any();
    if (node.raft == nullptr) return;
    if (chance(0.002)) node.raft->campaign();
    if (chance(0.01) && node.raft->role() == Role::kLeader && node.raft->transfer_to(any().id))
      ++seen_.transfers;
    if (chance(0.02)) change(node);
    if (chance(0.02) && node.raft->log().applied() > node.raft->log().snapshot().index)
      compact(node);
  }

  /// Cuts off a node, a leader where there is one, from all others: what it sends, what it is sent,
  /// or both.
  void isolate() {
    ++seen_.isolated;
    Node* alone = &any();
    for (auto& [id, node] : nodes_) {
      if (node.raft != nullptr && node.raft->role() == Role::kLeader && chance(0.8)) alone = &node;
    }
    const std::uint64_t ways = below(3);
    for (const auto& [id, node] : nodes_) {
      if (ways != 0) cut_.insert({alone->id, id});
      if (ways != 1) cut_.insert({id, alone->id});
    }
  }

  void change(Node& node) {
    if (node.raft->role() != Role::kLeader) return;
    ConfigChange made;
    const std::uint64_t count = node.raft->config().joint() ? 0 : 1 + below(3);
    for (std::uint64_t i = 0; i < count; ++i) {
      made.steps.push_back({static_cast<ConfigChange::Kind>(below(3)), any().id});
    }
    made.transition = static_cast<ConfigChange::Transition>(below(3));
    const auto next = changed(node.raft->config(), made);
    // Two voters at least, so that crashes do not stop everything.
    if (!next || next->voters.size() < 2 || !node.raft->propose(made)) return;
    ++seen_.changes;
    if (next->joint()) ++seen_.joint;
    if (!next->learners.empty()) ++seen_.learners;
  }

  void compact(Node& node) {
    const SnapshotMark mark = node.raft->mark();
    // Only of what is durable here: the rest is not in the files that a snapshot replaces.
    if (mark.index.value > node.disk.snapshot.index.value + node.disk.entries.size()) return;
    const std::size_t gone = mark.index.value - node.disk.snapshot.index.value;
    node.disk.entries.erase(node.disk.entries.begin(),
                            node.disk.entries.begin() + static_cast<std::ptrdiff_t>(gone));
    node.disk.snapshot = mark;
    node.raft->compact(mark, {below(4), 1000});
  }

  Node& any() { return nodes_.at(NodeId(static_cast<std::int32_t>(1 + below(kNodes)))); }

  void send(const Message& message) {
    if (cut_.contains({message.from, message.to}) || chance(loss_)) {
      // Whoever moves the content notices.
      if (message.kind == MessageKind::kSnapshot) lost_.push_back(message);
      return;
    }
    const int copies = chance(doubles_) ? 2 : 1;
    for (int i = 0; i < copies; ++i) {
      const int delay = static_cast<int>(1 + below(chance(0.05) ? 20 * most_delay_ : most_delay_));
      flying_.push_back({now_ + delay, message});
    }
  }

  void deliver() {
    std::vector<Flying> due;
    std::erase_if(flying_, [&](Flying& each) {
      if (each.due > now_) return false;
      due.push_back(std::move(each));
      return true;
    });
    for (const Message& lost : std::exchange(lost_, {})) {
      if (nodes_.at(lost.from).raft != nullptr)
        nodes_.at(lost.from).raft->snapshot_ended(lost.to, false);
    }
    std::ranges::shuffle(due, random_);
    for (Flying& each : due) {
      Node& to = nodes_.at(each.message.to);
      if (to.raft == nullptr) {
        if (each.message.kind == MessageKind::kSnapshot) lost_.push_back(std::move(each.message));
        continue;
      }
      const bool snapshot = each.message.kind == MessageKind::kSnapshot;
      const NodeId from = each.message.from;
      const NodeId id = each.message.to;
      to.raft->step(std::move(each.message));
      Node& sender = nodes_.at(from);
      // The content's transfer may fail for all the leader knows.
      if (snapshot && sender.raft != nullptr) sender.raft->snapshot_ended(id, chance(0.8));
    }
  }

  /// Some of what is being stored becomes durable.
  void persist(Node& node, bool faults) {
    if (node.storing.empty()) return;
    const std::size_t count = faults ? 1 + below(node.storing.size()) : node.storing.size();
    for (std::size_t i = 0; i < count; ++i) {
      Ready& ready = node.storing[i];
      store(node, ready);
      for (const Message& message : ready.after) send(message);
      node.raft->persisted(ready.number);
    }
    node.storing.erase(node.storing.begin(),
                       node.storing.begin() + static_cast<std::ptrdiff_t>(count));
  }

  void drain(Node& node) {
    for (int i = 0; i < 4 && node.raft->has_ready(); ++i) {
      Ready ready = node.raft->ready();
      for (const Message& message : ready.messages) send(message);
      if (ready.snapshot) node.applied = ready.snapshot->index.value;
      for (const Entry& entry : ready.committed) apply(node, entry);
      if (!ready.committed.empty()) node.raft->applied(ready.committed.back().index);
      for (const ReadReady& read : ready.reads) answer(node, read);
      ready.committed.clear();
      node.storing.push_back(std::move(ready));
    }
  }

  void apply(Node& node, const Entry& entry) {
    if (entry.index.value != node.applied + 1) return fail("an entry is applied out of turn");
    node.applied = entry.index.value;
    const auto [at, fresh] = applied_.try_emplace(entry.index.value, entry.term.value, entry.data);
    if (fresh) {
      ++seen_.commits;
      committed_by_[entry.index.value] = node.raft->term().value;
    }
    if (at->second.first != entry.term.value || at->second.second.size() != entry.data.size() ||
        !std::ranges::equal(at->second.second.view(), entry.data.view())) {
      fail("two nodes have applied different entries at " + std::to_string(entry.index.value));
    }
  }

  void check(Node& node) {
    const Raft& raft = *node.raft;
    greatest_committed_ = std::max(greatest_committed_, raft.log().committed().value);
    check_durable(node);
    if (raft.role() != Role::kLeader) return;
    const auto [leader, fresh] = leaders_.try_emplace(raft.term().value, node.id);
    if (leader->second != node.id)
      fail("term " + std::to_string(raft.term().value) + " has two leaders");
    if (!fresh) return;
    ++seen_.elections;
    for (const auto& [index, entry] : applied_) {
      const auto term = raft.log().term_of(Index(index));
      if (index <= raft.log().snapshot().index.value) continue;
      // Votes may come so late that a leader of a later term has committed it.
      if (committed_by_.at(index) >= raft.term().value) continue;
      if (!term || term->value != entry.first) {
        fail("a new leader lacks entry " + std::to_string(index) + ", which was applied");
        return;
      }
    }
  }

  /// What a member takes for durable is on its disk.
  void check_durable(const Node& node) {
    const EntryLog& log = node.raft->log();
    if (log.durable() <= log.snapshot().index) return;
    const std::uint64_t at = log.durable().value - node.disk.snapshot.index.value;
    if (at > node.disk.entries.size() ||
        (at > 0 && node.disk.entries[at - 1].term != log.term_of(log.durable())))
      fail("entry " + std::to_string(log.durable().value) + " is taken for durable and is not");
  }

  void ask() {
    Node& node = any();
    if (node.raft == nullptr || quiet_) return;
    if (chance(0.3)) (void)node.raft->propose(data_of(++proposed_));
    if (chance(0.1)) {
      const std::uint64_t context = ++contexts_;
      node.reads[context] = greatest_committed_;
      node.raft->read(context);
    }
  }

  /// By whoever has a lease: nobody may have committed more.
  void read_by_lease() {
    for (const auto& [id, each] : nodes_) {
      const auto index = each.raft != nullptr ? each.raft->lease() : std::nullopt;
      if (!index) continue;
      ++seen_.lease_reads;
      if (index->value < greatest_committed_) fail("a read by lease misses what was committed");
    }
  }

  void answer(Node& node, const ReadReady& read) {
    const auto asked = node.reads.find(read.context);
    if (asked == node.reads.end())
      return fail("a read is answered that nobody asked for, or twice");
    if (!read.index) ++seen_.refused_reads;
    if (read.index) {
      ++seen_.reads;
      if (read.index->value < asked->second)
        fail("a read misses what was committed before it was asked");
    }
    node.reads.erase(asked);
  }

  bool all_agree(std::uint64_t before) {
    if (now_ % 50 != 0) return false;
    const Node* leader = nullptr;
    for (const auto& [id, node] : nodes_) {
      if (node.raft != nullptr && node.raft->role() == Role::kLeader &&
          (leader == nullptr || node.raft->term() > leader->raft->term())) {
        leader = &node;
      }
    }
    if (leader == nullptr || leader->raft->log().committed().value <= before + 5) return false;
    const Config config = leader->raft->config();
    return std::ranges::all_of(config.all(), [&](NodeId id) {
      return nodes_.at(id).applied + 10 > leader->raft->log().committed().value;
    });
  }

  std::mt19937_64 random_;
  Seen& seen_;
  std::uint64_t seed_;
  unsigned lease_ = 0;
  bool pre_vote_ = true;
  double ticks_a_step_ = 0.2;
  bool isolates_ = false;
  bool quiet_ = false;
  std::uint64_t most_delay_ = 6;  ///< in steps, of most messages
  Config first_;
  std::map<NodeId, Node> nodes_;
  std::vector<Flying> flying_;
  std::vector<Message> lost_;  ///< snapshots
  std::set<std::pair<NodeId, NodeId>> cut_;
  double loss_ = 0;
  double doubles_ = 0;
  double cuts_end_ = 0.02;
  // The chances in each step that something becomes durable, under trouble and without.
  double slow_disk_ = 0.5;
  double fast_disk_ = 0.5;
  int now_ = 0;
  bool failed_ = false;
  std::map<std::uint64_t, std::pair<std::uint64_t, SharedBytes>> applied_;
  std::map<std::uint64_t, std::uint64_t> committed_by_;  ///< index → in this term at the latest
  std::map<std::uint64_t, NodeId> leaders_;
  std::uint64_t greatest_committed_ = 0;
  std::uint64_t proposed_ = 0;
  std::uint64_t contexts_ = 0;
};

/// The seeds to run: `count` from 1 on, more in a soak, or those of PYRALOG_RAFT_SEEDS=first..last.
std::pair<std::uint64_t, std::uint64_t> seeds(std::uint64_t count, std::uint64_t soak) {
  if (const char* given = std::getenv("PYRALOG_RAFT_SEEDS")) {
    char* rest = nullptr;
    const std::uint64_t first = std::strtoull(given, &rest, 10);
    return {first, *rest == '.' ? std::strtoull(rest + 2, nullptr, 10) : first};
  }
  return {1, std::getenv("PYRALOG_SOAK") != nullptr ? soak : count};
}

TEST(RaftSim, keeps_its_promises_whatever_fails) {
  const auto [first, last] = seeds(300, 10'000);
  Seen seen;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Cluster cluster(seed, seen);
    cluster.run(2'000);
    if (cluster.failed()) return;
  }
  std::printf("soak: raft_sim count=%llu seeds=%llu..%llu\n",
              static_cast<unsigned long long>(last - first + 1),
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(last));
  if (last - first < 99) return;
  EXPECT_GT(seen.elections, 0U);
  EXPECT_GT(seen.commits, 0U);
  EXPECT_GT(seen.crashes, 0U);
  EXPECT_GT(seen.replaced, 0U);
  EXPECT_GT(seen.snapshots, 0U);
  EXPECT_GT(seen.changes, 0U);
  EXPECT_GT(seen.joint, 0U);
  EXPECT_GT(seen.learners, 0U);
  EXPECT_GT(seen.reads, 0U);
  EXPECT_GT(seen.lease_reads, 0U);
  EXPECT_GT(seen.refused_reads, 0U);
  EXPECT_GT(seen.transfers, 0U);
  EXPECT_GT(seen.isolated, 0U);
}

TEST(RaftSim, a_read_by_lease_misses_nothing) {
  const auto [first, last] = seeds(25, 1'000);
  Seen seen;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Cluster cluster(seed, seen);
    cluster.run_leases(10);
    if (cluster.failed()) return;
  }
  std::printf("soak: raft_leases count=%llu seeds=%llu..%llu\n",
              static_cast<unsigned long long>(last - first + 1),
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(last));
  if (last - first < 24) return;
  EXPECT_GT(seen.lease_reads, 0U);
  EXPECT_GT(seen.elections, last - first);
  EXPECT_GT(seen.transfers, 0U);
  EXPECT_GT(seen.crashes, 0U);
}

}  // namespace
}  // namespace pyralog::raft
