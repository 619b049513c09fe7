// Coordinators over partitions of __consumer_offsets: committed is durable, loading says so.
#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using testing::batch_of;
using testing::BrokerTest;

class GroupsTest : public BrokerTest {
 protected:
  GroupsTest() { start(); }
  AdminOutcome ensure() {
    return run([this]() -> io::Task<AdminOutcome> {
      co_return co_await broker().ensure_offsets_topic();
    });
  }
  io::Task<KafkaError> commit(std::string group, std::int64_t at) {
    group::CommitRequest request;
    request.group = group;
    request.generation = -1;
    request.partitions.push_back({"t", 0, at, -1, ""});
    const auto answer = co_await broker().with_group(
        group, [&](GroupHost& host) -> io::Task<group::Response> {
          co_return co_await host.ask(group::Input(request));
        });
    if (!answer) co_return answer.error();
    co_return std::get<group::CommitResponse>(*answer).partitions.front().error;
  }
  io::Task<std::expected<std::int64_t, KafkaError>> committed(std::string group) {
    group::FetchOffsetsRequest request;
    request.group = group;
    request.topics.emplace();
    request.topics->push_back({"t", {0}});
    const auto answer = co_await broker().with_group(
        group, [&](GroupHost& host) -> io::Task<group::FetchOffsetsResponse> {
          co_return host.table().fetch_offsets(request);
        });
    if (!answer) co_return std::unexpected(answer.error());
    if (answer->error != KafkaError::kNone) co_return std::unexpected(answer->error);
    co_return answer->partitions.front().offset;
  }
  KafkaError commit_now(const std::string& group, std::int64_t at) {
    return run([&, this]() -> io::Task<KafkaError> { co_return co_await commit(group, at); });
  }
  io::Task<group::Response> ask(std::string group, group::Input request) {
    auto answer =
        co_await broker().with_group(group, [&](GroupHost& host) -> io::Task<group::Response> {
          co_return co_await host.ask(request);
        });
    EXPECT_TRUE(answer);
    co_return std::move(*answer);
  }
  std::string state_of(const std::string& group) {
    return run([&, this]() -> io::Task<std::string> {
      auto told = co_await broker().with_group(
          group, [&](GroupHost& host) -> io::Task<group::GroupDescription> {
            co_return host.table().describe(group);
          });
      co_return told ? told->state : "";
    });
  }
  /// Another group with the same coordinator.
  [[nodiscard]] std::string neighbour_of(const std::string& group) const {
    const auto partition = [this](const std::string& each) {
      return group::partition_for(each, options_.offsets_partitions);
    };
    std::string other = group;
    do {
      other += "x";
    } while (partition(other) != partition(group));
    return other;
  }
  /// From now on a sync of a log takes its time, everything else is quick.
  void slow_logs() {
    disk().options().slow_by = 300ms;
    disk().set_hook([this](DiskOp op, const std::string& path) {
      disk().options().slow = op == DiskOp::kSync && path.ends_with("0.log") ? 1 : 0;
      return DiskFault::kNone;
    });
  }
  void quick_logs() {
    disk().set_hook({});
    disk().options().slow = 0;
  }
  std::expected<std::int64_t, KafkaError> committed_now(const std::string& group) {
    return run([&, this]() -> io::Task<std::expected<std::int64_t, KafkaError>> {
      co_return co_await committed(group);
    });
  }
};

TEST_F(GroupsTest, there_is_no_coordinator_before_the_offsets_topic) {
  EXPECT_EQ(commit_now("g", 1), KafkaError::kCoordinatorNotAvailable);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone) << "making it twice is no error";
  const auto topic = cluster_->catalog()->topic("__consumer_offsets");
  ASSERT_NE(topic, nullptr);
  EXPECT_EQ(topic->partitions.size(), 3u);
  EXPECT_TRUE(topic->config.cleanup_compact);
  EXPECT_EQ(commit_now("g", 1), KafkaError::kNone);
}

TEST_F(GroupsTest, commits_survive_power_loss) {
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(create("t"), KafkaError::kNone);
  for (std::int64_t life = 1; life <= 3; ++life) {
    for (const char* group : {"a", "b", "c", "d"}) {
      EXPECT_EQ(commit_now(group, 10 * life), KafkaError::kNone);
    }
    restart_after_crash(true);
    sim_.run_for(1s);
    for (const char* group : {"a", "b", "c", "d"}) EXPECT_EQ(committed_now(group), 10 * life);
  }
  const auto listed = run([this]() -> io::Task<group::ListGroupsResponse> {
    co_return co_await broker().list_groups({});
  });
  EXPECT_EQ(listed.groups.size(), 4u);
}

TEST_F(GroupsTest, coordinators_made_while_the_disk_is_full_begin_once_there_is_room) {
  disk().set_hook([](DiskOp op, const std::string&) {
    return op == DiskOp::kMakeDirs ? DiskFault::kNoSpace : DiskFault::kNone;
  });
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 1), KafkaError::kNotCoordinator);
  disk().set_hook({});
  sim_.run_for(20s);
  EXPECT_EQ(commit_now("g", 1), KafkaError::kNone);
  EXPECT_EQ(committed_now("g"), 1);
}

TEST_F(GroupsTest, a_commit_is_answered_only_when_it_is_durable) {
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 1), KafkaError::kNone);
  disk().options().slow = 1;
  disk().options().slow_by = 1s;
  const Instant begun = sim_.now();
  EXPECT_EQ(commit_now("g", 2), KafkaError::kNone);
  EXPECT_GE(sim_.now() - begun, 1s);
}

TEST_F(GroupsTest, while_it_loads_it_says_so) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 7), KafkaError::kNone);
  crash();
  disk().options().cold_read = 1;
  start();
  disk().options().slow = 1;
  disk().options().slow_by = 2s;
  EXPECT_EQ(committed_now("g"), std::unexpected(KafkaError::kCoordinatorLoadInProgress));
  EXPECT_EQ(commit_now("g", 8), KafkaError::kCoordinatorLoadInProgress);
  sim_.run_for(60s);
  EXPECT_EQ(committed_now("g"), 7);
}

TEST_F(GroupsTest, a_commit_that_cannot_be_written_is_refused) {
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 1), KafkaError::kNone);
  disk().set_hook([](DiskOp op, const std::string& path) {
    return op == DiskOp::kSync && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
  });
  EXPECT_NE(commit_now("g", 2), KafkaError::kNone);
  disk().set_hook({});
  EXPECT_EQ(committed_now("g"), 1);
}

TEST_F(GroupsTest, a_rebalance_after_an_assignment_that_cannot_be_written_ends_in_time) {
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  const auto told = run([this]() -> io::Task<group::JoinResponse> {
    group::JoinRequest request;
    request.group = "g";
    request.new_member_id = "m";
    request.protocol_type = "consumer";
    request.protocols = {{"range", Bytes{1}}};
    request.session_timeout_ms = 60'000;
    request.rebalance_timeout_ms = 2'000;
    co_return std::get<group::JoinResponse>(co_await ask("g", request));
  });
  ASSERT_EQ(told.error, KafkaError::kNone);
  // The partition goes offline: from now on every append is refused at once.
  disk().set_hook([](DiskOp op, const std::string& path) {
    return op == DiskOp::kSync && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
  });
  EXPECT_NE(commit_now(neighbour_of("g"), 2), KafkaError::kNone);
  const auto assigned = run([&, this]() -> io::Task<group::SyncResponse> {
    group::SyncRequest request;
    request.group = "g";
    request.generation = told.generation;
    request.member_id = told.member_id;
    co_return std::get<group::SyncResponse>(co_await ask("g", request));
  });
  EXPECT_EQ(assigned.error, KafkaError::kNotCoordinator);
  EXPECT_EQ(state_of("g"), "PreparingRebalance");
  sim_.run_for(3s);
  EXPECT_EQ(state_of("g"), "Empty") << "its member did not come back within its rebalance timeout";
}

TEST_F(GroupsTest, clients_cannot_write_into_the_offsets_topic) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  for (std::int32_t partition = 0; partition < 3; ++partition) {
    const auto refused = run([&, this]() -> io::Task<ProduceOutcome> {
      auto all = items("__consumer_offsets", {});
      auto owner = std::make_shared<Bytes>(batch_of({"poison"}));
      all.push_back({{"__consumer_offsets", partition}, owner, MutableBytes(*owner)});
      co_return (co_await broker().produce(std::move(all), Acks::kAll, 10s)).front();
    });
    EXPECT_EQ(refused.error, KafkaError::kInvalidTopicException);
  }
  restart_after_crash();
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), 5) << "one foreign record would keep the coordinator from loading";
}

TEST_F(GroupsTest, the_offsets_topic_keeps_its_number_of_partitions) {
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  const auto refused = run([this]() -> io::Task<AdminOutcome> {
    catalog::CreatePartitions more;
    more.name = "__consumer_offsets";
    more.count = 7;
    co_return co_await broker().create_partitions(std::move(more), false);
  });
  EXPECT_EQ(refused.error, KafkaError::kInvalidPartitions)
      << "groups would move to partitions that do not know them";
  EXPECT_EQ(committed_now("g"), 5);
}

TEST_F(GroupsTest, offsets_of_a_deleted_topic_go_with_it) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("t")).error, KafkaError::kNone);
    co_return true;
  });
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), -1);
  restart_after_crash();
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(GroupsTest, a_topic_is_made_again_only_when_old_offsets_are_gone_for_good) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  // The deletion is durable, what was committed for the topic takes its time to go.
  slow_logs();
  const Instant begun = sim_.now();
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("t")).error, KafkaError::kNone);
    co_return true;
  });
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_GE(sim_.now() - begun, 300ms);
  quick_logs();
  restart_after_crash(true);
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(GroupsTest, a_start_clears_old_offsets_away_before_a_topic_is_made_again) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  // The deletion is decided, and the power goes before anything else is done about it.
  node().spawn([this]() -> io::Task<void> { (void)co_await broker().delete_topic("t"); });
  sim_.run_until([this] { return cluster_->catalog()->topic("t") == nullptr; });
  crash(true);
  slow_logs();
  start();
  const Instant begun = sim_.now();
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_GE(sim_.now() - begun, 300ms);
  quick_logs();
  restart_after_crash(true);
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(GroupsTest, a_topic_is_not_made_again_while_old_offsets_cannot_go) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  disk().set_hook([](DiskOp op, const std::string& path) {
    return op == DiskOp::kSync && path.ends_with("0.log") ? DiskFault::kError : DiskFault::kNone;
  });
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("t")).error, KafkaError::kNone);
    co_return true;
  });
  EXPECT_EQ(create("t"), KafkaError::kKafkaStorageError);
  EXPECT_EQ(create("other"), KafkaError::kNone);
  disk().set_hook({});
  EXPECT_EQ(create("t"), KafkaError::kKafkaStorageError) << "its partition is still offline";
  restart_after_crash(true);
  EXPECT_EQ(create("t"), KafkaError::kNone);
  restart_after_crash(true);
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(GroupsTest, a_topic_deleted_while_its_offsets_load_leaves_none) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  crash();
  disk().options().cold_read = 1;
  start();
  disk().options().slow = 1;
  disk().options().slow_by = 10s;
  EXPECT_EQ(committed_now("g"), std::unexpected(KafkaError::kCoordinatorLoadInProgress));
  disk().set_hook([this](DiskOp op, const std::string&) {
    disk().options().slow = op == DiskOp::kRead ? 1 : 0;
    return DiskFault::kNone;
  });
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("t")).error, KafkaError::kNone);
    co_return true;
  });
  EXPECT_EQ(committed_now("g"), std::unexpected(KafkaError::kCoordinatorLoadInProgress));
  for (KafkaError error; (error = create("t")) != KafkaError::kNone;) {
    ASSERT_EQ(error, KafkaError::kKafkaStorageError);
    ASSERT_LT(sim_.now(), Instant() + 300s);
  }
  quick_logs();
  sim_.run_for(60s);
  EXPECT_EQ(committed_now("g"), -1);
  restart_after_crash(true);
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(GroupsTest, a_topic_is_not_made_while_offsets_cannot_be_loaded) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("t")).error, KafkaError::kNone);
    co_return true;
  });
  stop();
  disk().set_hook([](DiskOp op, const std::string& path) {
    return op == DiskOp::kRead && path.ends_with("0.log") ? DiskFault::kError : DiskFault::kNone;
  });
  start();
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), std::unexpected(KafkaError::kCoordinatorLoadInProgress));
  const auto refused = run([this]() -> io::Task<CreateOutcome> {
    catalog::CreateTopic topic;
    topic.name = "t";
    topic.partitions = 1;
    co_return co_await broker().create_topic(std::move(topic), false);
  });
  EXPECT_EQ(refused.error, KafkaError::kKafkaStorageError);
  EXPECT_NE(refused.message.find("still being loaded"), std::string::npos) << refused.message;
  disk().set_hook({});
  EXPECT_EQ(create("t"), KafkaError::kNone) << "it is tried again";
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(GroupsTest, damaged_offsets_do_not_keep_everybody_from_making_topics) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  stop();
  for (const std::string& path : disk().files()) {
    if (path.ends_with("0.log")) ASSERT_TRUE(disk().corrupt(path, 100, 1).has_value());
  }
  start();
  sim_.run_for(1s);
  EXPECT_EQ(committed_now("g"), std::unexpected(KafkaError::kCoordinatorLoadInProgress));
  EXPECT_EQ(create("u"), KafkaError::kNone);
}

TEST_F(GroupsTest, deleting_the_offsets_topic_ends_its_coordinators) {
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("__consumer_offsets")).error, KafkaError::kNone);
    co_return true;
  });
  EXPECT_EQ(commit_now("g", 6), KafkaError::kCoordinatorNotAvailable);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(committed_now("g"), -1);
}

/// All groups have room for some seventy together.
class GroupRoomTest : public GroupsTest {
 protected:
  GroupRoomTest() { begin(200'000); }
  void begin(std::uint64_t room) {
    options_.group_bytes = room;
    stop();
    start();
    sim_.run_for(1s);
  }
  group::Kept kept() {
    return run([this]() -> io::Task<group::Kept> {
      co_return (co_await broker().totals()).groups;
    });
  }
};

TEST_F(GroupRoomTest, is_shared_by_all_coordinators_and_what_was_accepted_stays) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  std::vector<std::string> accepted;
  for (int i = 0; i < 200; ++i) {
    const std::string group = "g" + std::to_string(i);
    if (commit_now(group, i) == KafkaError::kNone) accepted.push_back(group);
  }
  EXPECT_GT(accepted.size(), 50u);
  EXPECT_LT(accepted.size(), 75u);
  const group::Kept before = kept();
  EXPECT_LE(before.offsets, 100'000u);
  restart_after_crash(true);
  sim_.run_for(1s);
  EXPECT_EQ(kept(), before);
  begin(20'000);
  EXPECT_EQ(kept(), before) << "though there is less room now";
  EXPECT_EQ(commit_now("new", 1), KafkaError::kInvalidCommitOffsetSize);
  for (const std::string& group : accepted) {
    EXPECT_EQ(commit_now(group, 1'000), KafkaError::kNone);
    EXPECT_EQ(committed_now(group), 1'000);
  }
  EXPECT_EQ(kept(), before);
  run([this]() -> io::Task<bool> {
    EXPECT_EQ((co_await broker().delete_topic("__consumer_offsets")).error, KafkaError::kNone);
    co_return true;
  });
  EXPECT_EQ(kept(), group::Kept{}) << "nobody coordinates them any more";
  EXPECT_EQ(ensure().error, KafkaError::kNone);
  EXPECT_EQ(commit_now("new", 1), KafkaError::kNone);
}

/// Offsets are kept for a minute and looked at every second.
class ExpiryTest : public GroupsTest {
 protected:
  ExpiryTest() {
    options_.groups.offsets_retention_ms = 60'000;
    options_.offsets_check_interval = 1s;
    stop();
    start();
    EXPECT_EQ(create("t"), KafkaError::kNone);
    EXPECT_EQ(ensure().error, KafkaError::kNone);
  }
};

TEST_F(ExpiryTest, what_nobody_uses_goes_in_time_and_for_good) {
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  sim_.run_for(30s);
  restart_after_crash(true);
  sim_.run_for(25s);
  EXPECT_EQ(committed_now("g"), 5);
  sim_.run_for(7s);
  EXPECT_EQ(committed_now("g"), -1) << "the age of a commit outlives a restart";
  EXPECT_EQ(state_of("g"), "Dead");
  restart_after_crash(true);
  sim_.run_for(900ms);
  EXPECT_EQ(committed_now("g"), -1);
  EXPECT_EQ(commit_now("g", 6), KafkaError::kNone);
  EXPECT_EQ(committed_now("g"), 6);
}

TEST_F(ExpiryTest, a_clock_that_jumps_ahead_takes_nothing_along) {
  options_.groups.offsets_retention_ms = 7 * 24 * 3'600'000;
  stop();
  start();
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  node().set_wall_offset(8 * 24h);
  sim_.run_for(59min);
  EXPECT_EQ(committed_now("g"), 5);
  sim_.run_for(2min);
  EXPECT_EQ(committed_now("g"), -1) << "it has stood for an hour";
}

TEST_F(ExpiryTest, nor_does_one_that_is_another_after_a_restart) {
  options_.offsets_check_interval = 30s;
  options_.groups.offsets_retention_ms = 7 * 24 * 3'600'000;
  stop();
  start();
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  const auto restart_with = [this](Duration wrong, bool power) {
    power ? crash(true) : stop();
    node().set_wall_offset(wrong);
    start();
  };
  for (const bool power : {false, true}) {
    for (const Duration wrong : {Duration(8 * 24h), Duration(-8 * 24h), Duration(0)}) {
      restart_with(wrong, power);
      sim_.run_for(59min);
      EXPECT_EQ(committed_now("g"), 5);
    }
  }
  restart_with(8 * 24h, true);
  sim_.run_for(61min);
  EXPECT_EQ(committed_now("g"), -1) << "it has stood for an hour";
}

TEST_F(ExpiryTest, what_cannot_be_written_stays_until_it_can) {
  EXPECT_EQ(commit_now("g", 5), KafkaError::kNone);
  disk().set_hook([](DiskOp op, const std::string& path) {
    return op == DiskOp::kSync && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
  });
  sim_.run_for(2min);
  EXPECT_EQ(committed_now("g"), 5);
  disk().set_hook({});
  restart_after_crash(true);
  sim_.run_for(3s);
  EXPECT_EQ(committed_now("g"), -1);
}

TEST_F(ExpiryTest, an_end_in_the_midst_of_it_is_no_obstacle) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(commit_now("g" + std::to_string(i), i), KafkaError::kNone);
  }
  sim_.run_for(59s);
  slow_logs();
  sim_.run_for(1500ms);
  stop();
  quick_logs();
  start();
  sim_.run_for(2s);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(committed_now("g" + std::to_string(i)), -1);
}

}  // namespace
}  // namespace pyralog::broker
