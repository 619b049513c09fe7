// Reading from the replicas that follow.
#include "broker/cluster_testing.h"

namespace pyralog::broker {
namespace {

using namespace testing;
using ::testing::ElementsAre;

class ClusterReadsTest : public ClusterOfBrokersTest {
 protected:
  ClusterReadsTest() {
    in_racks_ = true;
    options_.replica_lag_time_max = 2s;
  }
  /// A topic with one record that all have; leader_, near_ and third_ are its replicas.
  void begin() {
    start_all();
    ASSERT_EQ(create(1, "t"), KafkaError::kNone);
    ASSERT_TRUE(write("t", "a"));
    ASSERT_TRUE(even("t"));
    leader_ = wait_leader("t");
    ASSERT_NE(leader_, 0);
    near_ = leader_ % kNodes + 1;
    third_ = 6 - leader_ - near_;
  }
  FetchOutcome from_near(std::int64_t offset, Duration wait = {}, std::int32_t epoch = -1) {
    return fetch_near(near_, rack_of(near_), offset, wait, epoch);
  }
  void cut_near_off() {
    sim_.net().block(machine(leader_), machine(near_));
    sim_.net().block(machine(near_), machine(leader_));
  }
  std::int32_t leader_ = 0, near_ = 0, third_ = 0;
};

TEST_F(ClusterReadsTest, a_reader_is_sent_to_the_replica_in_its_rack_and_read_to_there) {
  begin();
  for (const std::int32_t each : {near_, third_}) {
    FetchOutcome sent = fetch_near(leader_, rack_of(each), 0);
    EXPECT_EQ(sent.error, KafkaError::kNone);
    EXPECT_EQ(sent.read_from, NodeId(each));
    EXPECT_EQ(sent.bytes, 0u);
    FetchOutcome there = fetch_near(each, rack_of(each), 0);
    EXPECT_EQ(there.error, KafkaError::kNone);
    EXPECT_EQ(there.high_watermark, 1);
    EXPECT_THAT(values_in(each, there), ElementsAre("a"));
  }
  for (const std::string& rack : {rack_of(leader_), std::string("elsewhere"), std::string()}) {
    FetchOutcome here = fetch_near(leader_, rack, 0);
    EXPECT_EQ(here.read_from, std::nullopt) << rack;
    EXPECT_THAT(values_in(leader_, here), ElementsAre("a")) << rack;
  }
  EXPECT_EQ(fetch_near(near_, "", 0).error, KafkaError::kNotLeaderOrFollower)
      << "who names no rack reads from leaders";
  EXPECT_EQ(fetch_near(leader_, rack_of(near_), 7).error, KafkaError::kOffsetOutOfRange)
      << "is told here, and sent nowhere";
}

TEST_F(ClusterReadsTest, with_the_leader_as_the_selector_everybody_reads_there) {
  options_.read_by_rack = false;
  begin();
  FetchOutcome here = fetch_near(leader_, rack_of(near_), 0);
  EXPECT_EQ(here.read_from, std::nullopt);
  EXPECT_THAT(values_in(leader_, here), ElementsAre("a"));
  EXPECT_EQ(from_near(0).error, KafkaError::kNotLeaderOrFollower);
}

TEST_F(ClusterReadsTest, a_follower_shows_nothing_beyond_its_high_watermark) {
  begin();
  kill(third_);
  sim_.run_for(1s);
  // What it has taken it says late, so it is not committed for a while.
  sim_.net().slow(machine(near_), machine(leader_), 300ms);
  ASSERT_EQ(produce(leader_, "t", batch_of({"b"}), Acks::kLeader).error, KafkaError::kNone);
  ASSERT_TRUE(sim_.run_until([&] { return status(near_, "t").log_end == 2; }, 250ms));
  FetchOutcome shown = from_near(0);
  EXPECT_EQ(shown.error, KafkaError::kNone);
  EXPECT_EQ(shown.high_watermark, 1);
  EXPECT_THAT(values_in(near_, shown), ElementsAre("a"));
  FetchOutcome later = from_near(1, 5s);
  EXPECT_THAT(values_in(near_, later), ElementsAre("b"));
}

TEST_F(ClusterReadsTest, between_the_watermarks_a_reader_waits) {
  begin();
  sim_.net().slow(machine(leader_), machine(near_), 300ms);
  ASSERT_TRUE(write("t", "b"));
  ASSERT_EQ(status(leader_, "t").high_watermark, 2);
  ASSERT_EQ(status(near_, "t").log_end, 1);
  // At once it can only be told to ask who knows.
  EXPECT_EQ(from_near(2).error, KafkaError::kNotLeaderOrFollower);
  ASSERT_EQ(status(near_, "t").log_end, 1);
  FetchOutcome out;
  bool done = false;
  machine(near_).spawn([&, this]() -> io::Task<void> {
    std::vector<FetchItem> wanted(1);
    wanted[0].target = {"t", 0};
    wanted[0].offset = 2;
    wanted[0].max_bytes = 1 << 20;
    FetchBounds bounds{.min_bytes = 1, .deadline = io::Shard::current().now() + 10s};
    bounds.rack = rack_of(near_);
    auto all = co_await at(near_).broker->fetch(std::move(wanted), std::move(bounds));
    out = std::move(all.front());
    done = true;
  });
  sim_.run_for(1s);
  EXPECT_FALSE(done) << static_cast<int>(out.error);
  ASSERT_TRUE(write("t", "c"));
  ASSERT_TRUE(sim_.run_until([&] { return done; }, 5s));
  EXPECT_EQ(out.error, KafkaError::kNone);
  EXPECT_THAT(values_in(near_, out), ElementsAre("c"));
  // At the end it is as at a leader's.
  FetchOutcome end = from_near(3, 100ms);
  EXPECT_EQ(end.error, KafkaError::kNone);
  EXPECT_EQ(end.bytes, 0u);
}

TEST_F(ClusterReadsTest, who_is_cut_off_sends_its_readers_back_to_the_leader) {
  begin();
  cut_near_off();
  FetchOutcome soon = from_near(0);
  EXPECT_EQ(soon.error, KafkaError::kNone) << "it had all a moment ago";
  sim_.run_for(5s);
  EXPECT_EQ(from_near(0).error, KafkaError::kNotLeaderOrFollower);
  FetchOutcome kept = fetch_near(leader_, rack_of(near_), 0);
  EXPECT_EQ(kept.read_from, std::nullopt);
  EXPECT_THAT(values_in(leader_, kept), ElementsAre("a"));
  sim_.net().heal_all();
  EXPECT_TRUE(sim_.run_until(
      [&] {
        return from_near(0).error == KafkaError::kNone &&
               fetch_near(leader_, rack_of(near_), 0).read_from == NodeId(near_);
      },
      30s));
}

TEST_F(ClusterReadsTest, an_idle_follower_goes_on_being_read) {
  begin();
  for (int i = 0; i < 40; ++i) {
    sim_.run_for(250ms);
    ASSERT_EQ(from_near(0).error, KafkaError::kNone) << i;
    ASSERT_EQ(fetch_near(leader_, rack_of(near_), 0).read_from, NodeId(near_)) << i;
  }
}

TEST_F(ClusterReadsTest, a_follower_knows_its_leaders_epoch) {
  begin();
  const auto epoch = static_cast<std::int32_t>(status(leader_, "t").epoch);
  EXPECT_EQ(from_near(0, {}, epoch).error, KafkaError::kNone);
  EXPECT_EQ(from_near(0, {}, epoch + 1).error, KafkaError::kUnknownLeaderEpoch);
  const std::int32_t third = third_;
  sim_.run_for(2s);  // who has just come up is not handed anything
  ASSERT_EQ(
      run(leader_,
          [this, third]() -> io::Task<KafkaError> {
            co_return (co_await at(leader_).broker->move_leader({"t", 0}, NodeId(third))).error;
          }),
      KafkaError::kNone);
  ASSERT_TRUE(sim_.run_until([&] { return leads(third, "t"); }, 10s));
  ASSERT_TRUE(sim_.run_until([&] { return from_near(0).error == KafkaError::kNone; }, 10s));
  EXPECT_EQ(from_near(0, {}, epoch).error, KafkaError::kFencedLeaderEpoch);
  EXPECT_EQ(from_near(0, {}, static_cast<std::int32_t>(status(third, "t").epoch)).error,
            KafkaError::kNone);
}

TEST_F(ClusterReadsTest, what_is_below_its_log_is_out_of_range) {
  begin();
  ASSERT_TRUE(write("t", "b"));
  ASSERT_TRUE(run(leader_, [this]() -> io::Task<bool> {
    co_return (co_await at(leader_).broker->delete_records({"t", 0}, 1, 10s)).has_value();
  }));
  ASSERT_TRUE(sim_.run_until([&] { return status(near_, "t").log_start == 1; }, 10s));
  EXPECT_EQ(from_near(0).error, KafkaError::kOffsetOutOfRange);
  FetchOutcome rest = from_near(1);
  EXPECT_THAT(values_in(near_, rest), ElementsAre("b"));
}

TEST_F(ClusterReadsTest, who_has_just_started_is_read_once_it_has_heard_its_leader) {
  begin();
  kill(near_, true);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(write("t", std::to_string(i)));
  start(near_);
  ASSERT_TRUE(up({near_}));
  // Never an offset that is there is said not to be.
  FetchOutcome last;
  const bool shown = sim_.run_until(
      [&] {
        last = from_near(5);
        EXPECT_NE(last.error, KafkaError::kOffsetOutOfRange);
        return last.bytes > 0;
      },
      20s);
  EXPECT_TRUE(shown);
  EXPECT_THAT(values_in(near_, last), ElementsAre("4"));
}

}  // namespace
}  // namespace pyralog::broker
