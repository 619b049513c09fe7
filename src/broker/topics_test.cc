// Topics, settings and the node's lives: what is made, changed and deleted is so after any end.
#include <gmock/gmock.h>

#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using ::testing::HasSubstr;
using catalog::AlterOp;
using testing::batch_of;
using testing::BrokerTest;
using Strings = std::vector<std::string>;

class TopicsTest : public BrokerTest {
 protected:
  TopicsTest() { start(); }
  AdminOutcome alter(const std::string& topic, const std::string& name,
                     std::optional<std::string> value, bool validate_only = false) {
    return run([=, this]() -> io::Task<AdminOutcome> {
      std::vector<catalog::AlterSetting> one;
      one.push_back({name, value ? AlterOp::kSet : AlterOp::kDelete, value});
      co_return co_await broker().alter_topic(topic, std::move(one), validate_only);
    });
  }
  AdminOutcome remove(const std::string& topic) {
    return run([=, this]() -> io::Task<AdminOutcome> {
      co_return co_await broker().delete_topic(topic);
    });
  }
  std::string dir_of(const std::string& topic, std::int32_t partition = 0) {
    const auto found = cluster_->catalog()->topic(topic);
    return "/data/" + to_string(PartitionId{found->id, PartitionIndex(partition)});
  }
  bool any_file_below(const std::string& dir) {
    const auto files = disk().files();
    return std::ranges::any_of(files, [&](const auto& f) { return f.starts_with(dir + "/"); });
  }
};

TEST_F(TopicsTest, a_topic_that_was_made_while_the_disk_was_full_works_once_there_is_room) {
  disk().set_hook([](io::sim::DiskOp op, const std::string&) {
    return op == io::sim::DiskOp::kMakeDirs ? io::sim::DiskFault::kNoSpace
                                            : io::sim::DiskFault::kNone;
  });
  EXPECT_EQ(create("t", 2), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kKafkaStorageError);
  sim_.run_for(20s);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kKafkaStorageError);
  disk().set_hook({});
  sim_.run_for(20s);
  EXPECT_EQ(produce("t", batch_of({"b"})).error, KafkaError::kNone);
  EXPECT_EQ(values("t"), Strings{"b"});
  EXPECT_EQ(remove("t").error, KafkaError::kNone);
  sim_.run_for(20s);
}

TEST_F(TopicsTest, what_was_made_and_written_is_there_after_every_kind_of_end) {
  EXPECT_EQ(create("t", 3), KafkaError::kNone);
  Strings all;
  for (int life = 0; life < 6; ++life) {
    all.push_back(std::to_string(life));
    const auto out = produce("t", batch_of({all.back()}));
    EXPECT_EQ(out.base_offset, life);
    if (life % 3 == 0) {
      stop();
      start();
    } else {
      restart_after_crash(life % 3 == 1);
    }
    EXPECT_EQ(values("t"), all);
    const auto topic = cluster_->catalog()->topic("t");
    EXPECT_EQ(topic->partitions[0]->current->epoch, Epoch(static_cast<std::uint32_t>(life + 2)));
    EXPECT_EQ(topic->partitions[0]->current->start, Offset(life + 1));
  }
}

TEST_F(TopicsTest, producers_are_remembered_after_every_kind_of_end) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  for (std::int32_t life = 0; life < 6; ++life) {
    const testing::BatchSpec next{.producer = 5, .epoch = 0, .sequence = life};
    EXPECT_EQ(produce("t", batch_of({"x"}, next)).base_offset, life);
    if (life % 3 == 0) {
      stop();
      start();
    } else {
      restart_after_crash(life % 3 == 1);
    }
    const auto again = produce("t", batch_of({"x"}, next));
    EXPECT_EQ(again.error, KafkaError::kNone) << again.message;
    EXPECT_EQ(again.base_offset, life) << "a duplicate was taken for new";
  }
}

TEST_F(TopicsTest, a_topic_made_again_is_another_and_empty) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(create("t"), KafkaError::kTopicAlreadyExists);
  EXPECT_EQ(produce("t", batch_of({"old"})).error, KafkaError::kNone);
  const TopicId first = cluster_->catalog()->topic("t")->id;
  const std::string dir = dir_of("t");
  EXPECT_TRUE(any_file_below(dir));
  EXPECT_EQ(remove("t").error, KafkaError::kNone);
  EXPECT_FALSE(any_file_below(dir)) << "deleted before the reply";
  EXPECT_EQ(remove("t").error, KafkaError::kUnknownTopicOrPartition);
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_NE(cluster_->catalog()->topic("t")->id, first);
  EXPECT_EQ(values("t"), Strings{});
  EXPECT_EQ(produce("t", batch_of({"new"})).base_offset, 0);
}

TEST_F(TopicsTest, a_deletion_that_a_crash_cut_short_is_finished_by_the_next_start) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  const std::string dir = dir_of("t");
  disk().set_hook([](io::sim::DiskOp op, const std::string& path) {
    return op == io::sim::DiskOp::kRemove && path.starts_with("/data/") ? io::sim::DiskFault::kKill
                                                                       : io::sim::DiskFault::kNone;
  });
  EXPECT_FALSE(node().try_run([this]() -> io::Task<bool> {
    static_cast<void>(co_await broker().delete_topic("t"));
    co_return true;
  }));
  disk().set_hook({});
  EXPECT_TRUE(any_file_below(dir));
  restart_after_crash();
  EXPECT_EQ(cluster_->catalog()->topic("t"), nullptr);
  EXPECT_FALSE(any_file_below(dir));
}

TEST_F(TopicsTest, validation_alone_changes_nothing) {
  run([this]() -> io::Task<bool> {
    catalog::CreateTopic topic;
    topic.name = "t";
    EXPECT_EQ((co_await broker().create_topic(topic, true)).error, KafkaError::kNone);
    topic.name = "bad name";
    EXPECT_EQ((co_await broker().create_topic(topic, true)).error,
              KafkaError::kInvalidTopicException);
    topic.name = "t";
    topic.replication_factor = 2;
    EXPECT_EQ((co_await broker().create_topic(topic, true)).error,
              KafkaError::kInvalidReplicationFactor);
    co_return true;
  });
  EXPECT_EQ(cluster_->catalog()->topic("t"), nullptr);
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(alter("t", "retention.ms", "5", true).error, KafkaError::kNone);
  EXPECT_TRUE(cluster_->catalog()->topic("t")->settings.empty());
}

TEST_F(TopicsTest, a_default_replication_factor_leaves_assignments_alone) {
  stop();
  options_.default_replication_factor = 1;
  start();
  EXPECT_EQ(create("counted"), KafkaError::kNone);
  const auto made = run([this]() -> io::Task<AdminOutcome> {
    catalog::CreateTopic topic;
    topic.name = "assigned";
    topic.assignment = {{0, {NodeId(1)}}, {1, {NodeId(1)}}};
    co_return co_await broker().create_topic(std::move(topic), false);
  });
  EXPECT_EQ(made.error, KafkaError::kNone) << made.message;
}

TEST_F(TopicsTest, settings_take_effect_at_once) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(alter("t", "max.message.bytes", "100").error, KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({std::string(100, 'x')})).error, KafkaError::kMessageTooLarge);
  EXPECT_EQ(alter("t", "max.message.bytes", std::nullopt).error, KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({std::string(100, 'x')})).error, KafkaError::kNone);
  EXPECT_EQ(alter("t", "message.timestamp.type", "LogAppendTime").error, KafkaError::kNone);
  EXPECT_GE(produce("t", batch_of({"x"})).append_time_ms, 0);
  EXPECT_EQ(alter("t", "no.such.setting", "1").error, KafkaError::kInvalidConfig);
  EXPECT_EQ(alter("t", "compression.type", "gzip").error, KafkaError::kInvalidConfig);
  EXPECT_EQ(alter("t", "min.insync.replicas", "2").error, KafkaError::kInvalidConfig);
  EXPECT_EQ(alter("u", "retention.ms", "1").error, KafkaError::kUnknownTopicOrPartition);
}

TEST_F(TopicsTest, a_default_changes_topics_that_do_not_say) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  EXPECT_EQ(create("own", 1, {{"max.message.bytes", "5000"}}), KafkaError::kNone);
  const auto changed = run([this]() -> io::Task<AdminOutcome> {
    std::vector<catalog::AlterSetting> one;
    one.push_back({"message.max.bytes", AlterOp::kSet, "100"});
    co_return co_await broker().alter_defaults(std::move(one), false);
  });
  EXPECT_EQ(changed.error, KafkaError::kNone);
  EXPECT_EQ(produce("t", batch_of({std::string(100, 'x')})).error, KafkaError::kMessageTooLarge);
  EXPECT_EQ(produce("own", batch_of({std::string(100, 'x')})).error, KafkaError::kNone);
}

TEST_F(TopicsTest, a_log_in_memory_stays_one_and_so_does_a_log_on_disk) {
  EXPECT_EQ(create("disk"), KafkaError::kNone);
  EXPECT_EQ(create("memory", 1, {{"durability", "memory"}}), KafkaError::kNone);
  const auto refused = alter("disk", "durability", "memory");
  EXPECT_EQ(refused.error, KafkaError::kInvalidConfig);
  EXPECT_THAT(refused.message, HasSubstr("durability"));
  EXPECT_EQ(alter("memory", "durability", "fsync").error, KafkaError::kInvalidConfig);
  EXPECT_EQ(alter("memory", "durability", std::nullopt).error, KafkaError::kInvalidConfig);
  EXPECT_EQ(alter("disk", "durability", "os").error, KafkaError::kNone);
  EXPECT_EQ(produce("disk", batch_of({"a"})).error, KafkaError::kNone);
  EXPECT_EQ(alter("disk", "durability", "fsync").error, KafkaError::kNone);
  EXPECT_EQ(produce("disk", batch_of({"b"})).error, KafkaError::kNone);
  EXPECT_EQ(produce("memory", batch_of({"b"})).error, KafkaError::kNone);
  restart_after_crash(true);
  EXPECT_EQ(values("disk"), (Strings{"a", "b"}));
  EXPECT_EQ(values("memory"), Strings{});
}

TEST_F(TopicsTest, what_is_only_validated_waits_for_nobody) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  bool syncing = false;
  disk().set_hook([&syncing](io::sim::DiskOp op, const std::string& path) {
    syncing = syncing || (op == io::sim::DiskOp::kSync && path.find("metadata.log") != std::string::npos);
    return io::sim::DiskFault::kNone;
  });
  run([&syncing, this]() -> io::Task<bool> {
    io::TaskGroup others;
    others.spawn([](Broker& broker) -> io::Task<void> {
      catalog::CreateTopic other;
      other.name = "other";
      EXPECT_EQ((co_await broker.create_topic(std::move(other), false)).error, KafkaError::kNone);
    }(broker()));
    for (int i = 0; i < 10'000 && !syncing; ++i) co_await io::sleep_for(1us);  // simulated time
    EXPECT_TRUE(syncing);
    const Instant began = io::Shard::current().now();
    catalog::CreateTopic next;
    next.name = "next";
    const CreateOutcome valid = co_await broker().create_topic(next, true);
    EXPECT_EQ(valid.error, KafkaError::kNone);
    EXPECT_EQ(valid.partitions, 1);
    next.name = "t";
    EXPECT_EQ((co_await broker().create_topic(next, true)).error, KafkaError::kTopicAlreadyExists);
    std::vector<catalog::AlterSetting> bad{{"retention.ms", AlterOp::kSet, "soon"}};
    EXPECT_EQ((co_await broker().alter_topic("t", bad, true)).error, KafkaError::kInvalidConfig);
    EXPECT_EQ(io::Shard::current().now(), began) << "another topic was still on its way to the disk";
    EXPECT_EQ(broker().catalog()->topic("other"), nullptr);
    co_await others.join();
    EXPECT_NE(broker().catalog()->topic("other"), nullptr);
    EXPECT_EQ(broker().catalog()->topic("next"), nullptr);
    co_return true;
  });
  disk().set_hook({});
}

TEST_F(TopicsTest, partitions_can_be_added) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  const auto grow = [this](const std::string& name, std::int32_t count, bool validate = false) {
    return run([=, this]() -> io::Task<KafkaError> {
      catalog::CreatePartitions more;
      more.name = name;
      more.count = count;
      co_return (co_await broker().create_partitions(std::move(more), validate)).error;
    });
  };
  EXPECT_EQ(grow("t", 1), KafkaError::kInvalidPartitions);
  EXPECT_EQ(grow("t", 3, true), KafkaError::kNone);
  EXPECT_EQ(cluster_->catalog()->topic("t")->partitions.size(), 1u);
  EXPECT_EQ(grow("t", 3), KafkaError::kNone);
  EXPECT_EQ(grow("u", 3), KafkaError::kUnknownTopicOrPartition);
  run([this]() -> io::Task<bool> {
    std::vector<Bytes> batches;
    for (int i = 0; i < 3; ++i) batches.push_back(batch_of({"x"}));
    for (const auto& out :
         co_await broker().produce(items("t", std::move(batches)), Acks::kAll, 10s)) {
      EXPECT_EQ(out.error, KafkaError::kNone) << out.message;
    }
    co_return true;
  });
}

TEST_F(TopicsTest, a_damaged_partition_stays_offline_by_name_and_the_others_serve) {
  EXPECT_EQ(create("bad"), KafkaError::kNone);
  EXPECT_EQ(create("good"), KafkaError::kNone);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(produce("bad", batch_of({"a"})).error, KafkaError::kNone);
    EXPECT_EQ(produce("good", batch_of({"a"})).error, KafkaError::kNone);
  }
  const std::string segment = dir_of("bad") + "/00000000000000000000.log";
  crash();
  ASSERT_TRUE(disk().corrupt(segment, 64 + 70));
  start();
  EXPECT_EQ(produce("bad", batch_of({"b"})).error, KafkaError::kKafkaStorageError);
  EXPECT_EQ(fetch("bad", 0).error, KafkaError::kKafkaStorageError);
  EXPECT_EQ(produce("good", batch_of({"b"})).error, KafkaError::kNone);
  const auto told = run([this]() -> io::Task<std::vector<PartitionStatus>> {
    co_return co_await broker().status();
  });
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].name, "bad-0");
  EXPECT_NE(told[0].offline, "");
  EXPECT_EQ(told[1].offline, "");
}

TEST_F(TopicsTest, a_loss_is_recorded_when_there_may_be_one_and_only_then) {
  EXPECT_EQ(create("os", 1, {{"durability", "os"}}), KafkaError::kNone);
  EXPECT_EQ(create("fsync"), KafkaError::kNone);
  const auto losses = [this](const std::string& topic) {
    return cluster_->catalog()->topic(topic)->partitions[0]->lost.size();
  };
  EXPECT_EQ(produce("os", batch_of({"a"})).error, KafkaError::kNone);
  restart_after_crash();
  EXPECT_EQ(losses("os"), 0u) << "the system went on";
  stop();
  node().lose_power();
  node().restart();
  start();
  EXPECT_EQ(losses("os"), 0u) << "a clean end had synced everything";
  EXPECT_EQ(values("os"), Strings{"a"});
  EXPECT_EQ(produce("os", batch_of({"b"})).error, KafkaError::kNone);
  restart_after_crash(true);
  EXPECT_EQ(losses("os"), 1u);
  EXPECT_EQ(losses("fsync"), 0u);
}

TEST_F(TopicsTest, a_hold_is_shown_and_keeps_records_from_deletion) {
  EXPECT_EQ(create("t"), KafkaError::kNone);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(produce("t", batch_of({"a"})).error, KafkaError::kNone);
  const auto hold = [this](const char* topic, std::int64_t from) {
    return run([=, this]() -> io::Task<bool> {
      co_return (co_await broker().hold({topic, 0}, "view", from)).has_value();
    });
  };
  const auto deleted_to = [this](std::int64_t below) {
    return run([=, this]() -> io::Task<std::expected<std::int64_t, KafkaError>> {
      co_return co_await broker().delete_records({"t", 0}, below, 1s);
    });
  };
  EXPECT_FALSE(hold("nothing", 0));
  EXPECT_TRUE(hold("t", 1));
  EXPECT_EQ(deleted_to(-1), std::unexpected(KafkaError::kPolicyViolation));
  EXPECT_EQ(deleted_to(1), 1);
  const auto told = run([this]() -> io::Task<std::vector<PartitionStatus>> {
    co_return co_await broker().status();
  });
  ASSERT_EQ(told.size(), 1u);
  ASSERT_EQ(told[0].holds.size(), 1u);
  EXPECT_EQ(told[0].holds[0].by, "view");
  EXPECT_EQ(told[0].holds[0].offset, 1);
  EXPECT_TRUE(run([this]() -> io::Task<bool> {
    co_await broker().release({"t", 0}, "view");
    co_return true;
  }));
  EXPECT_EQ(deleted_to(-1), 3);
}

TEST_F(TopicsTest, producer_ids_are_unique_over_shards_and_lives) {
  stop();
  options_.producer_id_block = 3;
  std::set<std::int64_t> all;
  for (int life = 0; life < 3; ++life) {
    start();
    for (unsigned i = 0; i < 10; ++i) {
      const auto id = run([this]() -> io::Task<Result<std::int64_t>> {
        co_return co_await broker().new_producer_id();
      }, i % 2);
      ASSERT_TRUE(id);
      EXPECT_TRUE(all.insert(*id).second) << *id;
    }
    crash(true);
  }
}

}  // namespace
}  // namespace pyralog::broker
