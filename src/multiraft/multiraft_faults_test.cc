// What a group's members do when a disk is full, a machine gives up, or a peer says what cannot be.
#include "multiraft/multiraft.h"
#include "multiraft/testing.h"

namespace pyralog::multiraft {
namespace {

using testing::List;
using testing::Machines;
using namespace std::chrono_literals;

const GroupId kGroup(0);

std::string text_of(int i) {
  return "entry " + std::to_string(i);
}

SharedBytes bytes_of(const std::string& text) {
  return SharedBytes::copy(as_bytes(text));
}

std::size_t leader_of(Machines& machines, GroupId group = kGroup) {
  EXPECT_TRUE(machines.await_leader(group));
  return static_cast<std::size_t>(machines.leader(group));
}

GroupStatus status_of(Machines& machines, std::size_t i) {
  return machines.one(i).raft->status(kGroup);
}

/// Proposes at that node, whether it leads or not.
Result<raft::Index> propose_at(Machines& machines, std::size_t i, const std::string& text,
                               Duration limit = 100ms) {
  return *machines.node(i).try_run([&machines, i, text, limit]() -> io::Task<Result<raft::Index>> {
    co_return co_await machines.one(i).raft->propose(kGroup, bytes_of(text),
                                                     io::Shard::current().now() + limit);
  });
}

// --- a full disk

TEST(MultiRaftFaults, a_leader_whose_disk_is_full_hands_its_leads_over) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Machines machines(seed, 3, 2);
    ASSERT_FALSE(machines.propose(kGroup, "one"));
    ASSERT_TRUE(machines.all_have(kGroup, 1));
    const std::size_t full = leader_of(machines);
    machines.fill_disk(full);
    (void)propose_at(machines, full, "noticed");
    ASSERT_TRUE(machines.sim_.run_until(
        [&] {
          return machines.leader(kGroup) >= 0 && machines.leader(kGroup) != static_cast<int>(full);
        },
        5s))
        << seed;
    for (int i = 0; i < 20; ++i) ASSERT_FALSE(machines.propose(kGroup, text_of(i))) << seed;
    machines.sim_.run_for(10s);
    EXPECT_TRUE(machines.one(full).raft->out_of_space());
    EXPECT_NE(status_of(machines, full).role, raft::Role::kLeader);
    machines.free_disk(full);
    ASSERT_FALSE(machines.propose(kGroup, "last"));
    ASSERT_TRUE(machines.sim_.run_until(
        [&] { return machines.one(full).lists[kGroup].texts.back() == "last"; }, 5s));
    EXPECT_EQ(machines.one(full).lists[kGroup].texts,
              machines.one((full + 1) % 3).lists[kGroup].texts);
    EXPECT_FALSE(machines.one(full).raft->out_of_space());
  }
}

TEST(MultiRaftFaults, the_lead_goes_to_another_if_the_first_does_not_take_it) {
  Machines machines(4, 5, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  ASSERT_TRUE(machines.all_have(kGroup, 1));
  const std::size_t full = leader_of(machines);
  const std::size_t good = (full + 3) % 5;
  for (std::size_t i = 0; i < 5; ++i) {
    if (i != good && i != (full + 4) % 5) machines.fill_disk(i);
  }
  (void)propose_at(machines, full, "noticed");
  // Three of five can store nothing; two cannot elect one of theirs. With a third one they can.
  machines.sim_.run_for(3s);
  machines.free_disk((full + 1) % 5);
  ASSERT_TRUE(machines.sim_.run_until(
      [&] {
        const int now = machines.leader(kGroup);
        return now >= 0 && !machines.one(static_cast<std::size_t>(now)).raft->out_of_space();
      },
      20s));
  EXPECT_FALSE(machines.propose(kGroup, "two", 5s));
}

TEST(MultiRaftFaults, nothing_is_proposed_on_a_full_disk) {
  Machines machines(22, 1, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  machines.fill_disk(0);
  EXPECT_EQ(propose_at(machines, 0, "two").error().code, Code::kTimedOut);
  const raft::Index last = status_of(machines, 0).last;
  const std::size_t waiting = machines.one(0).raft->waiting_bytes();
  for (int i = 0; i < 50; ++i) {
    const auto refused = propose_at(machines, 0, text_of(i));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kExhausted);
  }
  EXPECT_EQ(status_of(machines, 0).last, last);
  EXPECT_LE(machines.one(0).raft->waiting_bytes(), waiting + 200);
  machines.free_disk(0);
  EXPECT_FALSE(machines.propose(kGroup, "three"));
  EXPECT_EQ(machines.one(0).lists[kGroup].texts, (std::vector<std::string>{"one", "two", "three"}));
}

TEST(MultiRaftFaults, what_waits_for_room_is_bounded) {
  Machines machines(23, 3, 1);
  machines.options_.max_waiting_bytes = 10'000;
  machines.options_.raft.max_append_bytes = 2'000;
  machines.restart_all();
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t full = (leader_of(machines) + 1) % 3;
  machines.fill_disk(full);
  std::size_t most = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_FALSE(machines.propose(kGroup, std::string(1'000, 'x')));
    most = std::max(most, machines.one(full).raft->waiting_bytes());
  }
  EXPECT_GT(most, 5'000u);
  EXPECT_LE(most, 20'000u);
  machines.free_disk(full);
  ASSERT_TRUE(machines.all_have(kGroup, 101));
}

TEST(MultiRaftFaults, answers_that_wait_for_room_are_bounded) {
  Machines machines(24, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t full = (leader_of(machines) + 1) % 3;
  machines.fill_disk(full);
  ASSERT_FALSE(machines.propose(kGroup, "two"));
  machines.sim_.run_for(20s);
  const std::uint64_t before = machines.one(full).raft->stats().messages_sent;
  machines.free_disk(full);
  machines.sim_.run_for(100ms);
  EXPECT_LT(machines.one(full).raft->stats().messages_sent - before, 100u);
  ASSERT_TRUE(machines.all_have(kGroup, 2));
}

TEST(MultiRaftFaults, no_journal_is_rewritten_before_what_waits_for_room) {
  Machines machines(25, 3, 1);
  machines.options_.rewrite_bytes = 2'000;
  machines.sim_.run_for(100ms);  // the files are there, and opened by their name
  machines.restart_all();
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t full = (leader_of(machines) + 1) % 3;
  // The file is full once it is to be replaced; the new one is not.
  bool begun = false;
  machines.node(full).disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    if (op == io::sim::DiskOp::kOpen && path == "/raft.log.new") {
      begun = true;
      // What comes meanwhile finds no room.
      machines.node(full).disk().options().latency_min = 100ms;
      machines.node(full).disk().options().latency_max = 100ms;
    }
    return begun && op == io::sim::DiskOp::kWrite && path == "/raft.log"
               ? io::sim::DiskFault::kNoSpace
               : io::sim::DiskFault::kNone;
  });
  std::uint64_t rewrites = 0;
  for (int i = 0; i < 60; ++i) {
    if (!begun) rewrites = machines.one(full).raft->stats().rewrites;
    ASSERT_FALSE(machines.propose(kGroup, std::string(100, 'x')));
    machines.sim_.run_for(20ms);
  }
  ASSERT_TRUE(begun);
  EXPECT_TRUE(machines.one(full).raft->out_of_space());
  EXPECT_EQ(machines.one(full).raft->stats().rewrites, rewrites);
  machines.node(full).disk().options().latency_min = 10us;
  machines.node(full).disk().options().latency_max = 10us;
  machines.free_disk(full);
  ASSERT_TRUE(machines.all_have(kGroup, 61));
  machines.crash(full, true);
  machines.restart(full);
  ASSERT_TRUE(machines.all_have(kGroup, 61));
}

// --- a node that is dead

/// Counts; stops at "newer", within what it is given.
class Probe final : public StateMachine {
 public:
  Result<void> apply(raft::Index index, const SharedBytes& data) override {
    if (as_text(data.view()) == "newer" && !knows) {
      stopped = true;
      return fail(Code::kUnsupported, "too new");
    }
    seen.push_back(index);
    last = index;
    return {};
  }
  [[nodiscard]] Bytes snapshot() const override {
    EXPECT_FALSE(stopped);
    Writer out;
    out.le(last.value);
    return out.take();
  }
  Result<void> restore(ByteView content) override {
    Reader in(content);
    last = restored = raft::Index(in.le<std::uint64_t>());
    return {};
  }
  [[nodiscard]] Result<void> check(ByteView) const override { return {}; }

  bool knows = false;
  bool stopped = false;
  raft::Index last;
  raft::Index restored;
  std::vector<raft::Index> seen;
};

struct Nobody final : Transport {
  bool send(NodeId, std::vector<GroupMessage>) override { return true; }
  io::Task<Result<void>> send_snapshot(GroupMessage, SharedBytes) override {
    co_return Result<void>{};
  }
};

TEST(MultiRaftFaults, a_machine_that_stops_within_a_batch_is_as_of_the_last_entry_it_took) {
  bool within = false;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    io::sim::Simulator sim(seed);
    sim.add_node();
    Probe probe;
    Probe after;
    after.knows = true;
    Nobody nobody;
    Options options;
    options.path = "/raft.log";
    options.self = NodeId(1);
    options.rewrite_bytes = 1500;
    raft::Config config;
    config.voters = {NodeId(1)};
    sim.node(0).spawn([&]() -> io::Task<void> {
      auto opened = co_await MultiRaft::open(io::Shard::current().disk(), options,
                                             {{kGroup, config, &probe}});
      const auto raft = std::move(*opened);
      raft->start(nobody);
      while (!raft->settled_leader(kGroup)) co_await io::sleep_for(10ms);
      io::TaskGroup all;
      for (int i = 0; i < 40 && !raft->dead(); ++i) {
        for (int k = 0; k < 3; ++k) {
          const bool bad = i == 12 + static_cast<int>(seed % 16) && k == 1;
          all.spawn([](MultiRaft* at, std::string text) -> io::Task<void> {
            (void)co_await at->propose(kGroup, bytes_of(text), io::Shard::current().now() + 1s);
          }(raft.get(), bad ? "newer" : std::string(20, 'a')));
        }
        co_await io::sleep_for(150us);
      }
      co_await io::sleep_for(1s);
      EXPECT_TRUE(raft->dead());
      EXPECT_EQ(raft->status(kGroup).applied, probe.last) << seed;
      within = within || raft->status(kGroup).committed.value > probe.last.value + 1;
      co_await all.join();
      co_await raft->stop();
    });
    sim.run_for(5s);
    sim.node(0).kill();
    sim.node(0).restart();
    sim.node(0).spawn([&]() -> io::Task<void> {
      auto opened = co_await MultiRaft::open(io::Shard::current().disk(), options,
                                             {{kGroup, config, &after}});
      const auto raft = std::move(*opened);
      raft->start(nobody);
      co_await io::sleep_for(2s);
      co_await raft->stop();
    });
    sim.run_for(5s);
    ASSERT_FALSE(after.seen.empty()) << seed;
    EXPECT_GT(after.seen.front(), after.restored) << seed;
    sim.node(0).kill();
  }
  EXPECT_TRUE(within);
}

TEST(MultiRaftFaults, once_dead_it_applies_nothing_more_and_says_so_to_all_who_wait) {
  Machines machines(26, 1, 2);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  ASSERT_FALSE(machines.propose(GroupId(1), "one"));
  std::vector<Result<raft::Index>> said;
  machines.node(0).spawn([&]() -> io::Task<void> {
    MultiRaft& raft = *machines.one(0).raft;
    io::TaskGroup all;
    const auto ask = [&](GroupId group, std::string text) -> io::Task<void> {
      said.push_back(co_await raft.propose(group, bytes_of(text), io::Shard::current().now() + 1s));
    };
    all.spawn(ask(kGroup, "newer"));
    all.spawn(ask(GroupId(1), "two"));
    co_await all.join();
  });
  ASSERT_TRUE(machines.sim_.run_until([&] { return said.size() == 2; }));
  for (const auto& each : said) {
    ASSERT_FALSE(each);
    EXPECT_EQ(each.error().code, Code::kIo);
  }
  EXPECT_EQ(machines.one(0).lists[GroupId(1)].texts.size(), 1u);
}

TEST(MultiRaftFaults, stop_ends_all_who_wait) {
  Machines machines(27, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t leads = leader_of(machines);
  machines.cut(leads);
  std::size_t ended = 0;
  machines.node(leads).spawn([&]() -> io::Task<void> {
    MultiRaft& raft = *machines.one(leads).raft;
    const Instant never = Instant::never();
    io::TaskGroup all;
    const auto ask = [&](int what) -> io::Task<void> {
      if (what == 0) EXPECT_FALSE(co_await raft.propose(kGroup, bytes_of("x"), never));
      if (what == 1) EXPECT_FALSE(co_await raft.read(kGroup, never));
      if (what == 2) EXPECT_FALSE(co_await raft.wait_applied(kGroup, raft::Index(1'000), never));
      ++ended;
    };
    for (int what = 0; what < 3; ++what) all.spawn(ask(what));
    co_await raft.stop();
    co_await all.join();
    ++ended;
  });
  EXPECT_TRUE(machines.sim_.run_until([&] { return ended == 4; }, 1s));
}

// --- what others say

TEST(MultiRaftFaults, a_second_leader_of_a_term_is_not_believed) {
  Machines machines(10, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t leads = leader_of(machines);
  for (std::size_t n = 0; n < 3; ++n) {
    Machines::One& one = machines.one(n);
    machines.node(n).run([&]() -> io::Task<void> {
      raft::Message m;
      m.kind = raft::MessageKind::kHeartbeat;
      m.from = machines.one((leads + (n == (leads + 1) % 3 ? 2 : 1)) % 3).id;
      m.to = one.id;
      m.term = status_of(machines, n).term;
      one.raft->receive(m.from, {{kGroup, m}});
      m.kind = raft::MessageKind::kSnapshot;
      m.snapshot = raft::SnapshotMark{raft::Index(100), m.term, machines.voters_};
      const auto refused = one.raft->install(m.from, {kGroup, m}, bytes_of("12345678"));
      EXPECT_FALSE(refused);
      co_return;
    });
  }
  EXPECT_EQ(machines.leader(kGroup), static_cast<int>(leads));
  EXPECT_FALSE(machines.propose(kGroup, "two"));
}

TEST(MultiRaftFaults, no_message_takes_the_last_term_there_is) {
  Machines machines(11, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t leads = leader_of(machines);
  Machines::One& one = machines.one(leads);
  machines.node(leads).run([&]() -> io::Task<void> {
    for (const std::uint64_t term : {std::uint64_t{UINT64_MAX}, (std::uint64_t{1} << 62) - 1}) {
      raft::Message m;
      m.kind = raft::MessageKind::kAppendReply;
      m.from = NodeId(one.id.value % 3 + 1);
      m.to = one.id;
      m.term = raft::Term(term);
      one.raft->receive(m.from, {{kGroup, m}});
    }
    co_return;
  });
  machines.sim_.run_for(5s);
  EXPECT_FALSE(machines.propose(kGroup, "two", 5s));
}

TEST(MultiRaftFaults, snapshots_that_cannot_be_are_refused_with_the_reason) {
  Machines machines(12, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const std::size_t follows = (leader_of(machines) + 1) % 3;
  Machines::One& one = machines.one(follows);
  raft::Message m;
  m.kind = raft::MessageKind::kSnapshot;
  m.from = machines.one(leader_of(machines)).id;
  m.to = one.id;
  m.term = status_of(machines, follows).term;
  m.snapshot = raft::SnapshotMark{raft::Index(100), m.term, machines.voters_};
  const auto said = [&](const raft::Message& message, GroupId group = kGroup) {
    return machines.node(follows).run([&]() -> io::Task<std::optional<Code>> {
      const auto done = one.raft->install(m.from, {group, message}, bytes_of("12345678"));
      co_return done ? std::nullopt : std::optional(done.error().code);
    });
  };
  raft::Message bad = m;
  EXPECT_EQ(said(bad, GroupId(7)), Code::kInvalidArgument);
  bad.snapshot->term = raft::Term(m.term.value + 1);
  EXPECT_EQ(said(bad), Code::kInvalidArgument) << "of a term to come";
  bad = m;
  bad.snapshot->index = raft::Index(UINT64_MAX);
  EXPECT_EQ(said(bad), Code::kInvalidArgument);
  bad = m;
  bad.snapshot->config.voters.clear();
  EXPECT_EQ(said(bad), Code::kInvalidArgument) << "without voters";
  bad = m;
  bad.term = raft::Term(m.term.value - 1);
  bad.snapshot->term = bad.term;
  EXPECT_EQ(said(bad), bad.term.value == 0 ? Code::kInvalidArgument : Code::kFenced);
  one.lists[kGroup].refuses_snapshots = true;
  EXPECT_EQ(said(m), Code::kUnsupported);
  one.lists[kGroup].refuses_snapshots = false;
  EXPECT_EQ(said(m), std::nullopt);
  EXPECT_EQ(status_of(machines, follows).applied, raft::Index(100));
}

TEST(MultiRaftFaults, what_cannot_travel_is_never_appended) {
  Machines machines(13, 3, 1);
  machines.options_.max_proposal_bytes = 1'000;
  machines.restart_all();
  const std::size_t leads = leader_of(machines);
  const raft::Index last = status_of(machines, leads).last;
  const auto refused = propose_at(machines, leads, std::string(1'001, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
  EXPECT_EQ(status_of(machines, leads).last, last);
  EXPECT_TRUE(propose_at(machines, leads, std::string(1'000, 'x')));
}

// --- snapshots for others

/// Three nodes, one of which needs a snapshot once it is back.
struct Behind {
  explicit Behind(std::uint64_t seed, std::size_t nodes = 3, std::size_t absent = 1)
      : machines(seed, nodes, 1) {
    machines.options_.rewrite_bytes = 1'000;
    machines.options_.keep = {};
    machines.restart_all();
    EXPECT_FALSE(machines.propose(kGroup, "first"));
    EXPECT_TRUE(machines.all_have(kGroup, 1));
    leads = leader_of(machines);
    for (std::size_t i = 1; i <= absent; ++i) {
      away.push_back((leads + i) % nodes);
      machines.crash(away.back(), false);
    }
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(machines.propose(kGroup, text_of(i)));
    EXPECT_EQ(leader_of(machines), leads);
  }
  Machines machines;
  std::size_t leads = 0;
  std::vector<std::size_t> away;
};

TEST(MultiRaftFaults, a_member_gets_one_snapshot_at_a_time_though_the_lead_goes_and_comes_back) {
  Behind behind(14);
  Machines& machines = behind.machines;
  machines.snapshot_time_ = 3s;
  machines.restart(behind.away[0]);
  Machines::One& leads = machines.one(behind.leads);
  // It never takes what it is sent, so that it always needs one.
  machines.one(behind.away[0]).lists[kGroup].refuses_snapshots = true;
  ASSERT_TRUE(machines.sim_.run_until([&] { return leads.snapshots > 0; }, 5s));
  const std::size_t other = (behind.leads + 2) % 3;
  const auto hand_over = [&](std::size_t from, std::size_t to) {
    return machines.sim_.run_until(
        [&] {
          if (machines.leader(kGroup) == static_cast<int>(to)) return true;
          machines.node(from).run([&]() -> io::Task<void> {
            (void)machines.one(from).raft->transfer(kGroup, machines.one(to).id);
            co_return;
          });
          machines.sim_.run_for(10ms);
          return false;
        },
        2s);
  };
  ASSERT_TRUE(hand_over(behind.leads, other));
  ASSERT_TRUE(hand_over(other, behind.leads));
  machines.sim_.run_for(1s);
  EXPECT_EQ(leads.under_way[machines.one(behind.away[0]).id], 1u) << "it goes on";
  machines.snapshot_time_ = 20ms;
  machines.one(behind.away[0]).lists[kGroup].refuses_snapshots = false;
  ASSERT_TRUE(machines.all_have(kGroup, 101, 20s));
  EXPECT_EQ(leads.most_under_way, 1u);
}

TEST(MultiRaftFaults, a_refused_snapshot_is_sent_again_after_a_pause) {
  Behind behind(15);
  Machines& machines = behind.machines;
  machines.restart(behind.away[0]);
  machines.one(behind.away[0]).lists[kGroup].refuses_snapshots = true;
  machines.sim_.run_for(20s);
  const std::uint64_t sent = machines.one(behind.leads).snapshots;
  EXPECT_GE(sent, 4u);
  EXPECT_LE(sent, 14u);
  machines.one(behind.away[0]).lists[kGroup].refuses_snapshots = false;
  ASSERT_TRUE(machines.all_have(kGroup, 101, 10s));
}

TEST(MultiRaftFaults, members_that_lag_behind_together_share_one_snapshot) {
  Behind behind(16, 5, 2);
  Machines& machines = behind.machines;
  machines.snapshot_time_ = 2s;
  const Stats before = machines.one(behind.leads).raft->stats();
  for (const std::size_t i : behind.away) machines.restart(i);
  ASSERT_TRUE(machines.sim_.run_until([&] { return machines.one(behind.leads).snapshots >= 1; }));
  ASSERT_FALSE(machines.propose(kGroup, "meanwhile"));
  ASSERT_TRUE(machines.all_have(kGroup, 102));
  const Stats after = machines.one(behind.leads).raft->stats();
  EXPECT_EQ(after.snapshots_sent - before.snapshots_sent, 2u);
  EXPECT_EQ(after.snapshots_encoded - before.snapshots_encoded, 1u);
}

TEST(MultiRaftFaults, stop_does_not_wait_for_a_snapshot_that_nobody_takes) {
  Behind behind(17);
  Machines& machines = behind.machines;
  machines.snapshot_time_ = 1h;
  machines.restart(behind.away[0]);
  ASSERT_TRUE(machines.sim_.run_until([&] { return machines.one(behind.leads).snapshots > 0; }));
  bool stopped = false;
  machines.node(behind.leads).spawn([&]() -> io::Task<void> {
    co_await machines.one(behind.leads).raft->stop();
    stopped = true;
  });
  EXPECT_TRUE(machines.sim_.run_until([&] { return stopped; }, 100ms));
}

TEST(MultiRaftFaults, who_lags_behind_a_little_needs_no_snapshot) {
  Machines machines(18, 3, 1);
  machines.options_.rewrite_bytes = 1'000;
  machines.restart_all();
  ASSERT_FALSE(machines.propose(kGroup, "first"));
  const std::size_t away = (leader_of(machines) + 1) % 3;
  machines.crash(away, false);
  for (int i = 0; i < 100; ++i) ASSERT_FALSE(machines.propose(kGroup, text_of(i)));
  EXPECT_GT(machines.one(leader_of(machines)).raft->stats().rewrites, 0u);
  machines.restart(away);
  ASSERT_TRUE(machines.all_have(kGroup, 101));
  EXPECT_EQ(machines.one(away).raft->stats().snapshots_taken, 0u);
}

TEST(MultiRaftFaults, what_did_not_leave_is_said_again_before_its_place_is_refused) {
  Machines machines(19, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  ASSERT_TRUE(machines.all_have(kGroup, 1));
  machines.sim_.run_for(100ms);
  const std::size_t leads = leader_of(machines);
  const std::size_t lags = (leads + 1) % 3;
  machines.cut_.insert({machines.one(leads).id, machines.one(lags).id});
  const std::uint64_t before = machines.one(lags).refusals;
  ASSERT_FALSE(machines.propose(kGroup, "two"));
  EXPECT_GT(machines.one(leads).raft->stats().frames_dropped, 0u);
  machines.heal();
  ASSERT_TRUE(machines.all_have(kGroup, 2));
  EXPECT_EQ(machines.one(lags).refusals, before);
}

TEST(MultiRaftFaults, each_of_many_who_wait_gets_its_own_answer) {
  Machines machines(20, 3, 1);
  const std::size_t leads = leader_of(machines);
  std::vector<raft::Index> at;
  std::size_t applied = 0;
  machines.node(leads).spawn([&]() -> io::Task<void> {
    MultiRaft& raft = *machines.one(leads).raft;
    const Instant deadline = io::Shard::current().now() + 5s;
    io::TaskGroup all;
    const auto propose = [&](int i) -> io::Task<void> {
      const auto index = co_await raft.propose(kGroup, bytes_of(text_of(i)), deadline);
      EXPECT_TRUE(index);
      if (index) at.push_back(*index);
    };
    const auto wait = [&](raft::Index index) -> io::Task<void> {
      applied += co_await raft.wait_applied(kGroup, index, deadline) ? 1U : 0U;
      EXPECT_GE(raft.status(kGroup).applied, index);
    };
    for (int i = 0; i < 2'000; ++i) {
      all.spawn(wait(raft::Index(static_cast<std::uint64_t>(i) + 1)));
      all.spawn(propose(i));
    }
    co_await all.join();
    at.emplace_back(UINT64_MAX);
  });
  ASSERT_TRUE(machines.sim_.run_until([&] { return at.size() == 2'001; }, 10s));
  EXPECT_TRUE(std::ranges::is_sorted(at));
  EXPECT_EQ(std::ranges::adjacent_find(at), at.end());
  EXPECT_EQ(applied, 2'000u);
}

}  // namespace
}  // namespace pyralog::multiraft
