#include <fmt/format.h>

#include <cerrno>

#include "io/sim/connection.h"
#include "io/sim/sim_net.h"
#include "io/sim/sim_shard.h"
#include "io/sim/sim_stream.h"
#include "io/sim/simulator.h"

namespace pyralog::io::sim {

class SimListener final : public Listener {
 public:
  SimListener(SimNet& net, unsigned node, std::shared_ptr<Backlog> backlog)
      : net_(net), node_(node), backlog_(std::move(backlog)) {}
  ~SimListener() override { close(); }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    const std::shared_ptr<Backlog> backlog = backlog_;
    SimNet& net = net_;
    while (!backlog->closed && backlog->waiting.empty()) {
      co_await backlog->arrived.wait(Instant::never());
    }
    if (backlog->closed) {
      co_return fail(Code::kCancelled,
                     fmt::format("{}: the listener was closed", to_string(backlog->address)));
    }
    std::shared_ptr<Connection> connection = std::move(backlog->waiting.front());
    backlog->waiting.pop_front();
    std::unique_ptr<Stream> stream = std::make_unique<SimStream>(net, std::move(connection), 1);
    co_return stream;
  }
  void close() override {
    if (std::exchange(backlog_->closed, true)) return;
    net_.listeners_.erase({node_, backlog_->address.port});
    for (const auto& connection : backlog_->waiting) net_.close_end(connection, 1);
    backlog_->waiting.clear();
    backlog_->arrived.wake_all();
  }
  const Address& local() const override { return backlog_->address; }

 private:
  SimNet& net_;
  unsigned node_;
  std::shared_ptr<Backlog> backlog_;
};

/// The network as one shard of one node uses it.
class SimEndpoint final : public Net {
 public:
  SimEndpoint(SimNet& net, Node& node) : net_(net), node_(node) {}

  Task<Result<std::unique_ptr<Listener>>> listen(Address address) override {
    co_await yield();
    if (address.port == 0) address.port = net_.take_port(node_);
    auto& place = net_.listeners_[{node_.index(), address.port}];
    if (place != nullptr) {
      co_return fail(Code::kAlreadyExists,
                     fmt::format("{}: the port is in use; stop its owner or choose another",
                                 to_string(address)),
                     EADDRINUSE);
    }
    place = std::make_shared<Backlog>();
    place->address = std::move(address);
    std::unique_ptr<Listener> listener =
        std::make_unique<SimListener>(net_, node_.index(), place);
    co_return listener;
  }

  Task<Result<std::unique_ptr<Stream>>> connect(Address address, Instant deadline) override {
    Stats& stats = net_.sim_.stats();
    Node* const target = net_.resolve(node_, address.host);
    if (target == nullptr) {
      co_return fail(Code::kNotFound, fmt::format("{}: no such host", to_string(address)));
    }
    co_await sleep_for(net_.delay(node_, *target));
    while (net_.blocked(node_, *target) || net_.blocked(*target, node_)) {
      stats.add("net.connect_blocked");
      if (Shard::current().now() >= deadline) {
        co_return fail(Code::kTimedOut, fmt::format("{}: no answer in time", to_string(address)));
      }
      co_await sleep_for(std::min<Duration>(std::chrono::milliseconds(200),
                                            deadline - Shard::current().now()));
    }
    const auto listening = net_.listeners_.find({target->index(), address.port});
    if (!target->up() || listening == net_.listeners_.end() ||
        (net_.options_.refuse > 0 && net_.rng_.chance(net_.options_.refuse))) {
      stats.add("net.refused");
      co_return fail(Code::kUnavailable,
                     fmt::format("{}: connection refused; is the server running?",
                                 to_string(address)),
                     ECONNREFUSED);
    }
    auto connection = std::make_shared<Connection>();
    connection->ends[0].node = &node_;
    connection->ends[0].address = {fmt::format("10.0.0.{}", node_.index() + 1), net_.take_port(node_)};
    connection->ends[1].node = target;
    connection->ends[1].address = address;
    net_.connections_.push_back(connection);
    std::unique_ptr<Stream> stream = std::make_unique<SimStream>(net_, connection, 0);
    listening->second->waiting.push_back(std::move(connection));
    listening->second->arrived.wake_all();
    stats.add("net.connect");
    co_await sleep_for(net_.delay(*target, node_));
    co_return stream;
  }

 private:
  SimNet& net_;
  Node& node_;
};

std::unique_ptr<Net> SimNet::endpoint(SimShard& shard) {
  return std::make_unique<SimEndpoint>(*this, shard.node());
}

}  // namespace pyralog::io::sim
