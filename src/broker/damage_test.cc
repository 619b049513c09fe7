// One of three replicas has damaged records: nobody is served them, and it gets the others' again.
#include "broker/cluster_testing.h"

namespace pyralog::broker::testing {
namespace {

class DamageTest : public ClusterOfBrokersTest {
 protected:
  static std::string value(int i) { return std::to_string(i) + std::string(3'000, 'x'); }
  /// A topic "t" of several segments that all three hold.
  void fill(std::int16_t replicas = 3) {
    ASSERT_EQ(create(1, "t", 1, {{"segment.bytes", "16384"}}, replicas), KafkaError::kNone);
    for (int i = 0; i < 40; ++i) {
      all_.push_back(value(i));
      ASSERT_TRUE(write("t", all_.back()));
    }
    sim_.run_for(3s);
    dir_ = "/data/" + to_string(at(1).cluster->catalog()->topic("t")->id.uuid) + "-0";
  }
  std::string kept() const { return dir_ + ".damaged"; }
  void damage(std::int32_t i, std::uint64_t position = 300) {
    ASSERT_TRUE(
        machine(i).disk().corrupt(dir_ + "/00000000000000000000.log", position, 4).has_value());
  }
  void restart(std::int32_t i) {
    start(i);
    ASSERT_TRUE(up({i})) << at(i).refused;
  }
  /// Who led when it was killed, and has started again with a batch that is damaged.
  std::int32_t damaged_leader() {
    start_all();
    fill();
    const std::int32_t led = wait_leader("t");
    kill(led);
    damage(led);
    restart(led);
    EXPECT_TRUE(even("t"));
    return led;
  }
  std::int32_t other_than(std::int32_t a, std::int32_t b = 0) {
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (i != a && i != b) return i;
    }
    return 0;
  }
  bool lead(std::int32_t i) {
    return sim_.run_until(
        [&] {
          if (leader(i, "t") == i) return true;
          (void)run(i, [&, this]() -> io::Task<KafkaError> {
            co_return (co_await at(i).broker->move_leader({"t", 0}, NodeId(i))).error;
          });
          return false;
        },
        20s);
  }
  std::vector<std::string> all_;
  std::string dir_;
};

TEST_F(DamageTest, a_reader_that_meets_it_is_served_by_others_and_it_is_made_anew) {
  options_.producer_snapshot_interval = 1s;  // so that a start reads no log
  start_all();
  fill();
  const std::int32_t hurt = other_than(wait_leader("t"));
  kill(hurt);
  damage(hurt);
  restart(hurt);
  ASSERT_TRUE(even("t"));
  sim_.run_for(3s);
  ASSERT_TRUE(lead(hurt));
  EXPECT_EQ(read("t"), all_);
  EXPECT_NE(wait_leader("t"), hurt);
  ASSERT_TRUE(sim_.run_until([&] { return machine(hurt).disk().has(kept()); }, 20s));
  all_.emplace_back("more");
  ASSERT_TRUE(write("t", all_.back()));
  ASSERT_TRUE(even("t", 60s));
  EXPECT_TRUE(sim_.run_until([&] { return !machine(hurt).disk().has(kept()); }, 20s))
      << "what was kept goes when it is not needed any more";
  sim_.run_for(3s);
  ASSERT_TRUE(lead(hurt));
  EXPECT_EQ(read("t"), all_);
  EXPECT_EQ(wait_leader("t"), hurt) << "nothing is wrong with it now";
}

TEST_F(DamageTest, the_scrubber_finds_it_before_a_reader_does) {
  options_.producer_snapshot_interval = 1s;
  options_.scrub_interval = 20s;
  const std::int32_t led = damaged_leader();
  ASSERT_TRUE(sim_.run_until([&] { return machine(led).disk().has(kept()); }, 120s));
  ASSERT_TRUE(even("t", 60s));
  EXPECT_TRUE(sim_.run_until([&] { return !machine(led).disk().has(kept()); }, 20s));
  EXPECT_EQ(read("t"), all_);
}

TEST_F(DamageTest, one_that_cannot_be_opened_is_made_anew) {
  start_all();
  fill();
  const std::int32_t hurt = wait_leader("t");
  kill(hurt, true);
  // The evidence says that it was durable.
  for (const std::string& path : machine(hurt).disk().files()) {
    if (path.starts_with(dir_) && path.ends_with(".log"))
      ASSERT_TRUE(machine(hurt).disk().corrupt(path, 300, 4));
  }
  restart(hurt);
  ASSERT_TRUE(even("t", 60s));
  EXPECT_TRUE(sim_.run_until([&] { return !machine(hurt).disk().has(kept()); }, 20s));
  EXPECT_EQ(read("t"), all_);
}

TEST_F(DamageTest, one_whose_files_are_gone_is_made_anew) {
  start_all();
  fill();
  const std::int32_t hurt = wait_leader("t");
  kill(hurt);
  ASSERT_TRUE(run(hurt, [this]() -> io::Task<bool> {
    co_return (co_await io::Shard::current().disk().remove_tree(dir_)).has_value();
  }));
  restart(hurt);
  ASSERT_TRUE(write("t", "more"));
  all_.emplace_back("more");
  ASSERT_TRUE(even("t", 60s));
  EXPECT_EQ(read("t"), all_);
}

TEST_F(DamageTest, what_was_set_aside_outlives_a_kill_and_counts_for_nothing) {
  start_all();
  fill();
  const std::int32_t led = wait_leader("t");
  const std::int32_t hurt = other_than(led);
  const std::int32_t late = other_than(led, hurt);
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    if (i != late) sim_.net().block(machine(late), machine(i));
  }
  for (const char* each : {"a", "b", "c"}) {
    all_.emplace_back(each);
    ASSERT_TRUE(write("t", each));  // the one that is late has none of these
  }
  kill(hurt, true);
  for (const std::string& path : machine(hurt).disk().files()) {
    if (path.starts_with(dir_) && path.ends_with(".log"))
      ASSERT_TRUE(machine(hurt).disk().corrupt(path, 300, 4));
  }
  start(hurt);
  ASSERT_TRUE(sim_.run_until([&] { return machine(hurt).disk().has(kept()); }, 60s));
  kill(led, true);
  sim_.run_for(100ms);  // what was set aside is durable, and nothing has been copied
  kill(hurt, true);
  sim_.net().heal_all();
  restart(hurt);
  sim_.run_for(20s);
  EXPECT_FALSE(write("t", "of nobody", 2s)) << "who could know of all that was acknowledged?";
  EXPECT_TRUE(machine(hurt).disk().has(kept()));
  restart(led);
  ASSERT_TRUE(even("t", 60s));
  EXPECT_EQ(read("t"), all_);
  EXPECT_TRUE(sim_.run_until([&] { return !machine(hurt).disk().has(kept()); }, 30s));
}

TEST_F(DamageTest, where_all_are_damaged_at_once_nothing_of_it_is_thrown_away) {
  start_all();
  fill();
  for (std::int32_t i = 1; i <= kNodes; ++i) kill(i, true);
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    damage(i, 300 + 3'200 * static_cast<std::uint64_t>(i - 1));
  }
  for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  sim_.run_for(120s);
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    EXPECT_TRUE(machine(i).disk().has(kept()) ||
                machine(i).disk().has(dir_ + "/00000000000000000000.log"))
        << i;
  }
  EXPECT_FALSE(write("t", "as if nothing had been there", 5s));
  for (std::int32_t i = 1; i <= kNodes; ++i) kill(i, true);
  for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  sim_.run_for(60s);
  EXPECT_FALSE(write("t", "as if nothing had been there", 5s)) << "though all were started again";
}

TEST_F(DamageTest, what_was_set_aside_stays_if_the_partition_went_on_without_it) {
  start_all();
  fill();
  ASSERT_EQ(run(1,
                [this]() -> io::Task<KafkaError> {
                  std::vector<catalog::AlterSetting> changes;
                  changes.push_back(
                      {"unclean.leader.election.enable", catalog::AlterOp::kSet, "true"});
                  co_return (co_await at(1).broker->alter_topic("t", std::move(changes), false))
                      .error;
                }),
            KafkaError::kNone);
  sim_.run_for(2s);
  for (std::int32_t i = 1; i <= kNodes; ++i) kill(i, true);
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    damage(i, 300 + 3'200 * static_cast<std::uint64_t>(i - 1));
  }
  for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  EXPECT_TRUE(write("t", "without what was there", 180s));
  ASSERT_TRUE(even("t", 60s));
  sim_.run_for(60s);
  const bool all = read("t").size() > all_.size();
  for (std::int32_t i = 1; i <= kNodes && !all; ++i) {
    EXPECT_TRUE(machine(i).disk().has(kept())) << i;
  }
  EXPECT_FALSE(all) << "nothing was lost, so this test shows nothing";
}

TEST_F(DamageTest, a_leader_goes_on_with_what_is_sound_while_another_is_down) {
  options_.producer_snapshot_interval = 1s;
  const std::int32_t led = damaged_leader();
  sim_.run_for(3s);
  ASSERT_TRUE(lead(led));
  kill(other_than(led));
  sim_.run_for(3s);  // it is known to be gone, and has not been away for longer than one may lag
  EXPECT_EQ(fetch(led, "t").error, KafkaError::kKafkaStorageError);
  sim_.run_for(5s);
  EXPECT_FALSE(machine(led).disk().has(kept()));
  EXPECT_EQ(wait_leader("t"), led);
  EXPECT_TRUE(write("t", "more"));
}

TEST_F(DamageTest, of_two_copies_the_damaged_one_goes_on_with_what_is_sound) {
  options_.producer_snapshot_interval = 1s;
  start_all();
  fill(2);
  const std::int32_t led = wait_leader("t");
  kill(led);
  damage(led);
  restart(led);
  sim_.run_for(5s);
  ASSERT_TRUE(lead(led));
  EXPECT_EQ(fetch(led, "t").error, KafkaError::kKafkaStorageError);
  sim_.run_for(5s);
  EXPECT_FALSE(machine(led).disk().has(kept()));
  EXPECT_TRUE(write("t", "more"));
}

TEST_F(DamageTest, of_two_copies_the_one_that_cannot_be_opened_is_made_anew) {
  start_all();
  fill(2);
  const std::int32_t led = wait_leader("t");
  kill(led);
  damage(led);
  restart(led);
  ASSERT_TRUE(sim_.run_until([&] { return machine(led).disk().has(kept()); }, 60s));
  all_.emplace_back("more");
  ASSERT_TRUE(write("t", "more", 30s));
  EXPECT_EQ(read("t"), all_);
  EXPECT_TRUE(sim_.run_until([&] { return !machine(led).disk().has(kept()); }, 20s));
}

}  // namespace
}  // namespace pyralog::broker::testing
