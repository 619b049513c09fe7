// libpyralog asks who leads, and goes on whoever leads then.
#include <map>

#include "client/offsets.h"
#include "protocol/kafka/brokers_testing.h"

namespace pyralog::protocol::kafka {
namespace {

using namespace testing;
using client::TopicPartition;
using ::testing::ElementsAreArray;

class SmartClient : public KafkaBrokersTest {
 protected:
  static constexpr std::int32_t kPartitions = 4;
  void begin() {
    start_all();
    ASSERT_EQ(create(1, "t", kPartitions), KafkaError::kNone);
    ASSERT_TRUE(sim_.run_until(
        [&] {
          for (std::int32_t p = 0; p < kPartitions; ++p) {
            if (leader_of(p) == 0) return false;
          }
          return true;
        },
        10s));
    sim_.run_for(1s);
  }
  /// Writes to all partitions, and reads them, until `enough`; what was acknowledged is in
  /// `written_`.
  io::Task<void> write_and_read(std::function<bool()> enough) {
    client::Cluster cluster(client_options());
    client::ProducerOptions writes;
    writes.max_in_flight = 1;
    writes.linger = 1ms;
    client::Producer producer(cluster, writes);
    client::Consumer consumer(cluster, {});
    client::Offsets begin;
    for (std::int32_t p = 0; p < kPartitions; ++p) begin[{"t", p}] = 0;
    consumer.assign(begin);
    std::uint64_t next = 0;
    while (!enough() && !HasFailure()) {
      for (std::int32_t p = 0; p < kPartitions; ++p) {
        const std::string value = std::to_string(next++);
        EXPECT_TRUE(co_await producer.send(record(p, value),
                                           [this, p, value](const Result<client::Delivery>& done) {
                                             EXPECT_TRUE(done) << done.error().message;
                                             if (done) written_[p].push_back(value);
                                           }));
      }
      const auto flushed = co_await producer.flush();
      EXPECT_TRUE(flushed) << flushed.error().message;
      rounds_ = next / kPartitions;
      co_await take(consumer, in(10ms));
    }
    const Instant end = in(20s);
    while (read_ < next && io::Shard::current().now() < end) co_await take(consumer, in(1s));
    EXPECT_EQ(read_, next);
    co_await producer.close();
    EXPECT_TRUE(co_await consumer.close(in(5s)));
    co_await cluster.close();
  }
  io::Task<void> take(client::Consumer& consumer, Instant deadline) {
    const auto batches = co_await consumer.poll(deadline);
    EXPECT_TRUE(batches) << batches.error().message;
    if (!batches) co_return;
    for (const auto& each : *batches) {
      for (std::string& value : values_in({each})) {
        seen_[each.partition.partition].push_back(std::move(value));
        ++read_;
      }
    }
  }
  /// Each acknowledged record is there once, in order.
  void judge() {
    for (std::int32_t p = 0; p < kPartitions; ++p) {
      EXPECT_TRUE(seen_[p] == written_[p]) << "partition " << p << ": " << seen_[p].size()
                                           << " read, " << written_[p].size() << " written";
    }
  }
  void more_rounds(std::uint64_t count) {
    const std::uint64_t goal = rounds_ + count;
    ASSERT_TRUE(sim_.run_until([&] { return rounds_ >= goal; }, 60s)) << rounds_;
  }

  std::map<std::int32_t, std::vector<std::string>> written_;
  std::map<std::int32_t, std::vector<std::string>> seen_;
  std::uint64_t read_ = 0;
  std::uint64_t rounds_ = 0;
  bool enough_ = false;
  bool ended_ = false;
};

TEST_F(SmartClient, asks_leaders_only_and_each_partition_once_anew_when_its_leader_changes) {
  begin();
  outside().spawn([this]() -> io::Task<void> {
    co_await write_and_read([this] { return enough_; });
    ended_ = true;
  });
  more_rounds(20);
  const std::uint64_t asked = requests("Metadata");
  more_rounds(200);
  EXPECT_EQ(wrong_leader("Produce") + wrong_leader("Fetch"), 0u) << "in the steady state";
  EXPECT_EQ(requests("Metadata"), asked) << "in the steady state";

  constexpr int kChanges = 24;
  for (int change = 0; change < kChanges && !HasFailure(); ++change) {
    const std::int32_t p = change % kPartitions;
    const std::int32_t from = leader_of(p);
    ASSERT_NE(from, 0);
    const std::int32_t to = (from + change / kPartitions % 2) % kNodes + 1;
    const std::uint64_t produced = wrong_leader("Produce");
    const std::uint64_t fetched = wrong_leader("Fetch");
    ASSERT_EQ(run(from,
                  [&, this]() -> io::Task<KafkaError> {
                    co_return (co_await at(from).broker->move_leader({"t", p}, NodeId(to))).error;
                  }),
              KafkaError::kNone);
    ASSERT_TRUE(sim_.run_until([&] { return leader_of(p) == to; }, 10s));
    more_rounds(20);
    EXPECT_LE(wrong_leader("Produce") - produced, 1u) << "change " << change;
    EXPECT_LE(wrong_leader("Fetch") - fetched, 1u) << "change " << change;
  }
  // While nobody leads yet nobody can be named; then one question is for all who want to know.
  EXPECT_LE(requests("Metadata") - asked, 2u * kChanges);
  enough_ = true;
  ASSERT_TRUE(sim_.run_until([&] { return ended_; }, 60s));
  judge();
}

/// A producer that is idle while a leader changes.
class SmartProducer : public SmartClient {
 protected:
  /// Moves partition 0's leader `changes` times between these, lets it become known for so long (0:
  /// not even to who led), and writes one record each time; returns what the most wrong answers for
  /// one were.
  std::uint64_t move_and_write(int changes, Duration known_for, std::int32_t one,
                               std::int32_t other) {
    std::uint64_t most = 0;
    outside().spawn([this]() -> io::Task<void> {
      client::Cluster cluster(client_options());
      client::ProducerOptions writes;
      writes.linger = 0ms;
      client::Producer producer(cluster, writes);
      while (!enough_) {
        if (rounds_ == wanted_) {
          co_await io::sleep_for(1ms);
          continue;
        }
        EXPECT_TRUE(co_await producer.send(record(0, std::to_string(rounds_))));
        const auto flushed = co_await producer.flush();
        EXPECT_TRUE(flushed) << flushed.error().message;
        ++rounds_;
      }
      co_await producer.close();
      co_await cluster.close();
      ended_ = true;
    });
    for (int change = 0; change <= changes && !HasFailure(); ++change) {
      const std::uint64_t before = wrong_leader("Produce");
      const std::int32_t from = leader_of(0);
      const std::int32_t to = from == one ? other : one;
      EXPECT_EQ(run(from,
                    [&, this]() -> io::Task<KafkaError> {
                      co_return (co_await at(from).broker->move_leader({"t", 0}, NodeId(to))).error;
                    }),
                KafkaError::kNone);
      const auto moved = [&] { return leader_of(0) == to; };
      if (known_for > 0ms) EXPECT_TRUE(sim_.run_until(moved, 10s));
      sim_.run_for(known_for);
      ++wanted_;
      EXPECT_TRUE(sim_.run_until([&] { return moved() && rounds_ == wanted_; }, 20s));
      if (change == 0) asked_ = requests("Metadata");
      most = std::max(most, wrong_leader("Produce") - before);
    }
    asked_ = requests("Metadata") - asked_;
    enough_ = true;
    EXPECT_TRUE(sim_.run_until([&] { return ended_; }, 20s));
    return most;
  }
  std::uint64_t wanted_ = 0;
  std::uint64_t asked_ = 0;  ///< questions for metadata, after the first change
};

TEST_F(SmartProducer, goes_where_it_is_told_to_without_asking_for_metadata) {
  begin();
  EXPECT_EQ(move_and_write(6, 1s, 2, 3), 1u);
  EXPECT_EQ(asked_, 0u);
}

TEST_F(SmartProducer, does_not_believe_that_who_has_refused_leads) {
  begin();
  // It asks this one first, which hears of everything late.
  sim_.net().slow(machine(2), machine(1), 150ms);
  sim_.net().slow(machine(3), machine(1), 150ms);
  EXPECT_LE(move_and_write(8, 0ms, 2, 3), 1u);
}

TEST_F(SmartClient, each_record_is_there_once_and_in_order_though_leaders_die) {
  begin();
  outside().spawn([this]() -> io::Task<void> {
    co_await write_and_read([this] { return enough_; });
    ended_ = true;
  });
  more_rounds(10);
  for (std::int32_t i = 1; i <= kNodes; ++i) {
    kill(i);
    more_rounds(20);
    start(i);
    ASSERT_TRUE(up({i}));
    more_rounds(20);
  }
  enough_ = true;
  ASSERT_TRUE(sim_.run_until([&] { return ended_; }, 60s));
  judge();
}

TEST_F(SmartClient, reads_in_its_rack_and_goes_on_when_that_replica_or_the_leader_dies) {
  begin();
  const std::int32_t leader = leader_of(0);
  const std::int32_t near = leader % kNodes + 1;
  const std::int32_t third = 6 - leader - near;
  std::vector<std::string> seen;
  std::int32_t reads_from = -1;
  bool stop = false;
  outside().spawn([&, this]() -> io::Task<void> {
    client::Cluster cluster(client_options());
    client::ConsumerOptions options;
    options.fetch.read_from = client::ReadFrom::kNearest;
    options.fetch.rack = rack_of(near);
    client::Consumer consumer(cluster, options);
    consumer.assign({{{"t", 0}, 0}});
    while (!stop) {
      const auto batches = co_await consumer.poll(in(200ms));
      EXPECT_TRUE(batches) << batches.error().message;
      if (!batches) break;
      std::ranges::move(values_in(*batches), std::back_inserter(seen));
      reads_from = consumer.fetcher().replica({"t", 0});
    }
    EXPECT_TRUE(co_await consumer.close(in(5s)));
    co_await cluster.close();
    ended_ = true;
  });
  std::vector<std::string> sent;
  const auto go_on = [&](int count) {
    for (int i = 0; i < count; ++i) {
      sent.push_back(std::to_string(sent.size()));
      ASSERT_TRUE(write("t", sent.back()));
    }
    ASSERT_TRUE(sim_.run_until([&] { return seen.size() >= sent.size(); }, 20s));
  };
  go_on(30);
  EXPECT_EQ(reads_from, near);
  EXPECT_GE(records_read_from(near), 29u);
  EXPECT_LE(records_read_from(leader) + records_read_from(third), 1u);
  kill(near);
  go_on(20);
  EXPECT_EQ(reads_from, -1);
  EXPECT_GE(records_read_from(leader), 20u);
  start(near);
  ASSERT_TRUE(up({near}));
  ASSERT_TRUE(even("t"));
  sim_.run_for(5s);
  go_on(20);
  EXPECT_EQ(reads_from, near) << "it is back";
  kill(leader);
  go_on(20);
  stop = true;
  ASSERT_TRUE(sim_.run_until([&] { return ended_; }, 20s));
  EXPECT_THAT(seen, ElementsAreArray(sent));
}

}  // namespace
}  // namespace pyralog::protocol::kafka
