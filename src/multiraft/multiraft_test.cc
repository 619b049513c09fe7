#include "multiraft/multiraft.h"

#include "multiraft/testing.h"

namespace pyralog::multiraft {
namespace {

using testing::Machines;
using namespace std::chrono_literals;

const GroupId kGroup(0);

std::string text_of(int i) {
  return "entry " + std::to_string(i);
}

TEST(MultiRaftTest, agrees_and_applies_everywhere) {
  Machines machines(1, 3, 2);
  for (int i = 0; i < 20; ++i) {
    ASSERT_FALSE(machines.propose(kGroup, text_of(i)));
    ASSERT_FALSE(machines.propose(GroupId(1), "other"));
  }
  ASSERT_TRUE(machines.all_have(kGroup, 20));
  ASSERT_TRUE(machines.all_have(GroupId(1), 20));
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(machines.one(n).lists[kGroup].texts, machines.one(0).lists[kGroup].texts);
  }
}

TEST(MultiRaftTest, what_was_agreed_survives_power_loss_of_all) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Machines machines(seed, 3, 3);
    int agreed = 0;
    for (int i = 0; i < 5; ++i) {
      if (!machines.propose(kGroup, text_of(i))) ++agreed;
    }
    ASSERT_EQ(agreed, 5) << seed;
    for (std::size_t n = 0; n < 3; ++n) machines.crash(n, true);
    for (std::size_t n = 0; n < 3; ++n) machines.restart(n);
    ASSERT_TRUE(machines.all_have(kGroup, 5)) << seed;
    for (std::size_t n = 0; n < 3; ++n) {
      const auto& texts = machines.one(n).lists[kGroup].texts;
      for (int i = 0; i < 5; ++i) EXPECT_EQ(texts[static_cast<std::size_t>(i)], text_of(i)) << seed;
    }
  }
}

TEST(MultiRaftTest, goes_on_under_crashes_cuts_and_loss_and_loses_nothing) {
  std::uint64_t crashes = 0;
  std::uint64_t rewrites = 0;
  std::uint64_t snapshots = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Machines machines(seed, 3, 4);
    machines.options_.rewrite_bytes = 2000;
    machines.options_.keep.entries = seed % 4;
    machines.restart_all();
    machines.loss_ = machines.sim_.rng().below(100);
    std::vector<std::string> agreed;
    std::optional<std::size_t> down;
    for (int i = 0; i < 60; ++i) {
      const std::uint64_t what = machines.sim_.rng().below(10);
      if (what == 0 && !down) {
        down = machines.sim_.rng().below(3);
        machines.crash(*down, machines.sim_.rng().below(2) == 0);
        ++crashes;
      } else if (what == 1 && down) {
        machines.restart(*down);
        down.reset();
      } else if (what == 2 && !down) {
        machines.cut(machines.sim_.rng().below(3));
      } else if (what == 3) {
        machines.heal();
      }
      const std::string text = std::to_string(seed) + "/" + std::to_string(i);
      if (!machines.propose(kGroup, text, 1s)) agreed.push_back(text);
      (void)machines.propose(GroupId(1), std::string(50, 'x'), 1s);
    }
    if (down) machines.restart(*down);
    machines.heal();
    machines.loss_ = 0;
    ASSERT_FALSE(machines.propose(kGroup, "last", 5s)) << seed;
    ASSERT_TRUE(machines.sim_.run_until(
        [&] {
          return std::ranges::all_of(machines.nodes_, [](const auto& each) {
            auto& texts = each->lists[kGroup].texts;
            return !texts.empty() && texts.back() == "last";
          });
        },
        20s))
        << seed;
    const auto& texts = machines.one(0).lists[kGroup].texts;
    for (std::size_t n = 1; n < 3; ++n)
      EXPECT_EQ(machines.one(n).lists[kGroup].texts, texts) << seed;
    // All that was answered is there, in that order.
    auto at = texts.begin();
    for (const std::string& each : agreed) {
      at = std::find(at, texts.end(), each);
      ASSERT_NE(at, texts.end()) << "seed " << seed << ": " << each << " is lost";
    }
    for (std::size_t n = 0; n < 3; ++n) {
      rewrites += machines.one(n).raft->stats().rewrites;
      snapshots += machines.one(n).raft->stats().snapshots_taken;
    }
  }
  EXPECT_GT(crashes, 20u);
  EXPECT_GT(rewrites, 20u);
  EXPECT_GT(snapshots, 0u);
}

TEST(MultiRaftTest, who_was_away_for_long_gets_a_snapshot) {
  Machines machines(7, 3, 1);
  machines.options_.rewrite_bytes = 1000;
  machines.options_.keep = {};
  machines.restart_all();
  ASSERT_FALSE(machines.propose(kGroup, "first"));
  const auto away = static_cast<std::size_t>((machines.leader(kGroup) + 1) % 3);
  machines.crash(away, false);
  for (int i = 0; i < 100; ++i) ASSERT_FALSE(machines.propose(kGroup, text_of(i)));
  const auto leads = static_cast<std::size_t>(machines.leader(kGroup));
  EXPECT_GT(machines.one(leads).raft->stats().rewrites, 0u);
  EXPECT_LT(machines.node(leads).disk().peek("/raft.log")->size(), 20'000u);
  machines.restart(away);
  ASSERT_TRUE(machines.all_have(kGroup, 101));
  EXPECT_GT(machines.one(away).raft->stats().snapshots_taken, 0u);
  // And it is the whole state for its own next start, too.
  machines.crash(away, true);
  machines.restart(away);
  ASSERT_TRUE(machines.all_have(kGroup, 101));
  EXPECT_EQ(machines.one(away).lists[kGroup].texts, machines.one(leads).lists[kGroup].texts);
}

TEST(MultiRaftTest, two_hundred_groups_send_one_frame_a_peer_and_survive_a_node) {
  Machines machines(3, 3, 200);
  for (std::uint16_t g = 0; g < 200; ++g) ASSERT_FALSE(machines.propose(GroupId(g), "one")) << g;
  machines.sim_.run_for(2s);
  // Idle: a heartbeat of all groups is one frame each way, whatever their number.
  std::uint64_t before = 0;
  for (std::size_t n = 0; n < 3; ++n) before += machines.one(n).frames;
  machines.sim_.run_for(3s);
  std::uint64_t after = 0;
  for (std::size_t n = 0; n < 3; ++n) after += machines.one(n).frames;
  const std::uint64_t ticks = 100;                     // of 30 ms
  EXPECT_LE(after - before, ticks * 3 * 2 * 2 + 100);  // to and fro, between three
  machines.crash(0, true);
  const Instant died = machines.sim_.now();
  for (std::uint16_t g = 0; g < 200; ++g) ASSERT_FALSE(machines.propose(GroupId(g), "two")) << g;
  EXPECT_LT(machines.sim_.now() - died, 3s);
}

TEST(MultiRaftTest, a_failed_journal_takes_the_node_out_and_a_start_brings_it_back) {
  Machines machines(5, 3, 2);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const auto leads = static_cast<std::size_t>(machines.leader(kGroup));
  machines.node(leads).disk().options().sync_error = 1;
  const auto failed = machines.propose(kGroup, "two");
  ASSERT_TRUE(failed);
  EXPECT_TRUE(machines.one(leads).raft->dead());
  machines.node(leads).disk().options().sync_error = 0;
  machines.cut(leads);  // nobody hears of it: what it says is not what keeps the others going
  ASSERT_TRUE(machines.sim_.run_until([&] {
    const int now = machines.leader(kGroup);
    return now >= 0 && static_cast<std::size_t>(now) != leads;
  }));
  ASSERT_FALSE(machines.propose(kGroup, "three"));
  machines.heal();
  machines.crash(leads, false);
  machines.restart(leads);
  ASSERT_FALSE(machines.propose(kGroup, "four"));
  ASSERT_TRUE(machines.sim_.run_until([&] {
    const auto& texts = machines.one(leads).lists[kGroup].texts;
    return !texts.empty() && texts.back() == "four";
  }));
}

TEST(MultiRaftTest, a_full_disk_holds_a_node_up_and_nothing_else) {
  Machines machines(6, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const auto follows = static_cast<std::size_t>((machines.leader(kGroup) + 1) % 3);
  machines.node(follows).disk().set_hook([](io::sim::DiskOp op, const std::string&) {
    return op == io::sim::DiskOp::kWrite ? io::sim::DiskFault::kNoSpace : io::sim::DiskFault::kNone;
  });
  for (int i = 0; i < 20; ++i) ASSERT_FALSE(machines.propose(kGroup, text_of(i)));
  machines.sim_.run_for(1s);
  EXPECT_FALSE(machines.one(follows).raft->dead());
  machines.node(follows).disk().set_hook(nullptr);
  ASSERT_TRUE(machines.all_have(kGroup, 21));
  machines.crash(follows, true);
  machines.restart(follows);
  ASSERT_TRUE(machines.all_have(kGroup, 21));
}

TEST(MultiRaftTest, a_leader_that_is_cut_off_confirms_no_read) {
  Machines machines(8, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const auto leads = static_cast<std::size_t>(machines.leader(kGroup));
  const auto read = [&](Duration limit) {
    return *machines.node(leads).try_run([&, limit]() -> io::Task<Result<raft::Index>> {
      co_return co_await machines.one(leads).raft->read(kGroup, io::Shard::current().now() + limit);
    });
  };
  EXPECT_TRUE(read(1s));
  machines.cut(leads);
  const auto cut_off = read(100ms);
  ASSERT_FALSE(cut_off);
  EXPECT_EQ(cut_off.error().code, Code::kUnavailable);
}

TEST(MultiRaftTest, a_stop_says_that_what_was_appended_may_stand) {
  Machines machines(13, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const auto leads = static_cast<std::size_t>(machines.leader(kGroup));
  std::optional<Code> told;
  machines.node(leads).spawn([&]() -> io::Task<void> {
    const auto done = co_await machines.one(leads).raft->propose(
        kGroup, SharedBytes::copy(as_bytes("under way")), io::Shard::current().now() + 5s);
    told = done ? Code::kAlreadyExists : done.error().code;
  });
  machines.node(leads).spawn([&]() -> io::Task<void> {
    co_await io::yield();
    co_await machines.one(leads).raft->stop();
  });
  ASSERT_TRUE(machines.sim_.run_until([&] { return told.has_value(); }, 5s));
  EXPECT_EQ(*told, Code::kTimedOut);
}

TEST(MultiRaftTest, hands_the_lead_over) {
  Machines machines(9, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const auto leads = static_cast<std::size_t>(machines.leader(kGroup));
  const NodeId next = machines.one((leads + 1) % 3).id;
  ASSERT_TRUE(machines.all_have(kGroup, 1));
  ASSERT_TRUE(*machines.node(leads).try_run([&]() -> io::Task<Result<void>> {
    co_return machines.one(leads).raft->transfer(kGroup, next);
  }));
  const Instant began = machines.sim_.now();
  ASSERT_TRUE(machines.sim_.run_until([&] {
    return machines.leader(kGroup) >= 0 &&
           machines.one(static_cast<std::size_t>(machines.leader(kGroup))).id == next;
  }));
  EXPECT_LT(machines.sim_.now() - began, 50ms);
}

TEST(MultiRaftTest, messages_that_cannot_be_for_it_change_nothing) {
  Machines machines(10, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  const auto leads = static_cast<std::size_t>(machines.leader(kGroup));
  testing::Machines::One& one = machines.one(leads);
  machines.node(leads).run([&]() -> io::Task<void> {
    raft::Message m;
    m.kind = raft::MessageKind::kAppend;
    m.from = NodeId(one.id.value % 3 + 1);
    m.to = one.id;
    m.term = raft::Term(1000);
    m.index = raft::Index(1);
    m.entries.resize(2);  // whose indexes do not follow
    one.raft->receive(m.from, {{kGroup, m}});
    m.entries.clear();
    one.raft->receive(m.from, {{GroupId(77), m}});  // no such group
    one.raft->receive(NodeId(9), {{kGroup, m}});    // not who it says
    m.kind = raft::MessageKind::kSnapshot;
    one.raft->receive(m.from, {{kGroup, m}});  // without its content
    m.snapshot = raft::SnapshotMark{raft::Index(100), raft::Term(1), {}};
    one.raft->install(m.from, {kGroup, m}, SharedBytes::copy(as_bytes("bad")));
    co_return;
  });
  EXPECT_FALSE(machines.propose(kGroup, "two"));
  EXPECT_EQ(machines.leader(kGroup), static_cast<int>(leads));
}

TEST(MultiRaftTest, a_member_that_does_not_understand_an_entry_stops_before_it) {
  Machines machines(12, 3, 1);
  ASSERT_FALSE(machines.propose(kGroup, "one"));
  ASSERT_TRUE(machines.all_have(kGroup, 1));
  EXPECT_TRUE(machines.propose(kGroup, "newer"));
  machines.sim_.run_for(1s);
  for (std::size_t n = 0; n < 3; ++n) {
    EXPECT_EQ(machines.one(n).lists[kGroup].texts.size(), 1u);
    if (!machines.one(n).raft->dead()) continue;  // it has not heard that it is agreed
    const GroupStatus status = machines.one(n).raft->status(kGroup);
    // A leader that came after it may have had its first entry agreed on behind it.
    EXPECT_LT(status.applied, status.committed);
  }
  EXPECT_EQ(machines.leader(kGroup), -1);
}

TEST(MultiRaftTest, peek_shows_what_is_agreed_and_changes_nothing) {
  Machines machines(11, 1, 1);
  for (int i = 0; i < 5; ++i) ASSERT_FALSE(machines.propose(kGroup, text_of(i)));
  machines.sim_.run_for(1s);
  machines.crash(0, false);
  machines.node(0).restart();
  const Bytes before = *machines.node(0).disk().peek("/raft.log");
  testing::List list;
  const auto peeked = machines.node(0).run([&]() -> io::Task<Result<void>> {
    Options options;
    options.path = "/raft.log";
    co_return co_await MultiRaft::peek(io::Shard::current().disk(), options, kGroup, list);
  });
  ASSERT_TRUE(peeked) << peeked.error().message;
  EXPECT_GE(list.texts.size(), 4u);  // that the last one is agreed may not be written
  EXPECT_EQ(*machines.node(0).disk().peek("/raft.log"), before);
}

}  // namespace
}  // namespace pyralog::multiraft
