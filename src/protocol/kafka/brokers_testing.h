#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/cluster_testing.h"
#include "client/cluster.h"
#include "client/consumer.h"
#include "client/producer.h"
#include "observe/metrics.h"
#include "protocol/kafka/listener.h"
#include "protocol/kafka/service.h"

namespace pyralog::protocol::kafka::testing {

using namespace std::chrono_literals;

/// A cluster of three nodes behind Kafka's listeners, each in a rack of its own, and on a fourth
/// machine clients of libpyralog.
class KafkaBrokersTest : public broker::testing::ClusterOfBrokersTest {
 protected:
  explicit KafkaBrokersTest(std::uint64_t seed = 1) : ClusterOfBrokersTest(seed) {
    sim_.add_node({.name = "client"});
    in_racks_ = true;
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      registries_.push_back(std::make_unique<observe::Registry>(2));
    }
    door_ = [this](std::int32_t i, broker::Broker& broker) { return serve(i, broker); };
  }
  ~KafkaBrokersTest() override {
    // Before what they count into.
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (machine(i).up()) machine(i).kill();
    }
    sim_.run_for(1ms);
  }

  io::sim::Node& outside() { return sim_.node(kNodes); }
  static client::ClusterOptions client_options() {
    client::ClusterOptions options;
    for (std::int32_t i = 1; i <= kNodes; ++i) options.bootstrap.push_back({name_of(i), 9092});
    options.request_timeout = 5s;
    options.connect_timeout = 2s;
    return options;
  }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }

  /// What a node has counted; 0 if it has not counted that.
  std::uint64_t counted(std::int32_t i, const std::string& series) const {
    const std::string text = registries_[static_cast<std::size_t>(i - 1)]->text();
    const std::size_t found = text.find("\n" + series + " ");
    if (found == std::string::npos) return 0;
    return std::stoull(text.substr(found + series.size() + 2));
  }
  std::uint64_t counted(const std::string& series) const {
    std::uint64_t all = 0;
    for (std::int32_t i = 1; i <= kNodes; ++i) all += counted(i, series);
    return all;
  }
  std::uint64_t wrong_leader(const std::string& api) const {
    return counted("pyralog_kafka_errors_total{api=\"" + api +
                   "\",error=\"NOT_LEADER_OR_FOLLOWER\"}");
  }
  std::uint64_t requests(const std::string& api) const {
    return counted("pyralog_kafka_request_seconds_count{api=\"" + api + "\"}");
  }
  std::uint64_t records_read_from(std::int32_t i) const {
    return counted(i, "pyralog_kafka_fetched_records_total");
  }
  /// Who leads, as its own replica says; 0 = nobody.
  std::int32_t leader_of(std::int32_t partition, const std::string& topic = "t") {
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (at(i).broker == nullptr) continue;
      const auto found = at(i).cluster->catalog()->topic(topic);
      if (found == nullptr) continue;
      const auto& each = *found->partitions[static_cast<std::size_t>(partition)];
      const bool led = each.current && each.current->leader == NodeId(i) &&
                       each.highest_proposed == each.current->epoch;
      if (led) return i;
    }
    return 0;
  }
  static std::vector<std::string> values_in(const std::vector<client::PolledBatch>& batches) {
    std::vector<std::string> values;
    for (const client::PolledBatch& batch : batches) {
      const auto read = client::for_each_record(
          batch, [&](const RecordView& record) { values.emplace_back(as_text(*record.value)); });
      EXPECT_TRUE(read) << read.error().message;
    }
    return values;
  }
  static client::ProducerRecord record(std::int32_t partition, const std::string& value) {
    client::ProducerRecord made;
    made.topic = "t";
    made.partition = partition;
    made.value = Bytes(value.begin(), value.end());
    return made;
  }

 private:
  io::Task<void> serve(std::int32_t i, broker::Broker& broker) {
    io::Shard& shard = io::Shard::current();
    const io::Shards& shards = machine(i).shards();
    std::vector<std::unique_ptr<Service>> services;
    std::vector<Service*> pointers;
    Service::Options options;
    options.metrics = registries_[static_cast<std::size_t>(i - 1)].get();
    for (unsigned s = 0; s < shards.size(); ++s) {
      services.push_back(std::make_unique<Service>(broker, s, options));
      pointers.push_back(services.back().get());
    }
    for (Service* each : pointers) each->join(pointers, shards);
    auto bound = co_await shard.net().listen({"0.0.0.0", 9092});
    EXPECT_TRUE(bound);
    if (!bound) co_return;
    Listener listener(std::move(*bound), shards, pointers, {});
    io::TaskGroup running;
    running.spawn(listener.run());
    while (!at(i).stopping) co_await at(i).stop->wait(Instant::never());
    co_await listener.drain();
    co_await broker.drain();
    co_await listener.finish(in(10s));
    co_await running.join();
  }

  std::vector<std::unique_ptr<observe::Registry>> registries_;
};

}  // namespace pyralog::protocol::kafka::testing
