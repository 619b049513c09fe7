#include "sim_server.h"

namespace pyralog::simtest {

SimServer::SimServer(io::Shards shards, Options options)
    : shards_(std::move(shards)), options_(std::move(options)) {}

io::Task<Result<void>> SimServer::start() {
  io::Shard& shard = io::Shard::current();
  PYRALOG_CO_ASSIGN(cluster_,
                    co_await cluster::Cluster::open(shard.disk(), shard.rng(), options_.cluster));
  broker_ = std::make_unique<broker::Broker>(shards_, options_.broker);
  PYRALOG_CO_TRY(co_await broker_->start(*cluster_));
  PYRALOG_CO_ASSIGN(auto bound, co_await shard.net().listen({"0.0.0.0", kKafkaPort}));
  std::vector<protocol::kafka::Service*> services;
  for (unsigned s = 0; s < shards_.size(); ++s) {
    services_.push_back(std::make_unique<protocol::kafka::Service>(
        *broker_, s, protocol::kafka::Service::Options{}));
    services.push_back(services_.back().get());
  }
  for (auto* service : services) service->join(services, shards_);
  listener_ = std::make_unique<protocol::kafka::Listener>(std::move(bound), shards_, services,
                                                          protocol::kafka::Listener::Options{});
  running_.spawn(listener_->run());
  co_return Result<void>{};
}

io::Task<Result<void>> SimServer::stop() {
  const Instant deadline = io::Shard::current().now() + std::chrono::seconds(10);
  if (listener_ != nullptr) co_await listener_->drain();
  if (broker_ != nullptr) co_await broker_->drain();
  if (listener_ != nullptr) co_await listener_->finish(deadline);
  Result<void> stopped;
  if (broker_ != nullptr) stopped = co_await broker_->stop();
  co_await running_.join();
  co_return stopped;
}

namespace {
io::Task<void> inspect(std::shared_ptr<Life> life, SimServer& server) {
  while (!life->stop_wanted) {
    co_await life->inspect(server);
    (void)co_await life->stop.wait(io::Shard::current().now() + std::chrono::milliseconds(7));
  }
}

io::Task<void> live(std::shared_ptr<Life> life, io::Shards shards, SimServer::Options options) {
  SimServer server(std::move(shards), std::move(options));
  auto started = co_await server.start();
  if (!started) {
    life->start_error = started.error().message;
  } else {
    co_await life->inspect(server);
    life->started = true;
    co_await inspect(life, server);
  }
  auto stopped = co_await server.stop();
  if (!stopped) life->stop_error = stopped.error().message;
  life->stopped = true;
}
}  // namespace

void run_server(io::sim::Node& node, std::shared_ptr<Life> life, SimServer::Options options) {
  node.spawn([life = std::move(life), shards = node.shards(), options = std::move(options)] {
    return live(life, shards, options);
  });
}

}  // namespace pyralog::simtest
