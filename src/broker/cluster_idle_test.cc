// What a cluster does while nobody wants anything of it.
#include "broker/cluster_testing.h"

namespace pyralog::broker {
namespace {

using namespace testing;

class ClusterIdleTest : public ClusterOfBrokersTest {
 protected:
  // Heartbeats are a third of that apart.
  ClusterIdleTest() { options_.replica_lag_time_max = 600ms; }

  struct Work {
    std::uint64_t messages = 0;  ///< that nodes send each other, but for beats of connections
    std::uint64_t events = 0;    ///< wake-ups among them
  };
  std::uint64_t messages() {
    std::uint64_t sum = 0;
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      for (unsigned s = 0; s < 2; ++s) {
        const peer::Links::Stats& links = at(i).cluster->joined()->peers().links(s).stats();
        sum += links.calls + links.casts;
      }
    }
    return sum;
  }
  Work idle_for(Duration time) {
    Work work;
    const std::uint64_t before = messages();
    for (const Instant until = sim_.now() + time; sim_.now() < until; ++work.events) sim_.step();
    work.messages = messages() - before;
    return work;
  }
  /// Of the replicas of all partitions of `topic`, how many are in sync.
  std::size_t in_sync(const std::string& topic) {
    return run(1, [=, this]() -> io::Task<std::size_t> {
      const auto found = at(1).broker->catalog()->topic(topic);
      std::size_t sum = 0;
      for (const auto& each : found->partitions) {
        sum += at(1).broker->roles(*found, *each).in_sync.size();
      }
      co_return sum;
    });
  }
};

TEST_F(ClusterIdleTest, says_and_wakes_as_often_however_many_partitions_there_are) {
  start_all();
  ASSERT_EQ(create(1, "few", 6), KafkaError::kNone);
  sim_.run_for(5s);
  const Work few = idle_for(10s);
  ASSERT_EQ(create(1, "many", 120), KafkaError::kNone);
  sim_.run_for(5s);
  const Work many = idle_for(10s);
  EXPECT_EQ(in_sync("many"), 360u) << "all that is said is said";
  EXPECT_LE(many.messages, few.messages + few.messages / 20);
  // A longer message may come in more pieces.
  EXPECT_LE(many.events, few.events + few.events / 2);
}

TEST_F(ClusterIdleTest, whoever_has_all_there_is_keeps_up_though_nothing_comes) {
  start_all();
  ASSERT_EQ(create(1, "t", 6), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_TRUE(even("t"));
  sim_.run_for(20s);
  EXPECT_EQ(in_sync("t"), 18u);
  const std::int32_t leader = wait_leader("t");
  EXPECT_EQ(produce(leader, "t", batch_of({"b"})).error, KafkaError::kNone)
      << "its followers have been heard of";
}

}  // namespace
}  // namespace pyralog::broker
