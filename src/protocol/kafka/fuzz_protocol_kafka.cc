// Every request at every version, valid, broken or arbitrary, against a live node in a simulated
// machine: whatever comes, the node must answer it or refuse it, go on, and stop in order.
//
// An input is a list of requests: byte 0 the API, byte 1 the version, byte 2 what the body is (even: made
// from a seed, valid; odd: as it stands), byte 3 and 4 its length, then the body or the seed.
#include <algorithm>
#include <memory>
#include <vector>

#include "broker/broker.h"
#include "cluster/cluster.h"
#include "io/sim/simulator.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/testing.h"

namespace pyralog::protocol::kafka {
namespace {

constexpr std::size_t kMaxRequests = 16;
constexpr Duration kLongestAnswer = std::chrono::minutes(30);

Bytes body_of(std::size_t api, std::int16_t version, bool made, ByteView given) {
  if (!made) return Bytes(given.begin(), given.end());
  std::uint64_t seed = 0;
  for (const std::uint8_t byte : given) seed = seed * 31 + byte;
  wire::testing::Random random(seed);
  const auto key = static_cast<std::int16_t>(offered_apis()[api].key);
  for (const auto& message : wire::testing::all_messages()) {
    if (message.api_key != key || !message.is_request) continue;
    auto body = message.make(random, version);
    if (body) return std::move(*body);
  }
  return {};
}

/// The requests that an input asks for, as frames without their length.
std::vector<Bytes> frames_of(ByteView input) {
  std::vector<Bytes> frames;
  while (input.size() >= 5 && frames.size() < kMaxRequests) {
    const std::size_t api = input[0] % offered_apis().size();
    const OfferedApi& offered = offered_apis()[api];
    const auto versions = static_cast<unsigned>(offered.max_version - offered.min_version + 1);
    const auto version =
        static_cast<std::int16_t>(offered.min_version + static_cast<std::int16_t>(input[1] % versions));
    const std::size_t length =
        std::min<std::size_t>(load_be<std::uint16_t>(input.data() + 3), input.size() - 5);
    wire::Encoder encoder;
    wire::begin_request(encoder, offered.key, version, 7, "fuzz");
    const Bytes head = encoder.take();
    Bytes frame(head.begin() + 4, head.end());
    const Bytes body = body_of(api, version, input[2] % 2 == 0, input.subspan(5, length));
    frame.insert(frame.end(), body.begin(), body.end());
    frames.push_back(std::move(frame));
    input = input.subspan(5 + length);
  }
  return frames;
}

broker::Options broker_options() {
  broker::Options options;
  options.data_dir = "/data";
  options.offsets_partitions = 1;
  options.topics.max_partitions = 8;
  options.max_inflated_bytes = 1u << 20;
  return options;
}

io::Task<void> answer(Service& service, Bytes frame) {
  auto bytes = std::make_shared<Bytes>(std::move(frame));
  auto parsed = wire::parse_request(*bytes);
  if (!parsed) co_return;
  Request request;
  request.frame = std::move(*parsed);
  request.bytes = std::move(bytes);
  request.client_host = "10.0.0.2";
  static_cast<void>(co_await service.handle(std::move(request)));
}

io::Task<bool> live(io::sim::Node& node, const std::vector<Bytes>& frames) {
  io::Shard& shard = io::Shard::current();
  cluster::Cluster::Options cluster_options;
  cluster_options.data_dir = "/data";
  auto cluster = co_await cluster::Cluster::open(shard.disk(), shard.rng(), cluster_options);
  PYRALOG_ASSERT(cluster.has_value());
  broker::Broker broker(node.shards(), broker_options());
  PYRALOG_ASSERT((co_await broker.start(**cluster)).has_value());
  Service service(broker, 0, {});
  service.join({&service}, node.shards());
  catalog::CreateTopic topic;
  topic.name = "t";
  PYRALOG_ASSERT((co_await broker.create_topic(topic, false)).error == KafkaError::kNone);
  // All at once, as from as many connections.
  io::TaskGroup running;
  for (const Bytes& frame : frames) running.spawn(answer(service, frame));
  co_await running.join();
  co_await broker.drain();
  PYRALOG_ASSERT((co_await broker.stop()).has_value());
  co_return true;
}

}  // namespace
}  // namespace pyralog::protocol::kafka

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pyralog;
  const auto frames = protocol::kafka::frames_of(ByteView(data, size));
  io::sim::Simulator sim(1);
  io::sim::Node& node = sim.add_node();
  const auto done = node.try_run([&] { return protocol::kafka::live(node, frames); }, 0,
                                 protocol::kafka::kLongestAnswer);
  PYRALOG_ASSERT(done.has_value());
  return 0;
}
