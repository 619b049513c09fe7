// A leader that is cut off from the others: nobody is kept waiting there, and its coordinators say
// nothing that another one may have gone beyond.
#include "broker/cluster_testing.h"

namespace pyralog::broker {
namespace {

using namespace testing;
using ::testing::ElementsAre;

class CutOffTest : public ClusterOfBrokersTest {
 protected:
  /// A topic with one record that all have, and its leader.
  void begin() {
    start_all();
    ASSERT_EQ(create(1, "t"), KafkaError::kNone);
    ASSERT_TRUE(write("t", "a"));
    ASSERT_TRUE(even("t"));
    leader_ = wait_leader("t");
    ASSERT_NE(leader_, 0);
  }
  void cut_off(std::int32_t i) {
    for (std::int32_t other = 1; other <= kNodes; ++other) {
      if (other == i) continue;
      sim_.net().block(machine(i), machine(other));
      sim_.net().block(machine(other), machine(i));
    }
  }
  /// A fetch at `offset` that may wait for `wait`.
  struct Waiting {
    std::optional<FetchOutcome> out;
    Instant ended;
  };
  std::shared_ptr<Waiting> wait_at(std::int32_t i, std::int64_t offset, Duration wait,
                                   std::uint64_t min_bytes = 1) {
    auto waiting = std::make_shared<Waiting>();
    machine(i).spawn([this, i, offset, wait, min_bytes, waiting]() -> io::Task<void> {
      std::vector<FetchItem> wanted(1);
      wanted[0].target = {"t", 0};
      wanted[0].offset = offset;
      wanted[0].max_bytes = 1 << 20;
      FetchBounds bounds{.min_bytes = min_bytes, .deadline = io::Shard::current().now() + wait};
      auto all = co_await at(i).broker->fetch(std::move(wanted), std::move(bounds));
      waiting->out = std::move(all.front());
      waiting->ended = io::Shard::current().now();
    });
    return waiting;
  }
  OffsetAnswer offset_of(std::int32_t i, std::int64_t timestamp) {
    return run(i, [=, this]() -> io::Task<OffsetAnswer> {
      std::vector<OffsetQuery> queries{{{"t", 0}, -1, timestamp}};
      co_return (co_await at(i).broker->list_offsets(std::move(queries))).front();
    });
  }
  bool refuses(std::int32_t i) {
    return fetch(i, "t", 1).error == KafkaError::kNotLeaderOrFollower;
  }
  std::int32_t leader_ = 0;
};

TEST_F(CutOffTest, nobody_waits_at_a_leader_that_is_cut_off) {
  begin();
  const auto waiting = wait_at(leader_, 1, 60s);
  const auto for_more = wait_at(leader_, 0, 60s, 1'000'000);
  sim_.run_for(1s);
  const Instant cut = sim_.now();
  cut_off(leader_);
  ASSERT_TRUE(sim_.run_until([&] { return waiting->out && for_more->out; }, 5s));
  EXPECT_LT(waiting->ended - cut, 3s);
  EXPECT_EQ(waiting->out->error, KafkaError::kNotLeaderOrFollower);
  EXPECT_EQ(for_more->out->error, KafkaError::kNone) << "gets what there is";
  EXPECT_THAT(values_in(leader_, *for_more->out), ElementsAre("a"));
  // What was committed is shown; of what comes then, and whether it is there, others know.
  EXPECT_EQ(fetch(leader_, "t", 1).error, KafkaError::kNotLeaderOrFollower);
  EXPECT_EQ(fetch(leader_, "t", 2).error, KafkaError::kNotLeaderOrFollower);
  FetchOutcome before = fetch(leader_, "t", 0);
  EXPECT_EQ(before.error, KafkaError::kNone);
  EXPECT_THAT(values_in(leader_, before), ElementsAre("a"));
  EXPECT_EQ(offset_of(leader_, -1).error, KafkaError::kNotLeaderOrFollower);
  EXPECT_EQ(offset_of(leader_, -2).error, KafkaError::kNone);
  EXPECT_EQ(run(leader_,
                [this]() -> io::Task<KafkaError> {
                  const auto gone = co_await at(leader_).broker->delete_records({"t", 0}, 1, 1s);
                  co_return gone ? KafkaError::kNone : gone.error();
                }),
            KafkaError::kNotLeaderOrFollower);
  sim_.net().heal_all();
  EXPECT_TRUE(write("t", "b"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));
}

TEST_F(CutOffTest, who_waits_for_a_commit_is_sent_away) {
  begin();
  sim_.run_for(1s);
  cut_off(leader_);
  const Instant asked = sim_.now();
  EXPECT_EQ(produce(leader_, "t", batch_of({"b"})).error, KafkaError::kNotLeaderOrFollower);
  EXPECT_LT(sim_.now() - asked, 3s);
}

TEST_F(CutOffTest, a_leader_that_is_back_and_was_not_replaced_serves_on) {
  begin();
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    if (i != leader_) kill(i);
  }
  ASSERT_TRUE(sim_.run_until([&] { return refuses(leader_); }, 5s));
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    if (i != leader_) start(i);
  }
  ASSERT_TRUE(up({1, 2, 3}));
  ASSERT_TRUE(sim_.run_until([&] { return leader(leader_, "t") != 0 && write("t", "b"); }, 20s));
  leader_ = wait_leader("t");
  EXPECT_FALSE(refuses(leader_));
}

TEST_F(CutOffTest, neither_a_short_pause_nor_another_leader_of_the_metadata_sends_anybody_away) {
  begin();
  sim_.run_for(2s);
  const auto waiting = wait_at(leader_, 1, 12s);
  cut_off(leader_);
  sim_.run_for(500ms);
  sim_.net().heal_all();
  sim_.run_for(2s);
  ASSERT_FALSE(waiting->out);
  const NodeId metadata = run(leader_, [this]() -> io::Task<NodeId> {
    co_return at(leader_).cluster->joined()->raft().status(cluster::kGlobalGroup).leader;
  });
  // Where both are led by the same node there is nobody else to be elected.
  const std::int32_t down = metadata.value != leader_ ? metadata.value : leader_ % kNodes + 1;
  kill(down);
  sim_.run_for(5s);
  ASSERT_FALSE(waiting->out) << static_cast<int>(waiting->out->error);
  ASSERT_TRUE(sim_.run_until([&] { return waiting->out.has_value(); }, 10s));
  EXPECT_EQ(waiting->out->error, KafkaError::kNone);
}

TEST_F(CutOffTest, who_cannot_reach_the_leader_of_the_metadata_soon_hears_that_another_leads) {
  begin();
  sim_.run_for(2s);
  const NodeId metadata = run(leader_, [this]() -> io::Task<NodeId> {
    co_return at(leader_).cluster->joined()->raft().status(cluster::kGlobalGroup).leader;
  });
  const std::int32_t third = 6 - leader_ - metadata.value;
  if (metadata.value == leader_) {
    // Another one is to lead the partition.
    const std::int32_t to = leader_ % kNodes + 1;
    ASSERT_EQ(
        run(leader_,
            [this, to]() -> io::Task<KafkaError> {
              co_return (co_await at(leader_).broker->move_leader({"t", 0}, NodeId(to))).error;
            }),
        KafkaError::kNone);
    ASSERT_TRUE(sim_.run_until([&] { return leads(to, "t"); }, 10s));
    leader_ = to;
    sim_.run_for(2s);
  } else {
    ASSERT_NE(third, leader_);
  }
  const auto waiting = wait_at(leader_, 1, 60s);
  sim_.net().block(machine(leader_), machine(metadata.value));
  sim_.net().block(machine(metadata.value), machine(leader_));
  ASSERT_TRUE(sim_.run_until([&] { return waiting->out.has_value(); }, 4s))
      << "heartbeats alone would say so after five seconds";
  EXPECT_EQ(waiting->out->error, KafkaError::kNotLeaderOrFollower);
}

class CutOffGroupsTest : public CutOffTest {
 protected:
  /// Who coordinates the group, which has committed 1; 0 = nobody.
  std::int32_t coordinator() {
    begin();
    EXPECT_EQ(run(leader_,
                  [this]() -> io::Task<KafkaError> {
                    co_return (co_await at(leader_).broker->ensure_offsets_topic()).error;
                  }),
              KafkaError::kNone);
    EXPECT_EQ(commit("g", 1), KafkaError::kNone);
    std::int32_t found = 0;
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (commit_at(i, 1) == KafkaError::kNone) found = i;
    }
    sim_.run_for(2s);
    return found;
  }
  KafkaError commit_at(std::int32_t i, std::int64_t offset) {
    return run(i, [=, this]() -> io::Task<KafkaError> {
      group::CommitRequest request;
      request.group = "g";
      request.generation = -1;
      request.partitions.push_back({"t", 0, offset, -1, ""});
      const auto answer =
          co_await at(i).broker->with_group("g", [&](GroupHost& host) -> io::Task<group::Response> {
            co_return co_await host.ask(group::Input(request));
          });
      if (!answer) co_return answer.error();
      co_return std::get<group::CommitResponse>(*answer).partitions.front().error;
    });
  }
  /// What a node says was committed, whenever it does.
  struct Said {
    std::int64_t offset = -1;
    Instant at;
  };
  io::Task<void> listen(std::int32_t i, std::shared_ptr<std::vector<Said>> said, Instant until) {
    while (io::Shard::current().now() < until) {
      group::FetchOffsetsRequest request;
      request.group = "g";
      request.topics.emplace();
      request.topics->push_back({"t", {0}});
      const Instant asked = io::Shard::current().now();
      const auto answer = co_await at(i).broker->with_group(
          "g", [&](GroupHost& host) -> io::Task<group::FetchOffsetsResponse> {
            co_return host.table().fetch_offsets(request);
          });
      if (answer && answer->error == KafkaError::kNone) {
        said->push_back({answer->partitions.front().offset, asked});
      }
      co_await io::sleep_for(5ms);  // of virtual time: how often it is asked
    }
  }
};

TEST_F(CutOffGroupsTest, what_is_stored_waits_for_its_replicas_though_all_are_cut_off) {
  const std::int32_t by = coordinator();
  ASSERT_NE(by, 0);
  auto stored = std::make_shared<std::optional<KafkaError>>();
  machine(by).spawn([this, by, stored]() -> io::Task<void> {
    group::CommitRequest request;
    request.group = "g";
    request.generation = -1;
    request.partitions.push_back({"t", 0, 2, -1, ""});
    const auto answer = co_await at(by).broker->with_group(
        "g", [&request](GroupHost& host) -> io::Task<group::Response> {
          co_return co_await host.ask(group::Input(request));
        });
    *stored = answer ? std::get<group::CommitResponse>(*answer).partitions.front().error
                     : answer.error();
  });
  for (std::int32_t i = 1; i <= kNodes; ++i) cut_off(i);
  sim_.run_for(2'500ms);
  ASSERT_FALSE(stored->has_value()) << static_cast<int>(**stored);
  sim_.net().heal_all();
  ASSERT_TRUE(sim_.run_until([&] { return stored->has_value(); }, 5s));
  EXPECT_EQ(**stored, KafkaError::kNone);
}

TEST_F(CutOffGroupsTest, a_coordinator_says_nothing_once_another_one_may_have_begun) {
  const std::int32_t old = coordinator();
  ASSERT_NE(old, 0);
  auto said = std::make_shared<std::vector<Said>>();
  machine(old).spawn(
      [this, old, said] { return listen(old, said, io::Shard::current().now() + 10s); });
  sim_.run_for(100ms);
  ASSERT_FALSE(said->empty()) << "it speaks while it leads";
  cut_off(old);
  bool committed = false;
  for (const Instant end = sim_.now() + 8s; !committed && sim_.now() < end; sim_.run_for(5ms)) {
    for (std::int32_t i = 1; i <= kNodes && !committed; ++i) {
      committed = i != old && commit_at(i, 2) == KafkaError::kNone;
    }
  }
  ASSERT_TRUE(committed);
  const Instant then = sim_.now();
  sim_.run_for(4s);
  for (const Said& each : *said) {
    EXPECT_FALSE(each.at > then && each.offset == 1)
        << "said " << (each.at - then).count() / 1'000'000 << " ms after 2 was committed elsewhere";
  }
}

}  // namespace
}  // namespace pyralog::broker
