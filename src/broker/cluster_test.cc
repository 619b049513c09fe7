// Brokers of several nodes: topics whose partitions have replicas on all of them.
#include "broker/cluster_testing.h"

namespace pyralog::broker {
namespace {

using namespace testing;
using ::testing::ElementsAre;

TEST_F(ClusterOfBrokersTest, what_is_written_to_all_outlives_its_leader) {
  start_all();
  ASSERT_EQ(create(2, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  const std::int32_t first = leader(1, "t");
  ASSERT_NE(first, 0);
  const std::int32_t other = first % kNodes + 1;
  EXPECT_EQ(produce(other, "t", batch_of({"x"})).error, KafkaError::kNotLeaderOrFollower);
  EXPECT_EQ(fetch(other, "t").error, KafkaError::kNotLeaderOrFollower);
  EXPECT_THAT(read("t"), ElementsAre("a"));

  kill(first);
  ASSERT_TRUE(write("t", "b"));
  EXPECT_NE(leader(other, "t"), first);
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));

  start(first);
  ASSERT_TRUE(up({first}));
  ASSERT_TRUE(write("t", "c"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b", "c"));
  for (std::int32_t i = 1; i <= kNodes; ++i) stop(i);
}

TEST_F(ClusterOfBrokersTest, power_that_fails_everywhere_takes_nothing_that_was_acknowledged) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_TRUE(write("t", "b"));
  for (std::int32_t i = 1; i <= kNodes; ++i) kill(i, true);
  for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  ASSERT_TRUE(write("t", "c"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(even("t"));
}

TEST_F(ClusterOfBrokersTest, all_stop_and_start_again) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  for (int round = 0; round < 3; ++round) {
    for (std::int32_t i = 1; i <= kNodes; ++i) stop(i);
    for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
    ASSERT_TRUE(up({1, 2, 3}));
    ASSERT_NE(wait_leader("t"), 0);
  }
  ASSERT_TRUE(write("t", "b"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));
}

TEST_F(ClusterOfBrokersTest, without_a_quorum_records_are_refused_and_with_it_taken_again) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  const std::int32_t leader = wait_leader("t");
  const std::int32_t one = leader % kNodes + 1;
  const std::int32_t two = one % kNodes + 1;
  kill(one);
  ASSERT_TRUE(write("t", "b"));
  kill(two);
  sim_.run_for(3s);
  const KafkaError refused = produce(leader, "t", batch_of({"lost"})).error;
  EXPECT_THAT(refused,
              ::testing::AnyOf(KafkaError::kNotEnoughReplicas, KafkaError::kNotLeaderOrFollower));
  start(one);
  ASSERT_TRUE(up({one}));
  ASSERT_TRUE(write("t", "c"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b", "c"));
}

TEST_F(ClusterOfBrokersTest, who_was_away_catches_up_and_may_lead) {
  start_all();
  ASSERT_EQ(create(1, "t", 1, {{"segment.bytes", "1048576"}}), KafkaError::kNone);
  ASSERT_TRUE(write("t", "first"));
  const std::int32_t leader = wait_leader("t");
  const std::int32_t away = leader % kNodes + 1;
  kill(away, true);
  std::vector<std::string> all{"first"};
  for (int i = 0; i < 40; ++i) {
    all.push_back(std::to_string(i) + std::string(100'000, 'x'));
    ASSERT_TRUE(write("t", all.back()));
  }
  start(away);
  ASSERT_TRUE(up({away}));
  ASSERT_TRUE(even("t", 60s));
  kill(leader, true);
  ASSERT_TRUE(write("t", "last"));
  all.emplace_back("last");
  EXPECT_TRUE(read("t") == all);
}

TEST_F(ClusterOfBrokersTest, what_a_group_has_committed_its_next_coordinator_knows) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_EQ(run(2,
                [this]() -> io::Task<KafkaError> {
                  co_return (co_await at(2).broker->ensure_offsets_topic()).error;
                }),
            KafkaError::kNone);
  for (std::int64_t round = 1; round <= 3; ++round) {
    for (const std::string group : {"g", "h", "i", "k"}) {
      ASSERT_EQ(commit(group, 10 * round), KafkaError::kNone);
    }
    const auto victim = static_cast<std::int32_t>(round);
    kill(victim);
    for (const std::string group : {"g", "h", "i", "k"}) EXPECT_EQ(committed(group), 10 * round);
    start(victim);
    ASSERT_TRUE(up({victim}));
  }
}

TEST_F(ClusterOfBrokersTest, who_is_cut_off_answers_for_no_group) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_EQ(run(2,
                [this]() -> io::Task<KafkaError> {
                  co_return (co_await at(2).broker->ensure_offsets_topic()).error;
                }),
            KafkaError::kNone);
  ASSERT_EQ(commit("g", 1), KafkaError::kNone);
  const auto ask = [&](std::int32_t i) {
    return run(i, [&, this]() -> io::Task<KafkaError> {
      const auto answer = co_await at(i).broker->with_group(
          "g", [&](GroupHost& host) -> io::Task<group::GroupDescription> {
            co_return host.table().describe("g");
          });
      co_return answer ? KafkaError::kNone : answer.error();
    });
  };
  std::int32_t coordinator = 0;
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    if (ask(i) == KafkaError::kNone) coordinator = i;
  }
  ASSERT_NE(coordinator, 0);
  sim_.net().isolate(machine(coordinator));
  sim_.run_for(3s);
  EXPECT_NE(ask(coordinator), KafkaError::kNone);
  sim_.net().heal_all();
  EXPECT_EQ(committed("g"), 1);
}

TEST_F(ClusterOfBrokersTest, records_that_are_deleted_go_from_all) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  for (const char* each : {"a", "b", "c"}) ASSERT_TRUE(write("t", each));
  const std::int32_t leader = wait_leader("t");
  const auto deleted =
      run(leader, [&, this]() -> io::Task<std::expected<std::int64_t, KafkaError>> {
        co_return co_await at(leader).broker->delete_records({"t", 0}, 2, 5s);
      });
  ASSERT_TRUE(deleted);
  EXPECT_EQ(*deleted, 2);
  // At once, though nothing else is said in an idle partition for long.
  EXPECT_TRUE(sim_.run_until(
      [&] {
        for (std::int32_t i = 1; i <= kNodes; ++i) {
          if (status(i, "t").log_start != 2) return false;
        }
        return true;
      },
      500ms));
  kill(leader);
  ASSERT_TRUE(write("t", "d"));
  EXPECT_THAT(read("t"), ElementsAre("c", "d"));
}

TEST_F(ClusterOfBrokersTest, a_topic_that_is_deleted_goes_from_all_and_comes_back_empty) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  kill(3);
  ASSERT_EQ(run(1,
                [this]() -> io::Task<KafkaError> {
                  co_return (co_await at(1).broker->delete_topic("t")).error;
                }),
            KafkaError::kNone);
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "b"));
  start(3);
  ASSERT_TRUE(up({3}));
  ASSERT_TRUE(even("t"));
  EXPECT_THAT(read("t"), ElementsAre("b"));
  EXPECT_EQ(run(3,
                [this]() -> io::Task<std::size_t> {
                  co_return (co_await at(3).broker->status()).size();
                }),
            1u);
}

TEST_F(ClusterOfBrokersTest, one_in_memory_lives_while_a_majority_does) {
  start_all();
  ASSERT_EQ(create(1, "t", 1, {{"durability", "memory"}}), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    kill(i);
    ASSERT_TRUE(write("t", std::to_string(i))) << i;
    start(i);
    ASSERT_TRUE(up({i}));
    ASSERT_TRUE(even("t"));
  }
  EXPECT_THAT(read("t"), ElementsAre("a", "1", "2", "3"));
}

TEST_F(ClusterOfBrokersTest, who_does_not_keep_up_is_not_in_sync_wherever_one_asks) {
  options_.replica_lag_time_max = 2s;
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_TRUE(even("t"));
  const std::int32_t leader = wait_leader("t");
  const std::int32_t away = leader % kNodes + 1;
  const std::int32_t third = 6 - leader - away;
  const auto in_sync = [&](std::int32_t asked) {
    return run(asked, [&, this]() -> io::Task<std::size_t> {
      const auto topic = at(asked).broker->catalog()->topic("t");
      co_return at(asked).broker->roles(*topic, *topic->partitions[0]).in_sync.size();
    });
  };
  // However idle the partition is.
  for (int i = 0; i < 30; ++i) {
    sim_.run_for(500ms);
    for (std::int32_t each = 1; each <= kNodes; ++each) ASSERT_EQ(in_sync(each), 3u) << i;
  }
  // Only its leader can tell: to the third node it is as near as ever.
  sim_.net().block(machine(leader), machine(away));
  sim_.net().block(machine(away), machine(leader));
  sim_.run_for(5s);
  EXPECT_EQ(in_sync(leader), 2u);
  EXPECT_EQ(in_sync(third), 2u);
  sim_.net().heal_all();
  EXPECT_TRUE(sim_.run_until(
      [&] { return in_sync(1) == 3u && in_sync(2) == 3u && in_sync(3) == 3u; }, 60s));
}

TEST_F(ClusterOfBrokersTest, a_leader_is_moved_from_any_node) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_TRUE(even("t"));
  sim_.run_for(2s);
  const std::int32_t first = wait_leader("t");
  const auto move = [&](std::int32_t asked, std::optional<NodeId> to) {
    return run(asked, [&, this]() -> io::Task<KafkaError> {
      co_return (co_await at(asked).broker->move_leader({"t", 0}, to)).error;
    });
  };
  for (std::int32_t asked = 1; asked <= kNodes; ++asked) {
    const std::int32_t to = wait_leader("t") % kNodes + 1;
    EXPECT_EQ(move(asked, NodeId(to)), KafkaError::kNone);
    const Instant begin = sim_.now();
    ASSERT_TRUE(write("t", "b"));
    EXPECT_LE(sim_.now() - begin, 200ms);
    EXPECT_EQ(wait_leader("t"), to);
    EXPECT_EQ(move(asked, NodeId(to)), KafkaError::kElectionNotNeeded);
  }
  kill(first % kNodes + 1);
  sim_.run_for(3s);
  EXPECT_EQ(move(first, NodeId(first % kNodes + 1)), KafkaError::kEligibleLeadersNotAvailable);
  EXPECT_TRUE(even("t"));
}

TEST_F(ClusterOfBrokersTest, a_topic_that_is_to_be_synced_from_now_on_is) {
  start_all();
  ASSERT_EQ(create(1, "t", 1, {{"durability", "os"}}), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_EQ(
      run(2,
          [this]() -> io::Task<KafkaError> {
            std::vector<catalog::AlterSetting> changes;
            changes.push_back({"durability", catalog::AlterOp::kSet, "fsync"});
            co_return (co_await at(2).broker->alter_topic("t", std::move(changes), false)).error;
          }),
      KafkaError::kNone);
  sim_.run_for(1s);
  std::vector<std::string> all{"a"};
  for (int i = 0; i < 20; ++i) {
    all.push_back(std::to_string(i) + std::string(5'000, 'x'));
    ASSERT_TRUE(write("t", all.back()));
  }
  for (std::int32_t i = 1; i <= kNodes; ++i) kill(i, true);
  for (std::int32_t i = 1; i <= kNodes; ++i) start(i);
  ASSERT_TRUE(up({1, 2, 3}));
  ASSERT_TRUE(write("t", "last"));
  all.emplace_back("last");
  EXPECT_TRUE(read("t") == all);
}

TEST_F(ClusterOfBrokersTest, a_quorum_that_is_set_anew_counts_soon) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  const auto quorum = [&] {
    return at(1).cluster->catalog()->topic("t")->partitions[0]->current->write_quorum;
  };
  EXPECT_EQ(quorum(), 2);
  for (const char* wanted : {"3", "1"}) {
    ASSERT_EQ(
        run(3,
            [&, this]() -> io::Task<KafkaError> {
              std::vector<catalog::AlterSetting> changes;
              changes.push_back({"min.insync.replicas", catalog::AlterOp::kSet, wanted});
              co_return (co_await at(3).broker->alter_topic("t", std::move(changes), false)).error;
            }),
        KafkaError::kNone);
    const int expected = *wanted == '3' ? 3 : 2;
    EXPECT_TRUE(sim_.run_until([&] { return quorum() == expected; }, 5s)) << wanted;
    ASSERT_TRUE(write("t", wanted));
  }
  EXPECT_THAT(read("t"), ElementsAre("a", "3", "1"));
}

TEST_F(ClusterOfBrokersTest,
       a_producer_with_much_under_way_hears_nothing_of_epochs_of_the_same_leader) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "first"));
  const auto current = [&] { return at(1).cluster->catalog()->topic("t")->partitions[0]->current; };
  const std::int32_t first = wait_leader("t");
  const Epoch before = current()->epoch;
  std::map<std::size_t, ProduceOutcome> told;
  const auto send = [&](std::size_t i) -> io::Task<void> {
    const auto sequence = static_cast<std::int32_t>(i);
    auto owner = std::make_shared<Bytes>(
        batch_of({std::to_string(i)}, {.producer = 7, .epoch = 0, .sequence = sequence}));
    std::vector<ProduceItem> items;
    items.push_back({{"t", 0}, owner, MutableBytes(*owner)});
    auto out = co_await at(first).broker->produce(std::move(items), Acks::kAll, 10s);
    told[i] = std::move(out.front());
  };
  bool over = false;
  bool done = false;
  std::size_t count = 0;
  machine(first).spawn([&]() -> io::Task<void> {
    io::TaskGroup sent;
    while (!over) {
      sent.spawn(send(count++));
      co_await io::sleep_for(1ms);
    }
    co_await sent.join();
    done = true;
  });
  std::vector<KafkaError> read;
  machine(first).spawn([&]() -> io::Task<void> {
    std::int64_t next = 0;
    while (!over) {
      std::vector<FetchItem> wanted(1);
      wanted[0].target = {"t", 0};
      wanted[0].offset = next;
      wanted[0].max_bytes = 1 << 20;
      FetchBounds bounds{.min_bytes = 1, .deadline = io::Shard::current().now() + 20ms};
      auto out = co_await at(first).broker->fetch(std::move(wanted), std::move(bounds));
      read.push_back(out.front().error);
      next = std::max(next, out.front().high_watermark);
    }
  });
  for (const char* quorum : {"3", "1"}) {
    ASSERT_EQ(
        run(3,
            [&, this]() -> io::Task<KafkaError> {
              std::vector<catalog::AlterSetting> changes;
              changes.push_back({"min.insync.replicas", catalog::AlterOp::kSet, quorum});
              co_return (co_await at(3).broker->alter_topic("t", std::move(changes), false)).error;
            }),
        KafkaError::kNone);
    EXPECT_TRUE(
        sim_.run_until([&] { return current()->write_quorum == (*quorum == '3' ? 3 : 2); }, 5s));
    sim_.run_for(100ms);
  }
  over = true;
  ASSERT_TRUE(sim_.run_until([&] { return done; }, 20s));
  ASSERT_EQ(current()->leader, NodeId(first));
  EXPECT_GE(current()->epoch.value, before.value + 2);
  EXPECT_GT(read.size(), 100u);
  EXPECT_EQ(std::ranges::count(read, KafkaError::kNone), std::ssize(read));
  ASSERT_EQ(told.size(), count);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_EQ(told[i].error, KafkaError::kNone) << i << ": " << told[i].message;
    EXPECT_EQ(told[i].base_offset, static_cast<std::int64_t>(i) + 1);
  }
}

TEST_F(ClusterOfBrokersTest, who_stops_lets_others_lead_first) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_TRUE(even("t"));
  sim_.run_for(2s);
  const std::int32_t first = wait_leader("t");
  const std::int32_t other = first % kNodes + 1;
  at(first).stopping = true;
  machine(first).spawn([this, first]() -> io::Task<void> {
    at(first).stop->wake_all();
    co_return;
  });
  const Instant begin = sim_.now();
  ASSERT_TRUE(
      sim_.run_until([&] { return leader(other, "t") != first && leader(other, "t") != 0; }, 10s));
  EXPECT_NE(at(first).broker, nullptr) << "it is there still";
  EXPECT_LE(sim_.now() - begin, 200ms);
  ASSERT_TRUE(sim_.run_until([&] { return at(first).broker == nullptr; }, 20s));
  ASSERT_TRUE(write("t", "b"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));
}

TEST_F(ClusterOfBrokersTest, a_replica_whose_disk_has_failed_gives_way_and_comes_back) {
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  ASSERT_TRUE(even("t"));
  sim_.run_for(2s);
  const std::int32_t first = wait_leader("t");
  const std::string dir = to_string(at(first).cluster->catalog()->topic("t")->id.uuid);
  bool fails = true;
  machine(first).disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    const bool hit = fails && op == io::sim::DiskOp::kSync && path.find(dir) != std::string::npos;
    return hit ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
  });
  const Instant begin = sim_.now();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(write("t", std::to_string(i)));
  EXPECT_LE(sim_.now() - begin, 5s);
  EXPECT_NE(wait_leader("t"), first);
  fails = false;
  EXPECT_TRUE(sim_.run_until([&] { return status(first, "t").offline.empty(); }, 60s));
  EXPECT_TRUE(even("t", 60s));
  machine(first).disk().set_hook({});
}

TEST_F(ClusterOfBrokersTest, what_could_not_be_opened_stays_in_doubt) {
  start_all();
  ASSERT_EQ(create(1, "o", 1, {{"durability", "os"}}), KafkaError::kNone);
  ASSERT_TRUE(write("o", "a"));
  ASSERT_TRUE(even("o"));
  const catalog::Replica self{NodeId(1), at(1).cluster->cookie().incarnation};
  const PartitionId id{at(1).cluster->catalog()->topic("o")->id, PartitionIndex(0)};
  kill(1, true);
  machine(1).disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
    const bool hit =
        op == io::sim::DiskOp::kOpen && path.find(to_string(id) + "/") != std::string::npos;
    return hit ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
  });
  start(1);
  ASSERT_TRUE(up({1}));
  kill(1);
  machine(1).disk().set_hook({});
  const bool doubt = run(1, [&]() -> io::Task<bool> {
    replica::Promises::Options options;
    options.owner = self.incarnation;
    auto promises = co_await replica::Promises::open(io::Shard::current().disk(), "/data", options);
    PYRALOG_ASSERT(promises);
    const bool found = (*promises)->of(id).in_doubt;
    co_await (*promises)->stop();
    co_return found;
  });
  EXPECT_TRUE(doubt);
}

TEST_F(ClusterOfBrokersTest, a_producer_may_send_again_what_was_cut_whatever_was_written_down) {
  options_.producer_snapshot_interval = 3s;
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  const auto sent = [](const std::string& value, std::int32_t sequence) {
    return batch_of({value}, {.producer = 7, .epoch = 0, .sequence = sequence});
  };
  const std::int32_t old = wait_leader("t");
  ASSERT_TRUE(write("t", "first"));
  ASSERT_EQ(produce(old, "t", sent("a", 0)).error, KafkaError::kNone);
  ASSERT_TRUE(even("t"));
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    if (i != old) sim_.net().block(machine(old), machine(i));
  }
  ASSERT_EQ(produce(old, "t", sent("lost", 1), Acks::kLeader).error, KafkaError::kNone);
  // Written down, and cut soon after.
  sim_.run_for(3500ms);
  for (const char* each : {"b", "c", "d"}) ASSERT_TRUE(write("t", each));
  sim_.net().heal_all();
  ASSERT_TRUE(even("t"));
  kill(old, true);
  start(old);
  ASSERT_TRUE(up({old}));
  ASSERT_TRUE(even("t"));
  sim_.run_for(2s);
  ASSERT_EQ(run(old,
                [&, this]() -> io::Task<KafkaError> {
                  co_return (co_await at(old).broker->move_leader({"t", 0}, NodeId(old))).error;
                }),
            KafkaError::kNone);
  ASSERT_TRUE(sim_.run_until([&] { return leader(old, "t") == old; }, 5s));
  const ProduceOutcome again = produce(old, "t", sent("again", 1));
  EXPECT_EQ(again.error, KafkaError::kNone);
  EXPECT_EQ(again.base_offset, 5);
  EXPECT_THAT(read("t"), ElementsAre("first", "a", "b", "c", "d", "again"));
}

TEST_F(ClusterOfBrokersTest, a_replica_that_left_and_came_back_knows_nothing_of_its_earlier_life) {
  options_.producer_snapshot_interval = 30s;
  start_all();
  ASSERT_EQ(create(1, "t"), KafkaError::kNone);
  const auto sent = [](const std::string& value, std::int32_t sequence) {
    return batch_of({value}, {.producer = 7, .epoch = 0, .sequence = sequence});
  };
  const std::int32_t old = wait_leader("t");
  ASSERT_TRUE(write("t", "first"));
  ASSERT_EQ(produce(old, "t", sent("a", 0)).error, KafkaError::kNone);
  const auto replicas = [&] {
    return at(old % kNodes + 1).cluster->catalog()->topic("t")->partitions[0]->replicas;
  };
  const std::vector<NodeId> before = replicas();
  std::vector<NodeId> others;
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    if (i == old) continue;
    others.emplace_back(i);
    sim_.net().block(machine(old), machine(i));
  }
  ASSERT_EQ(produce(old, "t", sent("lost", 1), Acks::kLeader).error, KafkaError::kNone);
  sim_.run_for(35s);  // what it knows is written down
  const auto move = [&](const std::vector<NodeId>& to) {
    const std::int32_t asked = old % kNodes + 1;
    ASSERT_EQ(run(asked,
                  [&, this]() -> io::Task<KafkaError> {
                    co_return (co_await at(asked).broker->reassign({"t", 0}, to)).error;
                  }),
              KafkaError::kNone);
    EXPECT_TRUE(sim_.run_until([&] { return replicas() == to; }, 10s));
  };
  move(others);
  for (const char* each : {"b", "c", "d"}) ASSERT_TRUE(write("t", each));
  sim_.net().heal_all();
  ASSERT_TRUE(sim_.run_until([&] { return status(old, "t").log_end == -1; }, 10s));
  move(before);
  ASSERT_TRUE(even("t"));
  kill(old, true);
  start(old);
  ASSERT_TRUE(up({old}));
  ASSERT_TRUE(even("t"));
  sim_.run_for(2s);
  if (leader(old, "t") != old) {
    ASSERT_EQ(run(old,
                  [&, this]() -> io::Task<KafkaError> {
                    co_return (co_await at(old).broker->move_leader({"t", 0}, NodeId(old))).error;
                  }),
              KafkaError::kNone);
  }
  ASSERT_TRUE(sim_.run_until([&] { return leader(old, "t") == old; }, 5s));
  const ProduceOutcome again = produce(old, "t", sent("again", 1));
  EXPECT_EQ(again.error, KafkaError::kNone);
  EXPECT_EQ(again.base_offset, 5);
  EXPECT_THAT(read("t"), ElementsAre("first", "a", "b", "c", "d", "again"));
}

TEST_F(ClusterOfBrokersTest, replicas_move_to_other_nodes_while_they_are_written) {
  start_all();
  for (const std::int16_t replicas : {std::int16_t{1}, std::int16_t{2}}) {
    const std::string topic = "t" + std::to_string(replicas);
    ASSERT_EQ(create(1, topic, 1, {}, replicas), KafkaError::kNone);
    std::vector<std::string> all;
    const auto write_some = [&](int count) {
      for (int i = 0; i < count; ++i) {
        all.push_back(std::to_string(all.size()) + std::string(20'000, 'x'));
        ASSERT_TRUE(write(topic, all.back()));
      }
    };
    write_some(30);
    const auto partition = [&] { return at(1).cluster->catalog()->topic(topic)->partitions[0]; };
    const std::vector<NodeId> before = partition()->replicas;
    std::vector<NodeId> after;
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (std::ranges::find(before, NodeId(i)) == before.end()) after.emplace_back(i);
    }
    after.resize(static_cast<std::size_t>(replicas), before.back());
    ASSERT_EQ(run(3,
                  [&, this]() -> io::Task<KafkaError> {
                    co_return (co_await at(3).broker->reassign({topic, 0}, after)).error;
                  }),
              KafkaError::kNone);
    ASSERT_TRUE(sim_.run_until([&] { return !partition()->target.empty(); }, 5s));
    const Instant end = sim_.now() + 60s;
    while (sim_.now() < end && !partition()->target.empty()) {
      write_some(1);
      sim_.run_for(20ms);
    }
    EXPECT_TRUE(partition()->target.empty());
    EXPECT_EQ(partition()->replicas, after);
    std::set<NodeId> nodes;
    for (const auto& each : partition()->current->replicas) nodes.insert(each.node);
    EXPECT_EQ(nodes, std::set<NodeId>(after.begin(), after.end()));
    write_some(3);
    // What was under way at a step may have been told to be sent again.
    std::vector<std::string> there = read(topic);
    there.erase(std::ranges::unique(there).begin(), there.end());
    EXPECT_TRUE(there == all);
    EXPECT_TRUE(
        sim_.run_until([&] { return status(before.front().value, topic).log_end == -1; }, 10s))
        << "its files go";
  }
}

TEST_F(ClusterOfBrokersTest, a_move_outlives_those_who_take_part_in_it) {
  start_all();
  ASSERT_EQ(create(1, "t", 1, {}, 2), KafkaError::kNone);
  std::vector<std::string> all;
  for (int i = 0; i < 40; ++i) {
    all.push_back(std::to_string(i) + std::string(50'000, 'x'));
    ASSERT_TRUE(write("t", all.back()));
  }
  const auto partition = [&](std::int32_t i) {
    return at(i).cluster->catalog()->topic("t")->partitions[0];
  };
  const std::vector<NodeId> before = partition(1)->replicas;
  const NodeId other(6 - before[0].value - before[1].value);
  const std::vector<NodeId> after{other, before[1]};
  ASSERT_EQ(run(1,
                [&, this]() -> io::Task<KafkaError> {
                  co_return (co_await at(1).broker->reassign({"t", 0}, after)).error;
                }),
            KafkaError::kNone);
  for (const NodeId each : {other, before[0], before[1]}) {
    sim_.run_for(700ms);
    kill(each.value, true);
    start(each.value);
    ASSERT_TRUE(up({each.value}));
  }
  EXPECT_TRUE(sim_.run_until([&] { return partition(1)->target.empty(); }, 60s));
  EXPECT_EQ(partition(1)->replicas, after);
  ASSERT_TRUE(write("t", "last"));
  all.emplace_back("last");
  EXPECT_TRUE(read("t") == all);
}

TEST_F(ClusterOfBrokersTest, one_of_two_copies_that_is_gone_for_good_is_made_anew_elsewhere) {
  start_all();
  for (const bool leader_goes : {true, false}) {
    const std::string topic = leader_goes ? "l" : "f";
    ASSERT_EQ(create(1, topic, 1, {}, 2), KafkaError::kNone);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(write(topic, std::to_string(i)));
    const auto partition = [&](std::int32_t i) {
      return at(i).cluster->catalog()->topic(topic)->partitions[0];
    };
    const std::int32_t led = wait_leader(topic);
    std::int32_t gone = led;
    std::int32_t stays = led;
    std::int32_t fresh = 0;
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      const bool holds =
          std::ranges::find(partition(led)->replicas, NodeId(i)) != partition(led)->replicas.end();
      if (!holds) {
        fresh = i;
      } else if (i != led) {
        (leader_goes ? stays : gone) = i;
      }
    }
    kill(gone, true);
    sim_.run_for(3s);
    const std::vector<NodeId> to{NodeId(fresh), NodeId(stays)};
    ASSERT_EQ(run(fresh,
                  [&, this]() -> io::Task<KafkaError> {
                    co_return (co_await at(fresh).broker->reassign({topic, 0}, to)).error;
                  }),
              KafkaError::kNone);
    EXPECT_TRUE(sim_.run_until([&] { return partition(fresh)->target.empty(); }, 60s));
    EXPECT_EQ(partition(fresh)->replicas, to);
    ASSERT_TRUE(write(topic, "more"));
    EXPECT_THAT(read(topic), ElementsAre("0", "1", "2", "3", "4", "more"));
    start(gone);
    ASSERT_TRUE(up({gone}));
  }
}

TEST_F(ClusterOfBrokersTest, a_node_that_drains_leads_and_holds_nothing_in_the_end) {
  start_all();
  ASSERT_EQ(create(1, "t", 6, {}, 2), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  const auto drain = [&](bool draining) {
    return run(2, [&, this]() -> io::Task<KafkaError> {
      co_return (co_await at(2).broker->set_draining(NodeId(3), draining)).error;
    });
  };
  ASSERT_EQ(drain(true), KafkaError::kNone);
  const auto held = [&] {
    return run(3, [this]() -> io::Task<std::size_t> {
      co_return (co_await at(3).broker->status()).size();
    });
  };
  EXPECT_TRUE(sim_.run_until([&] { return held() == 0; }, 60s)) << held();
  ASSERT_TRUE(write("t", "b"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));
  ASSERT_EQ(drain(false), KafkaError::kNone);
  ASSERT_EQ(create(1, "u", 6, {}, 2), KafkaError::kNone);
  EXPECT_GT(held(), 0u);
}

TEST_F(ClusterOfBrokersTest, a_partition_of_one_replica_is_led_again_by_its_node) {
  start_all();
  ASSERT_EQ(create(1, "t", 1, {}, 1), KafkaError::kNone);
  ASSERT_TRUE(write("t", "a"));
  const std::int32_t leader = wait_leader("t");
  kill(leader, true);
  sim_.run_for(5s);
  EXPECT_EQ(wait_leader("t", 1s), 0);
  start(leader);
  ASSERT_TRUE(up({leader}));
  ASSERT_TRUE(write("t", "b"));
  EXPECT_THAT(read("t"), ElementsAre("a", "b"));
}

}  // namespace
}  // namespace pyralog::broker
