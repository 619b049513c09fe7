// What the metadata log of a cluster promises: plans of any node, decided on the newest state.
#include "cluster/raft_log.h"

#include <gtest/gtest.h>

#include "cluster/entries.h"
#include "multiraft/testing.h"

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;

const multiraft::GroupId kGroup(0);

/// Three machines, each with the metadata log of one cluster.
class RaftLogTest : public ::testing::Test {
 protected:
  explicit RaftLogTest(std::uint64_t seed = 1) : sim_(seed) {
    for (std::int32_t i = 1; i <= 3; ++i) {
      sim_.add_node();
      nodes_.push_back(std::make_unique<One>(*this, NodeId(i)));
      voters_.voters.emplace_back(i);
    }
    for (auto& each : nodes_) boot(*each);
  }
  ~RaftLogTest() override {
    for (std::size_t i = 0; i < 3; ++i) sim_.node(i).kill();
  }

  struct One final : multiraft::Transport {
    One(RaftLogTest& test, NodeId node) : all(test), id(node) {}
    bool send(NodeId to, std::vector<multiraft::GroupMessage> messages) override {
      all.carry(id, to, [messages = std::move(messages), from = id](One& there) {
        there.raft->receive(from, messages);
      });
      return true;
    }
    io::Task<Result<void>> send_snapshot(multiraft::GroupMessage message,
                                         SharedBytes content) override {
      const NodeId to = message.message.to;
      all.carry(id, to, [message, content, from = id](One& there) {
        there.raft->install(from, message, content);
      });
      co_await io::sleep_for(10ms);
      co_return Result<void>{};
    }
    RaftLogTest& all;
    NodeId id;
    CatalogMachine machine;
    multiraft::MultiRaft* raft = nullptr;
    RaftLog* log = nullptr;
    std::vector<std::uint64_t> observed;
  };

  One& at(NodeId id) { return *nodes_[static_cast<std::size_t>(id.value - 1)]; }
  io::sim::Node& machine(const One& one) {
    return sim_.node(static_cast<std::size_t>(one.id.value - 1));
  }

  void carry(NodeId from, NodeId to, std::function<void(One&)> deliver) {
    if (cut_.contains(from) || cut_.contains(to)) return;
    One& there = at(to);
    sim_.schedule(std::chrono::microseconds(100 + sim_.rng().below(2000)), [this, &there, deliver] {
      if (!machine(there).up() || there.log == nullptr) return;
      machine(there).shard().post([&there, deliver] {
        if (there.log != nullptr) deliver(there);
      });
    });
  }

  void boot(One& one) {
    one.machine = CatalogMachine();
    machine(one).spawn([this, &one]() -> io::Task<void> {
      multiraft::Options options;
      options.path = "/raft.log";
      options.self = one.id;
      auto opened = co_await multiraft::MultiRaft::open(io::Shard::current().disk(), options,
                                                        {{kGroup, voters_, &one.machine}});
      PYRALOG_ASSERT(opened);
      const auto raft = std::move(*opened);
      RaftLog log(
          *raft, one.machine,
          [this, &one](NodeId leader, std::uint64_t expected, Bytes entries, Instant deadline) {
            return forward(one, leader, expected, std::move(entries), deadline);
          },
          {kGroup});
      const std::unique_ptr<One, void (*)(One*)> known(&one, [](One* gone) {
        gone->raft = nullptr;
        gone->log = nullptr;
      });
      one.raft = raft.get();
      one.log = &log;
      log.start();
      co_await log.on_change([&one](CatalogPtr state) -> io::Task<void> {
        one.observed.push_back(state->position());
        co_return;
      });
      raft->start(one);
      io::WaitList forever;
      co_await forever.wait(Instant::never());
    });
  }

  /// By way of the network: to the leader's log and back.
  io::Task<Result<Forwarded>> forward(One& from, NodeId leader, std::uint64_t expected,
                                      Bytes entries, Instant deadline) {
    struct Answer {
      std::optional<Forwarded> told;
      io::WaitList done;
    };
    const auto answer = std::make_shared<Answer>();
    carry(from.id, leader, [this, answer, &from, leader, expected, entries, deadline](One& there) {
      io::spawn_on(
          io::Shard::current(),
          [this, answer, &from, &there, leader, expected, entries, deadline]() -> io::Task<void> {
            Forwarded told = co_await there.log->take(expected, entries, deadline);
            carry(leader, from.id, [answer, told](One&) {
              answer->told = told;
              answer->done.wake_all();
            });
          });
    });
    if (cut_.contains(from.id) || cut_.contains(leader))
      co_return fail(Code::kUnavailable, "cut off");
    while (!answer->told) {
      if (!co_await answer->done.wait(std::min(deadline, io::Shard::current().now() + 500ms)))
        break;
    }
    if (!answer->told) co_return Forwarded{};
    co_return *answer->told;
  }

  std::optional<Error> propose(One& one, MetadataLog::Plan plan) {
    sim_.run_until([&] { return one.log != nullptr; });
    const auto done = machine(one).try_run([&]() -> io::Task<Result<CatalogPtr>> {
      auto made = co_await one.log->propose(plan);
      if (made) EXPECT_FALSE(one.observed.empty() || one.observed.back() < (*made)->position());
      co_return made;
    });
    PYRALOG_ASSERT(done);
    if (!*done) return done->error();
    return std::nullopt;
  }

  static MetadataLog::Plan created() {
    return [](const catalog::Catalog&) -> Result<std::vector<catalog::Entry>> {
      catalog::ClusterCreated made;
      made.cluster.bytes[0] = 7;
      return std::vector<catalog::Entry>{made};
    };
  }
  static MetadataLog::Plan block(NodeId node) {
    return [node](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
      return std::vector<catalog::Entry>{
          catalog::ProducerIdBlock{state.next_producer_id(), 10, node}};
    };
  }
  static MetadataLog::Plan registered(NodeId node, std::uint64_t boot) {
    return [node, boot](const catalog::Catalog&) -> Result<std::vector<catalog::Entry>> {
      catalog::NodeRegistered made;
      made.node = node;
      made.incarnation.bytes[0] = static_cast<std::uint8_t>(node.value);
      made.boot_counter = boot;
      made.host = "h";
      made.port = 1;
      return std::vector<catalog::Entry>{made};
    };
  }

  int leader() {
    for (std::size_t i = 0; i < 3; ++i) {
      if (sim_.node(i).up() && nodes_[i]->raft != nullptr &&
          nodes_[i]->raft->settled_leader(kGroup)) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }
  bool same(std::uint64_t position) {
    return sim_.run_until(
        [&] {
          return std::ranges::all_of(nodes_, [&](const auto& each) {
            return each->log != nullptr && each->log->catalog()->position() >= position;
          });
        },
        10s);
  }

  raft::Config voters_;
  std::vector<std::unique_ptr<One>> nodes_;
  std::set<NodeId> cut_;
  io::sim::Simulator sim_;
};

TEST_F(RaftLogTest, any_node_proposes_and_all_see_the_same) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  for (std::int32_t i = 1; i <= 3; ++i)
    ASSERT_FALSE(propose(at(NodeId(i)), registered(NodeId(i), 1)));
  for (int round = 0; round < 5; ++round) {
    for (std::int32_t i = 1; i <= 3; ++i) ASSERT_FALSE(propose(at(NodeId(i)), block(NodeId(i))));
  }
  ASSERT_TRUE(same(19));
  EXPECT_EQ(nodes_[0]->log->catalog()->next_producer_id(), 150);
  EXPECT_EQ(*nodes_[0]->log->catalog(), *nodes_[1]->log->catalog());
  EXPECT_EQ(*nodes_[0]->log->catalog(), *nodes_[2]->log->catalog());
  for (const auto& each : nodes_) {
    EXPECT_TRUE(std::ranges::is_sorted(each->observed));
  }
}

TEST_F(RaftLogTest, plans_made_at_once_never_get_the_same_state) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  for (std::int32_t i = 1; i <= 3; ++i)
    ASSERT_FALSE(propose(at(NodeId(i)), registered(NodeId(i), 1)));
  std::vector<std::int64_t> got;
  std::size_t ended = 0;
  for (const auto& each : nodes_) {
    for (int k = 0; k < 8; ++k) {
      machine(*each).spawn([&, one = each.get()]() -> io::Task<void> {
        std::int64_t mine = -1;
        const auto made = co_await one->log->propose([&](const catalog::Catalog& state) {
          mine = state.next_producer_id();
          return block(one->id)(state);
        });
        if (made) got.push_back(mine);
        ++ended;
      });
    }
  }
  ASSERT_TRUE(sim_.run_until([&] { return ended == 24; }, 60s));
  EXPECT_GE(got.size(), 20u);
  std::ranges::sort(got);
  EXPECT_EQ(std::ranges::adjacent_find(got), got.end()) << "two got the same ids";
}

TEST_F(RaftLogTest, a_burst_is_decided_together_and_each_plan_about_once) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  for (std::int32_t i = 1; i <= 3; ++i)
    ASSERT_FALSE(propose(at(NodeId(i)), registered(NodeId(i), 1)));
  for (const auto& each : nodes_) {
    machine(*each).disk().options().slow = 1;
    machine(*each).disk().options().slow_by = 3ms;
  }
  sim_.run_until([&] { return leader() >= 0; });
  const auto follower = static_cast<std::size_t>((leader() + 1) % 3);
  One& one = *nodes_[follower];
  std::size_t stand = 0;
  std::size_t ended = 0;
  std::size_t plans = 0;
  for (int k = 0; k < 3000; ++k) {
    machine(one).spawn([&]() -> io::Task<void> {
      const auto made = co_await one.log->propose([&](const catalog::Catalog& state) {
        ++plans;
        return block(one.id)(state);
      });
      if (made) ++stand;
      ++ended;
    });
  }
  const Instant began = sim_.now();
  ASSERT_TRUE(sim_.run_until([&] { return ended == 3000; }, 60s));
  EXPECT_EQ(stand, 3000u);
  EXPECT_LT(plans, 6000u);
  EXPECT_LT(sim_.now() - began, 2s);
  EXPECT_EQ(one.log->catalog()->next_producer_id(), 30'000);
}

TEST_F(RaftLogTest, who_is_answered_has_been_preceded_by_the_observer_even_with_nothing_to_do) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  sim_.run_until([&] { return leader() >= 0; });
  One& one = *nodes_[static_cast<std::size_t>(leader())];
  std::uint64_t observed = 0;
  machine(one).run([&]() -> io::Task<void> {
    co_await one.log->on_change([&](CatalogPtr state) -> io::Task<void> {
      co_await io::sleep_for(50ms);
      observed = state->position();
    });
  });
  std::size_t ended = 0;
  for (int k = 0; k < 2; ++k) {
    machine(one).spawn([&, k]() -> io::Task<void> {
      const auto made = co_await one.log->propose(
          [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
            if (k == 1 && state.node(NodeId(1)) != nullptr) return std::vector<catalog::Entry>{};
            return registered(NodeId(1), 1)(state);
          });
      EXPECT_TRUE(made);
      if (made) EXPECT_GE(observed, (*made)->position());
      ++ended;
    });
    sim_.run_for(5ms);
  }
  ASSERT_TRUE(sim_.run_until([&] { return ended == 2; }, 5s));
}

TEST_F(RaftLogTest, when_an_observer_is_taken_back_no_call_of_it_runs) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  One& one = *nodes_[0];
  bool runs = false;
  std::size_t calls = 0;
  machine(one).run([&]() -> io::Task<void> {
    co_await one.log->on_change([&](CatalogPtr) -> io::Task<void> {
      runs = true;
      ++calls;
      co_await io::sleep_for(100ms);
      runs = false;
    });
    co_await io::sleep_for(10ms);
    EXPECT_TRUE(runs);
    co_await one.log->on_change(nullptr);
    EXPECT_FALSE(runs);
  });
  // And the next one sees the state that the last one saw.
  std::uint64_t seen = 0;
  machine(one).run([&]() -> io::Task<void> {
    co_await one.log->on_change([&](CatalogPtr state) -> io::Task<void> {
      seen = state->position();
      co_return;
    });
    co_await io::sleep_for(10ms);
  });
  EXPECT_EQ(seen, one.log->catalog()->position());
  EXPECT_EQ(calls, 1u);
}

TEST_F(RaftLogTest, nothing_is_done_for_who_has_waited_too_long) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  sim_.run_until([&] { return leader() >= 0; });
  One& one = *nodes_[static_cast<std::size_t>(leader())];
  const auto late = machine(one).run([&]() -> io::Task<Forwarded> {
    const Bytes entries = encode_entries({registered(NodeId(1), 1)(*one.log->catalog())->front()});
    co_return co_await one.log->take(one.log->catalog()->position(), entries,
                                     io::Shard::current().now());
  });
  EXPECT_EQ(late.fate, Forwarded::Fate::kNotLeader);
  sim_.run_for(1s);
  EXPECT_EQ(one.log->catalog()->node(NodeId(1)), nullptr);
}

TEST_F(RaftLogTest, a_refusal_or_nothing_to_do_is_only_said_of_the_newest_state) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  ASSERT_FALSE(propose(*nodes_[0], registered(NodeId(1), 1)));
  ASSERT_TRUE(same(2));
  // One that has not heard of the newest yet: what it would say of its own state is not the answer.
  const auto lags = static_cast<std::size_t>((leader() + 1) % 3);
  cut_.insert(nodes_[lags]->id);
  ASSERT_FALSE(propose(*nodes_[static_cast<std::size_t>(leader())], registered(NodeId(2), 1)));
  cut_.clear();
  std::uint64_t decided_at = 0;
  const auto said = propose(
      *nodes_[lags], [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        decided_at = state.position();
        return fail(Code::kNotFound, "not there");
      });
  ASSERT_TRUE(said);
  EXPECT_EQ(said->code, Code::kNotFound);
  EXPECT_EQ(decided_at, 3u);
  // What the catalogue refuses is refused with its reason, from any node.
  for (const auto& each : nodes_) {
    const auto refused = propose(*each, registered(NodeId(2), 1));
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->code, Code::kFenced);
  }
}

TEST_F(RaftLogTest, without_a_majority_nothing_stands_and_the_reason_is_said) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  ASSERT_TRUE(same(1));
  cut_.insert(NodeId(1));
  const auto alone = propose(*nodes_[0], registered(NodeId(1), 1));
  ASSERT_TRUE(alone);
  EXPECT_TRUE(alone->code == Code::kUnavailable || alone->code == Code::kTimedOut);
  ASSERT_FALSE(propose(*nodes_[1], registered(NodeId(2), 1)));
  cut_.clear();
  ASSERT_TRUE(same(2));
  EXPECT_EQ(*nodes_[0]->log->catalog(), *nodes_[1]->log->catalog());
}

TEST_F(RaftLogTest, what_stands_survives_leaders_and_power) {
  ASSERT_FALSE(propose(*nodes_[0], created()));
  for (std::int32_t i = 1; i <= 3; ++i)
    ASSERT_FALSE(propose(at(NodeId(i)), registered(NodeId(i), 1)));
  std::int64_t granted = 0;
  for (int round = 0; round < 12; ++round) {
    const int leads = leader();
    if (leads >= 0 && round % 3 == 1) {
      io::sim::Node& gone = sim_.node(static_cast<std::size_t>(leads));
      gone.lose_power();
      // Who has asked the one that went cannot know what became of it, and asks again.
      One& asks = *nodes_[static_cast<std::size_t>((leads + 1) % 3)];
      std::optional<Error> said = propose(asks, block(NodeId(1)));
      for (int again = 0; again < 5 && said; ++again) {
        EXPECT_EQ(said->code, Code::kTimedOut);
        said = propose(asks, block(NodeId(1)));
      }
      ASSERT_FALSE(said) << said->message;
      granted += 10;
      gone.restart();
      boot(*nodes_[static_cast<std::size_t>(leads)]);
    }
    const auto said = propose(*nodes_[static_cast<std::size_t>(round % 3)], block(NodeId(2)));
    if (!said) granted += 10;
  }
  EXPECT_GE(granted, 100);
  std::uint64_t newest = 0;
  for (const auto& each : nodes_) newest = std::max(newest, each->log->catalog()->position());
  ASSERT_TRUE(same(newest));
  EXPECT_GE(nodes_[0]->log->catalog()->next_producer_id(), granted);
  EXPECT_EQ(*nodes_[0]->log->catalog(), *nodes_[1]->log->catalog());
}

}  // namespace
}  // namespace pyralog::cluster
