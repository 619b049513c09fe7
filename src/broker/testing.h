#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/broker.h"
#include "cluster/cluster.h"
#include "io/sim/simulator.h"

namespace pyralog::broker::testing {

/// One batch with a record per value; keys and timestamps count up from the first's.
struct BatchSpec {
  std::int64_t timestamp = 1'000;
  Codec codec = Codec::kNone;
  std::int64_t producer = -1;
  std::int16_t epoch = -1;
  std::int32_t sequence = -1;
  std::int16_t attributes = 0;
  bool keys = true;
};
inline Bytes batch_of(const std::vector<std::string>& values, BatchSpec spec = {}) {
  BatchBuilder builder(spec.codec);
  builder.producer(spec.producer, spec.epoch, spec.sequence).attributes(spec.attributes);
  for (std::size_t i = 0; i < values.size(); ++i) {
    NewRecord record;
    record.timestamp = spec.timestamp + static_cast<std::int64_t>(i);
    if (spec.keys) record.key = as_bytes(values[i]);
    record.value = as_bytes(values[i]);
    builder.add(record);
  }
  return builder.build().value();
}

/// The values of whole batches, back to back.
inline std::vector<std::string> values_of(ByteView bytes) {
  std::vector<std::string> values;
  while (!bytes.empty()) {
    const BatchHeader header = parse_batch_header(bytes).value();
    RecordReader reader = RecordReader::open(bytes.first(header.total_bytes()), 1u << 20).value();
    while (const auto record = reader.next().value()) values.emplace_back(as_text(*record->value));
    bytes = bytes.subspan(header.total_bytes());
  }
  return values;
}

inline io::Task<Bytes> bytes_of(std::vector<io::Piece> pieces) {
  Bytes all;
  for (const io::Piece& piece : pieces) {
    if (const auto* memory = std::get_if<SharedBytes>(&piece)) {
      all.insert(all.end(), memory->view().begin(), memory->view().end());
      continue;
    }
    const auto& range = std::get<io::FileRange>(piece);
    Bytes part(range.count);
    const auto got = co_await range.file->read_at(range.position, part);
    EXPECT_TRUE(got && *got == part.size());
    all.insert(all.end(), part.begin(), part.end());
  }
  co_return all;
}

/// A broker with its cluster on one simulated machine, alive until the test stops it or takes the
/// machine down.
class BrokerTest : public ::testing::Test {
 protected:
  explicit BrokerTest(unsigned shards = 2, std::uint64_t seed = 1) : sim_(seed) {
    sim_.add_node({.shards = shards});
    options_.data_dir = cluster_options_.data_dir = "/data";
    options_.offsets_partitions = 3;
    options_.groups.initial_rebalance_delay_ms = 0;
  }
  ~BrokerTest() override {
    if (broker_ != nullptr && node().up()) stop();
  }

  io::sim::Node& node() { return sim_.node(0); }
  io::sim::SimDisk& disk() { return node().disk(); }
  Broker& broker() { return *broker_; }
  template <typename F>
  auto run(F make, unsigned shard = 0) {
    return node().run(std::move(make), shard);
  }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }

  /// Starts it; false, with `start_error_`, if it refuses to.
  bool try_start() {
    start_error_.clear();
    node().spawn([this] { return life(); });
    sim_.run_until([this] { return broker_ != nullptr || !start_error_.empty() || !node().up(); });
    return broker_ != nullptr;
  }
  void start() { ASSERT_TRUE(try_start()) << start_error_; }
  void stop() {
    EXPECT_TRUE(run([this]() -> io::Task<bool> {
      stopping_ = true;
      stop_->wake_all();
      co_return true;
    }));
    sim_.run_until([this] { return broker_ == nullptr; });
    EXPECT_EQ(broker_, nullptr);
    stopping_ = false;
  }
  /// Ends the process, or the power, and starts the machine but not the broker.
  void crash(bool power = false) {
    power ? node().lose_power() : node().kill();
    broker_ = nullptr;
    cluster_ = nullptr;
    node().restart();
  }
  void restart_after_crash(bool power = false) {
    crash(power);
    start();
  }

  KafkaError create(std::string name, std::int32_t partitions = 1,
                    catalog::SettingChanges settings = {}) {
    return run([=, this]() -> io::Task<KafkaError> {
      catalog::CreateTopic topic;
      topic.name = name;
      topic.partitions = partitions;
      topic.settings = settings;
      co_return (co_await broker_->create_topic(std::move(topic), false)).error;
    });
  }
  /// A request of one batch per partition of `topic`, from 0.
  static std::vector<ProduceItem> items(const std::string& topic, std::vector<Bytes> batches) {
    std::vector<ProduceItem> made;
    std::int32_t partition = 0;
    for (Bytes& batch : batches) {
      auto owner = std::make_shared<Bytes>(std::move(batch));
      made.push_back({{topic, partition++}, owner, MutableBytes(*owner)});
    }
    return made;
  }
  io::Task<ProduceOutcome> send(std::string topic, Bytes batch, Acks acks = Acks::kAll,
                                Duration timeout = std::chrono::seconds(10)) {
    std::vector<Bytes> one;
    one.push_back(std::move(batch));
    auto out = co_await broker_->produce(items(topic, std::move(one)), acks, timeout);
    co_return std::move(out.front());
  }
  ProduceOutcome produce(std::string topic, Bytes batch, Acks acks = Acks::kAll) {
    return run([&, this]() -> io::Task<ProduceOutcome> {
      co_return co_await send(topic, std::move(batch), acks);
    });
  }
  io::Task<FetchOutcome> read(PartitionRef target, std::int64_t offset, Duration wait = {},
                              std::int64_t max_bytes = 1 << 20) {
    std::vector<FetchItem> wanted(1);
    wanted[0].target = std::move(target);
    wanted[0].offset = offset;
    wanted[0].max_bytes = max_bytes;
    auto out = co_await broker_->fetch(std::move(wanted), {1, 50u << 20, in(wait)});
    co_return std::move(out.front());
  }
  io::Task<void> read_into(FetchOutcome& out, Instant& at, std::int64_t offset, Duration wait) {
    out = co_await read({"t", 0}, offset, wait);
    at = io::Shard::current().now();
  }
  FetchOutcome fetch(const std::string& topic, std::int64_t offset, Duration wait = {}) {
    return run([&, this]() -> io::Task<FetchOutcome> {
      co_return co_await read({topic, 0}, offset, wait);
    });
  }
  std::vector<std::string> values(const std::string& topic, std::int32_t partition = 0) {
    return run([&, this]() -> io::Task<std::vector<std::string>> {
      FetchOutcome out = co_await read({topic, partition}, 0);
      EXPECT_EQ(out.error, KafkaError::kNone);
      co_return values_of(co_await bytes_of(std::move(out.records)));
    });
  }
  OffsetAnswer offset(const std::string& topic, std::int64_t timestamp) {
    return run([&, this]() -> io::Task<OffsetAnswer> {
      std::vector<OffsetQuery> one;
      one.push_back({{topic, 0}, -1, timestamp});
      co_return (co_await broker_->list_offsets(std::move(one))).front();
    });
  }

  io::sim::Simulator sim_;
  Options options_;
  cluster::Cluster::Options cluster_options_;
  Broker* broker_ = nullptr;
  cluster::Cluster* cluster_ = nullptr;
  std::string start_error_;

 private:
  // Everything lives in this frame, so that a crash takes it along.
  io::Task<void> life() {
    io::Shard& shard = io::Shard::current();
    auto cluster = co_await cluster::Cluster::open(shard.disk(), shard.rng(), cluster_options_);
    if (!cluster) {
      start_error_ = cluster.error().message;
      co_return;
    }
    Broker broker(node().shards(), options_);
    io::WaitList stop;
    if (auto started = co_await broker.start(**cluster); !started) {
      start_error_ = started.error().message;
      static_cast<void>(co_await broker.stop());
      co_return;
    }
    cluster_ = cluster->get();
    stop_ = &stop;
    broker_ = &broker;
    while (!stopping_) co_await stop.wait(Instant::never());
    co_await broker.drain();
    const auto stopped = co_await broker.stop();
    EXPECT_TRUE(stopped || !node().up()) << stopped.error().message;
    broker_ = nullptr;
    cluster_ = nullptr;
  }

  bool stopping_ = false;
  io::WaitList* stop_ = nullptr;
};

}  // namespace pyralog::broker::testing
