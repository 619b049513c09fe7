#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/testing.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"
#include "protocol/kafka/listener.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/api.h"
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/produce.h"

namespace pyralog::protocol::kafka::testing {

using broker::testing::batch_of;
using broker::testing::BatchSpec;
using broker::testing::values_of;

/// A response with the frame that its records are views into.
template <typename Response>
struct Received {
  Bytes frame;
  Response message;
  [[nodiscard]] const Response* operator->() const { return &message; }
};

/// A client that sends what it is told to, frame by frame, on one connection.
class RawClient {
 public:
  explicit RawClient(std::unique_ptr<io::Stream> stream) : stream_(std::move(stream)) {}

  io::Task<void> send_raw(Bytes bytes) {
    std::vector<io::Piece> pieces;
    pieces.emplace_back(SharedBytes(std::move(bytes)));
    static_cast<void>(co_await stream_->write(std::move(pieces), in(60s)));
  }
  template <typename Request>
  io::Task<void> send(const Request& request, std::int16_t version) {
    auto frame = wire::encode_request(request, version, next_sent_++, "raw");
    EXPECT_TRUE(frame) << frame.error().message;
    if (frame) co_await send_raw(std::move(frame->bytes));
  }
  /// Like send, but leaves with what `send_added` sends.
  template <typename Request>
  void add(const Request& request, std::int16_t version) {
    auto frame = wire::encode_request(request, version, next_sent_++, "raw");
    EXPECT_TRUE(frame) << frame.error().message;
    if (frame) added_.insert(added_.end(), frame->bytes.begin(), frame->bytes.end());
  }
  io::Task<void> send_added() { return send_raw(std::exchange(added_, {})); }
  /// A frame of any key and version, with a header of the old kind.
  io::Task<void> send_frame(std::int16_t key, std::int16_t version, Bytes body = {}) {
    Bytes frame(14);
    store_be(frame.data(), static_cast<std::int32_t>(10 + body.size()));
    store_be(frame.data() + 4, key);
    store_be(frame.data() + 6, version);
    store_be(frame.data() + 8, next_sent_++);
    store_be(frame.data() + 12, std::int16_t{-1});
    frame.insert(frame.end(), body.begin(), body.end());
    co_await send_raw(std::move(frame));
  }
  /// The next frame; nothing if the connection has ended or `wait` has passed.
  io::Task<std::optional<Bytes>> frame(Duration wait = std::chrono::seconds(120)) {
    const Instant deadline = in(wait);
    while (true) {
      if (inbox_.size() >= 4) {
        const auto size = static_cast<std::size_t>(load_be<std::int32_t>(inbox_.data()));
        if (inbox_.size() >= 4 + size) {
          const auto end = inbox_.begin() + 4 + static_cast<std::ptrdiff_t>(size);
          Bytes made(inbox_.begin() + 4, end);
          inbox_.erase(inbox_.begin(), end);
          co_return made;
        }
      }
      Bytes room(1 << 16);
      const auto got = co_await stream_->read_some(room, deadline);
      if (!got || *got == 0) {
        ended_ = !got ? got.error().code != Code::kTimedOut : true;
        co_return std::nullopt;
      }
      inbox_.insert(inbox_.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(*got));
    }
  }
  template <typename Response>
  io::Task<std::optional<Received<Response>>> receive(std::int16_t version) {
    auto bytes = co_await frame();
    EXPECT_TRUE(bytes) << "no response";
    if (!bytes) co_return std::nullopt;
    Received<Response> made{std::move(*bytes), {}};
    const auto head = wire::parse_response(made.frame, Response::kApiKey, version);
    EXPECT_TRUE(head);
    if (!head) co_return std::nullopt;
    EXPECT_EQ(head->correlation_id, next_received_++) << "responses leave in request order";
    auto body = wire::decode_message<Response>(head->body, version);
    EXPECT_TRUE(body) << body.error().message;
    if (!body) co_return std::nullopt;
    made.message = std::move(*body);
    co_return made;
  }
  template <typename Response, typename Request>
  io::Task<Received<Response>> call(const Request& request, std::int16_t version) {
    co_await send(request, version);
    auto made = co_await receive<Response>(version);
    co_return made ? std::move(*made) : Received<Response>{};
  }
  /// For requests that get no response.
  void skip_response() { ++next_received_; }
  /// True if the other side ends the connection, without a byte, within `wait`.
  io::Task<bool> closed(Duration wait = std::chrono::seconds(5)) {
    const auto bytes = co_await frame(wait);
    co_return !bytes && ended_ && inbox_.empty();
  }
  void close() { stream_->close(); }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }

 private:
  std::unique_ptr<io::Stream> stream_;
  Bytes inbox_;
  Bytes added_;
  std::int32_t next_sent_ = 1;
  std::int32_t next_received_ = 1;
  bool ended_ = false;
};

/// A whole node behind a Kafka listener on one simulated machine, raw clients on another.
class KafkaTest : public ::testing::Test {
 protected:
  explicit KafkaTest(unsigned shards = 2, std::uint64_t seed = 1) : sim_(seed) {
    sim_.add_node({.shards = shards});
    sim_.add_node();
    options_.data_dir = "/data";
    options_.offsets_partitions = 2;
    options_.groups.initial_rebalance_delay_ms = 0;
  }
  ~KafkaTest() override {
    if (broker_ != nullptr && node().up()) stop();
  }

  io::sim::Node& node() { return sim_.node(0); }
  io::sim::SimDisk& disk() { return node().disk(); }

  void start() {
    node().spawn([this] { return life(); });
    sim_.run_until([this] { return broker_ != nullptr; }, 60s);
    ASSERT_NE(broker_, nullptr);
  }
  /// Begins to stop; the test then waits until broker_ is null.
  void ask_to_stop() {
    node().spawn([this]() -> io::Task<void> {
      stopping_ = true;
      stop_->wake_all();
      co_return;
    });
  }
  void stop() {
    ask_to_stop();
    sim_.run_until([this] { return broker_ == nullptr; });
    EXPECT_EQ(broker_, nullptr);
    stopping_ = false;
  }
  void crash(bool power = false) {
    power ? node().lose_power() : node().kill();
    broker_ = nullptr;
    node().restart();
  }

  using Body = std::function<io::Task<void>(RawClient&)>;
  /// Runs `body` on the client's machine with a new connection.
  void with_client(Body body) {
    EXPECT_TRUE(sim_.node(1).run([&]() -> io::Task<bool> {
      const auto client = co_await connect();
      if (client == nullptr) co_return false;
      co_await body(*client);
      client->close();
      co_return true;
    }));
  }
  static io::Task<std::unique_ptr<RawClient>> connect() {
    auto stream =
        co_await io::Shard::current().net().connect({"10.0.0.1", 9092}, RawClient::in(5s));
    EXPECT_TRUE(stream) << stream.error().message;
    if (!stream) co_return nullptr;
    co_return std::make_unique<RawClient>(std::move(*stream));
  }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }

  // Requests that many tests send.
  static io::Task<std::int16_t> create(RawClient& client, std::string name,
                                       std::int32_t partitions = 1,
                                       std::vector<std::pair<std::string, std::string>> settings = {}) {
    wire::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = std::move(name);
    topic.num_partitions = partitions;
    topic.replication_factor = 1;
    for (auto& [key, value] : settings) topic.configs.push_back({key, value});
    const auto made = co_await client.call<wire::CreateTopicsResponse>(request, 7);
    co_return made->topics.empty() ? std::int16_t{-1} : made->topics[0].error_code;
  }
  /// To partition 0 and up; the batches live as long as the request.
  static wire::ProduceRequest produce(std::string topic, const std::vector<Bytes>& batches,
                                      std::int16_t acks = -1) {
    wire::ProduceRequest request;
    request.acks = acks;
    request.timeout_ms = 10'000;
    auto& to = request.topic_data.emplace_back();
    to.name = std::move(topic);
    for (const Bytes& batch : batches) {
      const auto index = static_cast<std::int32_t>(to.partition_data.size());
      to.partition_data.push_back({index, wire::Records::of(batch)});
    }
    return request;
  }
  static io::Task<wire::ProduceResponse::Partition> send(RawClient& client,
                                                                 std::string topic, Bytes batch,
                                                                 std::int16_t acks = -1,
                                                                 std::int16_t version = 9) {
    std::vector<Bytes> one;
    one.push_back(std::move(batch));
    const auto answer =
        co_await client.call<wire::ProduceResponse>(produce(std::move(topic), one, acks), version);
    if (answer->responses.empty()) co_return wire::ProduceResponse::Partition{};
    co_return answer->responses[0].partition_responses[0];
  }
  static std::int16_t code(KafkaError error) { return kafka::code(error); }

  io::sim::Simulator sim_;
  broker::Options options_;
  Service::Options service_;
  Listener::Options listener_;
  broker::Broker* broker_ = nullptr;
  cluster::Cluster* cluster_ = nullptr;
  std::vector<Service*> services_;  ///< by shard
  Listener* kafka_ = nullptr;
  bool stopping_ = false;

 private:
  // Everything lives in this frame, so that a crash takes it along.
  io::Task<void> life() {
    io::Shard& shard = io::Shard::current();
    cluster::Cluster::Options cluster_options;
    cluster_options.data_dir = "/data";
    cluster_options.host = "10.0.0.1";
    auto cluster = co_await cluster::Cluster::open(shard.disk(), shard.rng(), cluster_options);
    EXPECT_TRUE(cluster) << cluster.error().message;
    if (!cluster) co_return;
    broker::Broker broker(node().shards(), options_);
    EXPECT_TRUE(co_await broker.start(**cluster));
    std::vector<std::unique_ptr<Service>> services;
    std::vector<Service*> pointers;
    for (unsigned s = 0; s < node().shards().size(); ++s) {
      services.push_back(std::make_unique<Service>(broker, s, service_));
      pointers.push_back(services.back().get());
    }
    for (Service* each : pointers) each->join(pointers, node().shards());
    auto bound = co_await shard.net().listen({"0.0.0.0", 9092});
    EXPECT_TRUE(bound);
    Listener listener(std::move(*bound), node().shards(), pointers, listener_);
    io::TaskGroup running;
    running.spawn(listener.run());
    io::WaitList stop;
    stop_ = &stop;
    cluster_ = cluster->get();
    services_ = pointers;
    kafka_ = &listener;
    broker_ = &broker;
    while (!stopping_) co_await stop.wait(Instant::never());
    co_await listener.drain();
    co_await broker.drain();
    co_await listener.finish(in(10s));
    EXPECT_TRUE(co_await broker.stop());
    co_await running.join();
    broker_ = nullptr;
  }

  io::WaitList* stop_ = nullptr;
};

}  // namespace pyralog::protocol::kafka::testing
