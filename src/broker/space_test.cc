// A disk that fills up: who may still write, and what goes on.
#include <gmock/gmock.h>

#include "broker/testing.h"

namespace pyralog::broker {
namespace {

using testing::BrokerTest;
using ::testing::HasSubstr;

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kCapacity = 4096 * kKiB;
constexpr std::uint64_t kFloor = 1024 * kKiB;
constexpr std::uint64_t kReserve = 256 * kKiB;

class SpaceTest : public BrokerTest {
 protected:
  explicit SpaceTest(std::uint64_t floor = kFloor) {
    disk().options().capacity = kCapacity;
    options_.space = {floor, kReserve};
    start();
    EXPECT_EQ(create("t", 2, {{"segment.bytes", "65536"}}), KafkaError::kNone);
    EXPECT_EQ(create("m", 1, {{"durability", "memory"}}), KafkaError::kNone);
    EXPECT_EQ(run([this]() -> io::Task<KafkaError> {
                co_return (co_await broker().ensure_offsets_topic()).error;
              }),
              KafkaError::kNone);
  }

  ProduceOutcome produce_some(const std::string& topic = "t") {
    std::vector<std::string> values(20, std::string(1000, 'x'));
    return produce(topic, testing::batch_of(values));
  }
  /// Produces until that is refused; how often it was not.
  int produce_all() {
    for (int i = 0;; ++i) {
      refused_ = produce_some();
      if (refused_.error != KafkaError::kNone) return i;
      sim_.run_for(50ms);
    }
  }
  /// Somebody else writes until `left` bytes are left.
  void others_leave(std::uint64_t left) {
    EXPECT_TRUE(run([&]() -> io::Task<bool> {
      auto file = (co_await disk().open("/foreign", io::OpenMode::kOpenOrCreate)).value();
      const std::uint64_t free = (co_await disk().space("/")).value().free_bytes;
      const std::uint64_t more = free - std::min(free, left);
      const bool taken = (co_await file->allocate(file->size() + more)).has_value();
      // A power loss takes nothing of it away.
      co_return taken && co_await file->sync() && co_await disk().sync_dir("/");
    }));
  }
  void others_go() {
    EXPECT_TRUE(run(
        [&]() -> io::Task<bool> { co_return (co_await disk().remove("/foreign")).has_value(); }));
  }
  std::uint64_t free_bytes() {
    return run([&]() -> io::Task<std::uint64_t> {
      co_return (co_await disk().space("/")).value().free_bytes;
    });
  }
  SpaceStatus space() {
    return run([&]() -> io::Task<SpaceStatus> { co_return broker().space(); });
  }
  KafkaError commit(const std::string& group, std::int64_t offset) {
    return run([&]() -> io::Task<KafkaError> {
      group::CommitRequest request;
      request.group = group;
      request.generation = -1;
      request.partitions.push_back({"t", 0, offset, -1, ""});
      const auto answer =
          co_await broker().with_group(group, [&](GroupHost& host) -> io::Task<group::Response> {
            co_return co_await host.ask(group::Input(request));
          });
      if (!answer) co_return answer.error();
      co_return std::get<group::CommitResponse>(*answer).partitions.front().error;
    });
  }
  KafkaError remove(const std::string& topic) {
    return run(
        [&]() -> io::Task<KafkaError> { co_return (co_await broker().delete_topic(topic)).error; });
  }
  std::expected<std::int64_t, KafkaError> delete_records(std::int64_t below) {
    return run([&]() -> io::Task<std::expected<std::int64_t, KafkaError>> {
      co_return co_await broker().delete_records({"t", 0}, below, 1s);
    });
  }
  bool there_is_a_reserve() { return disk().peek("/data/reserve").has_value(); }
  /// All that has to go on whatever the disk says.
  void expect_the_rest_goes_on() {
    EXPECT_EQ(fetch("t", 0).error, KafkaError::kNone);
    EXPECT_EQ(produce("m", testing::batch_of({"a"})).error, KafkaError::kNone);
    for (const char* group : {"a", "b", "c", "d", "e"}) {
      EXPECT_EQ(commit(group, 5), KafkaError::kNone);
    }
    EXPECT_EQ(create("other"), KafkaError::kNone);
    EXPECT_EQ(remove("other"), KafkaError::kNone);
    EXPECT_TRUE(run(
        [&]() -> io::Task<bool> { co_return (co_await broker().new_producer_id()).has_value(); }));
  }

  ProduceOutcome refused_;
};

TEST_F(SpaceTest, records_are_refused_while_there_is_space_and_the_rest_goes_on) {
  EXPECT_TRUE(there_is_a_reserve());
  EXPECT_GT(produce_all(), 50);
  EXPECT_EQ(refused_.error, KafkaError::kKafkaStorageError);
  EXPECT_THAT(refused_.message, HasSubstr("min.free.bytes"));
  EXPECT_THAT(refused_.message, HasSubstr("topic t"));
  EXPECT_GT(free_bytes(), kFloor / 2) << "long before the disk is full";
  EXPECT_TRUE(there_is_a_reserve());
  EXPECT_TRUE(space().refusing);
  EXPECT_FALSE(
      run([&]() -> io::Task<std::string> { co_return broker().space_complaint(); }, 1).empty())
      << "every shard knows";
  expect_the_rest_goes_on();
  EXPECT_EQ(produce_some().error, KafkaError::kKafkaStorageError);
  EXPECT_GE(run([&]() -> io::Task<BrokerTotals> {
              co_return co_await broker().totals();
            }).refused_for_space,
            2u);

  const std::int64_t end = offset("t", -1).offset;
  EXPECT_EQ(delete_records(end - 10), end - 10);
  sim_.run_for(1s);
  EXPECT_FALSE(space().refusing);
  EXPECT_EQ(produce_some().error, KafkaError::kNone);
}

TEST_F(SpaceTest, on_a_full_disk_the_reserve_goes_so_that_the_rest_goes_on) {
  EXPECT_EQ(produce_some().error, KafkaError::kNone);
  others_leave(0);
  // Whoever comes first finds no space; nobody has looked yet.
  EXPECT_EQ(create("first"), KafkaError::kNone);
  EXPECT_FALSE(there_is_a_reserve());
  EXPECT_GT(free_bytes(), kReserve / 2);
  expect_the_rest_goes_on();
  EXPECT_EQ(produce_some().error, KafkaError::kKafkaStorageError) << "it is not for clients";
  EXPECT_EQ(delete_records(10), 10);
  EXPECT_EQ(remove("first"), KafkaError::kNone);
  sim_.run_for(20s);
  EXPECT_TRUE(space().refusing);
  EXPECT_FALSE(there_is_a_reserve());

  others_go();
  sim_.run_for(20s);
  EXPECT_FALSE(space().refusing);
  EXPECT_TRUE(there_is_a_reserve());
  EXPECT_EQ(space().held_bytes, kReserve);
  EXPECT_EQ(produce_some().error, KafkaError::kNone);
}

TEST_F(SpaceTest, a_quota_is_told_from_a_full_disk) {
  const auto complaint = [this] {
    return run([this]() -> io::Task<std::string> { co_return broker().space_complaint(); });
  };
  disk().set_hook([](io::sim::DiskOp op, const std::string& path) {
    const bool meant = op == io::sim::DiskOp::kWrite && path.ends_with(".log") &&
                       !path.ends_with("metadata.log");
    return meant ? io::sim::DiskFault::kNoSpace : io::sim::DiskFault::kNone;
  });
  EXPECT_EQ(produce_some().error, KafkaError::kKafkaStorageError);
  sim_.run_for(100ms);
  EXPECT_TRUE(space().refusing);
  EXPECT_THAT(complaint(), HasSubstr("a write found no space"));
  EXPECT_THAT(complaint(), HasSubstr("a quota, perhaps"));
  disk().set_hook({});
  sim_.run_for(20s);
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(produce_some().error, KafkaError::kNone);

  others_leave(kFloor / 2);
  sim_.run_for(6s);
  EXPECT_THAT(complaint(), HasSubstr("min.free.bytes")) << "that one is full";
}

TEST_F(SpaceTest, a_commit_that_finds_no_space_is_made_room_for) {
  EXPECT_EQ(commit("a", 1), KafkaError::kNone);
  others_leave(0);
  EXPECT_EQ(commit("a", 2), KafkaError::kNone);
  EXPECT_FALSE(there_is_a_reserve());
}

TEST_F(SpaceTest, a_deletion_that_finds_no_space_is_made_room_for) {
  EXPECT_EQ(produce_some().error, KafkaError::kNone);
  others_leave(0);
  EXPECT_EQ(delete_records(10), 10);
  EXPECT_FALSE(there_is_a_reserve());
}

TEST_F(SpaceTest, the_reserve_goes_before_the_last_byte_is_taken) {
  others_leave(kReserve - 1);
  sim_.run_for(6s);
  EXPECT_FALSE(there_is_a_reserve());
  EXPECT_TRUE(space().refusing);
}

TEST_F(SpaceTest, a_start_on_a_full_disk_serves_and_refuses) {
  EXPECT_EQ(produce_some().error, KafkaError::kNone);
  others_leave(0);
  restart_after_crash(true);
  EXPECT_EQ(produce_some().error, KafkaError::kKafkaStorageError);
  expect_the_rest_goes_on();
  others_go();
  sim_.run_for(20s);
  EXPECT_EQ(produce_some().error, KafkaError::kNone);
  EXPECT_TRUE(there_is_a_reserve());
}

TEST_F(SpaceTest, compaction_waits_for_room) {
  const auto passes = [this] {
    return run([&]() -> io::Task<BrokerTotals> { co_return co_await broker().totals(); })
        .log.compaction_passes;
  };
  EXPECT_EQ(create("c", 1,
                   {{"cleanup.policy", "compact"},
                    {"segment.bytes", "1048576"},
                    {"min.cleanable.dirty.ratio", "0"}}),
            KafkaError::kNone);
  others_leave(2600 * kKiB);
  sim_.run_for(1s);
  for (int i = 0; i < 58; ++i) EXPECT_EQ(produce_some("c").error, KafkaError::kNone);
  others_leave(kReserve + 100 * kKiB);
  sim_.run_for(60s);
  EXPECT_TRUE(space().refusing);
  EXPECT_EQ(passes(), 0u) << "the copy would not fit";
  others_go();
  sim_.run_for(60s);
  EXPECT_GE(passes(), 1u);
}

class NoFloorTest : public SpaceTest {
 protected:
  NoFloorTest() : SpaceTest(0) {}
};

TEST_F(NoFloorTest, clients_are_refused_before_they_get_into_the_reserve) {
  EXPECT_GT(produce_all(), 70);
  EXPECT_THAT(refused_.message, HasSubstr("min.free.bytes"));
  EXPECT_GT(free_bytes(), kReserve / 2);
  expect_the_rest_goes_on();
}

}  // namespace
}  // namespace pyralog::broker
