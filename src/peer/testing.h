#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/net.h"
#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"
#include "peer/acceptor.h"
#include "peer/links.h"

/// For tests only: simulated nodes with links, services and an acceptor.
namespace pyralog::peer::testing {

inline constexpr std::uint16_t kPort = 9093;

inline Uuid uuid_of(std::uint8_t number) {
  Uuid uuid;
  uuid.bytes.fill(number);
  return uuid;
}

inline Packed packed(Kind kind, std::string_view text) {
  return {kind, 0, {SharedBytes::copy(as_bytes(text))}, text.size()};
}
inline Packed packed(Kind kind, SharedBytes body) {
  const std::size_t bytes = body.size();
  return {kind, 0, {std::move(body)}, bytes};
}

struct NodeSpec {
  std::int32_t id = 1;
  std::string secret = "a secret of all nodes";
  Uuid cluster = uuid_of(9);
  std::uint8_t incarnation = 0;  ///< 0: as the id
  std::int64_t boot_counter = 1;
  unsigned shards = 1;
  Abilities abilities{};
  ChannelOptions channel{};
  LinkLimits limits{};
  Service::Options service{};
  std::size_t max_half_open = 64;
  std::size_t max_per_lane = 4;
};

/// One node as it runs: made anew after a restart.
class Machine {
 public:
  Machine(io::sim::Node& node, NodeSpec spec) : node_(node), spec_(std::move(spec)) {
    const auto incarnation =
        spec_.incarnation == 0 ? static_cast<std::uint8_t>(spec_.id) : spec_.incarnation;
    const Local local{{NodeId(spec_.id), uuid_of(incarnation), spec_.boot_counter, spec_.cluster},
                      spec_.abilities,
                      Secret::from(as_bytes(spec_.secret), "test").value()};
    spec_.service.channel = spec_.channel;
    std::vector<Service*> services;
    for (unsigned shard = 0; shard < spec_.shards; ++shard) {
      services_.push_back(std::make_unique<Service>(spec_.service));
      services.push_back(services_.back().get());
      Links::Options options{.local = local, .lane = static_cast<std::int32_t>(shard)};
      options.channel = spec_.channel;
      options.limits = spec_.limits;
      links_.push_back(std::make_unique<Links>(std::move(options)));
      links_.back()->on_change([this](NodeId peer, bool up, const std::string& why) {
        changes.push_back({peer, up, why, io::Shard::current().now()});
      });
    }
    node_.run([this, local, services]() -> io::Task<void> {
      auto bound = co_await io::Shard::current().net().listen({"0.0.0.0", kPort});
      Acceptor::Options options{.local = local};
      options.max_half_open = spec_.max_half_open;
      options.max_per_lane = spec_.max_per_lane;
      acceptor_ =
          std::make_unique<Acceptor>(std::move(bound.value()), node_.shards(), services, options);
      // What every test wants: the text that came comes back; casts are noted.
      for (const auto& each : services_) {
        each->on(Kind::kPropose, [](Request request) {
          request.respond.reply(testing::packed(Kind::kPropose, request.body));
        });
        each->on(Kind::kRaftMessages,
                 [this](Request request) { casts.emplace_back(as_text(request.body.view())); });
      }
    });
  }

  void listen() {
    node_.spawn([this]() -> io::Task<void> { return acceptor_->run(); });
  }
  void dial(std::map<NodeId, io::Address> peers) {
    for (unsigned shard = 0; shard < spec_.shards; ++shard) {
      node_.run(
          [this, shard, peers]() -> io::Task<void> {
            links_[shard]->set_peers(peers);
            co_return;
          },
          shard);
    }
  }
  void stop() {
    for (unsigned shard = 0; shard < spec_.shards; ++shard) {
      node_.run([this, shard]() -> io::Task<void> { return links_[shard]->stop(); }, shard);
    }
    node_.run([this]() -> io::Task<void> { return acceptor_->stop(); });
  }
  /// A call's reply as text, or the error.
  Result<std::string> ask(std::int32_t to, std::string_view text, Duration in = 5s,
                          WhenDown when_down = WhenDown::kFail) {
    auto reply =
        node_.run([this, to, in, when_down, text = std::string(text)]() -> io::Task<Result<Reply>> {
          return links().call(NodeId(to), testing::packed(Kind::kPropose, text),
                              io::Shard::current().now() + in, when_down);
        });
    if (!reply) return fail(std::move(reply.error()));
    return std::string(as_text(reply->body.view()));
  }
  bool cast(std::int32_t to, std::string_view text) {
    return node_.run([this, to, text = std::string(text)]() -> io::Task<bool> {
      co_return links().cast(NodeId(to), testing::packed(Kind::kRaftMessages, text));
    });
  }
  [[nodiscard]] bool up(std::int32_t to, unsigned shard = 0) const {
    return links_[shard]->connected(NodeId(to)) != nullptr;
  }

  [[nodiscard]] Links& links(unsigned shard = 0) { return *links_[shard]; }
  [[nodiscard]] Service& service(unsigned shard = 0) { return *services_[shard]; }
  [[nodiscard]] Acceptor& acceptor() { return *acceptor_; }
  [[nodiscard]] io::sim::Node& node() { return node_; }

  struct Change {
    NodeId node;
    bool up;
    std::string why;
    Instant at;
  };
  std::vector<Change> changes;
  std::vector<std::string> casts;

 private:
  io::sim::Node& node_;
  NodeSpec spec_;
  std::vector<std::unique_ptr<Service>> services_;
  std::vector<std::unique_ptr<Links>> links_;
  std::unique_ptr<Acceptor> acceptor_;
};

/// Some nodes; number i + 1 runs on simulated node i and listens.
class Nodes {
 public:
  explicit Nodes(std::uint64_t seed = 1) : sim(seed) {}
  /// What runs ends before what it uses.
  ~Nodes() {
    for (std::size_t i = 0; i < sim.node_count(); ++i) {
      if (sim.node(i).up()) sim.node(i).kill();
    }
  }
  Machine& add(NodeSpec spec) {
    auto& node = sim.add_node({.name = "", .shards = spec.shards});
    specs.push_back(spec);
    machines.push_back(std::make_unique<Machine>(node, std::move(spec)));
    machines.back()->listen();
    return *machines.back();
  }
  Machine& add(std::int32_t id) {
    NodeSpec spec;
    spec.id = id;
    return add(spec);
  }
  [[nodiscard]] io::Address address(std::size_t index) const {
    return {"10.0.0." + std::to_string(index + 1), kPort};
  }
  /// Makes `from` dial the node at `index` as number `id`.
  void connect(Machine& from, std::size_t index, std::int32_t id) {
    from.dial({{NodeId(id), address(index)}});
  }
  [[nodiscard]] bool until(const std::function<bool()>& done, Duration limit = 20s) {
    return sim.run_until(done, limit);
  }
  /// Starts a node's process again after it has been killed.
  Machine& restart(std::size_t index) {
    io::sim::Node& node = machines[index]->node();
    node.restart();
    ++specs[index].boot_counter;
    old.push_back(std::move(machines[index]));
    machines[index] = std::make_unique<Machine>(node, specs[index]);
    machines[index]->listen();
    return *machines[index];
  }

  io::sim::Simulator sim;
  std::vector<NodeSpec> specs;
  std::vector<std::unique_ptr<Machine>> old;
  std::vector<std::unique_ptr<Machine>> machines;
};

}  // namespace pyralog::peer::testing
