#include "io/sim/sim_net.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "io/sim/connection.h"
#include "io/sim/sim_shard.h"
#include "io/sim/simulator.h"

namespace pyralog::io::sim {

SimNet::SimNet(Simulator& sim, std::uint64_t seed) : sim_(sim), rng_(seed) {}
SimNet::~SimNet() = default;

bool SimNet::blocked(const Node& from, const Node& to) const {
  return blocked_.contains({from.index(), to.index()});
}

void SimNet::block(const Node& from, const Node& to) {
  blocked_.insert({from.index(), to.index()});
}

void SimNet::unblock(const Node& from, const Node& to) {
  blocked_.erase({from.index(), to.index()});
  rearm_stalled();
}

void SimNet::isolate(const Node& node) {
  for (std::size_t i = 0; i < sim_.node_count(); ++i) {
    const Node& other = sim_.node(i);
    if (&other == &node) continue;
    block(node, other);
    block(other, node);
  }
}

void SimNet::heal_all() {
  blocked_.clear();
  slow_.clear();
  rearm_stalled();
}

void SimNet::slow(const Node& from, const Node& to, Duration extra) {
  slow_[{from.index(), to.index()}] = extra;
}

Duration SimNet::delay(const Node& from, const Node& to) {
  const auto span =
      static_cast<std::uint64_t>((options_.latency_max - options_.latency_min).count());
  Duration time = options_.latency_min + Duration(rng_.below(span + 1));
  if (&from == &to) time /= 10;
  const auto slower = slow_.find({from.index(), to.index()});
  if (slower != slow_.end()) {
    time += slower->second;
    sim_.stats().add("net.slowed");
  }
  return time;
}

Node* SimNet::resolve(const Node& from, const std::string& host) const {
  for (std::size_t i = 0; i < sim_.node_count(); ++i) {
    Node& node = sim_.node(i);
    if (host == node.name() || host == fmt::format("10.0.0.{}", i + 1)) return &node;
    if (&node == &from && is_loopback({host, 0})) return &node;
  }
  return nullptr;
}

std::uint16_t SimNet::take_port(const Node& node) {
  do {
    next_port_ = next_port_ < 65'535 ? static_cast<std::uint16_t>(next_port_ + 1) : 40'000;
  } while (listeners_.contains({node.index(), next_port_}));
  return next_port_;
}

std::vector<std::shared_ptr<Connection>> SimNet::connections_of(const Node& node) {
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
  std::vector<std::shared_ptr<Connection>> found;
  for (const auto& weak : connections_) {
    if (auto connection = weak.lock();
        connection->ends[0].node == &node || connection->ends[1].node == &node) {
      found.push_back(std::move(connection));
    }
  }
  return found;
}

void SimNet::rearm_stalled() {
  std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : connections_) {
    const std::shared_ptr<Connection> connection = weak.lock();
    for (const int side : {0, 1}) {
      const int stalled = std::exchange(connection->ends[side].stalled, 0);
      for (int i = 0; i < stalled; ++i) arm(connection, side);
    }
  }
}

void SimNet::send(const std::shared_ptr<Connection>& connection, int from, Bytes bytes, bool fin) {
  End& end = connection->ends[from];
  end.unread += bytes.size();
  end.under_way.push_back({std::move(bytes), fin});
  arm(connection, from);
}

void SimNet::arm(const std::shared_ptr<Connection>& connection, int from) {
  End& end = connection->ends[from];
  const End& other = connection->ends[1 - from];
  const Instant at =
      std::max(end.last_arrival + Duration(1), sim_.now() + delay(*end.node, *other.node));
  end.last_arrival = at;
  sim_.schedule(at - sim_.now(), [this, connection, from] { arrive(connection, from); });
}

void SimNet::arrive(const std::shared_ptr<Connection>& connection, int from) {
  End& sender = connection->ends[from];
  End& receiver = connection->ends[1 - from];
  if (connection->reset || sender.under_way.empty()) return;
  if (blocked(*sender.node, *receiver.node) || (receiver.dead && !receiver.node->up())) {
    sim_.stats().add("net.stalled");
    ++sender.stalled;
    return;
  }
  if (receiver.dead || receiver.closed ||
      (options_.reset > 0 && &sender != &receiver && rng_.chance(options_.reset))) {
    if (receiver.closed && sender.under_way.front().bytes.empty()) {
      sender.under_way.pop_front();  // the other side's end, after our own
      return;
    }
    sim_.stats().add("net.reset");
    return reset(*connection);
  }
  Segment segment = std::move(sender.under_way.front());
  sender.under_way.pop_front();
  receiver.inbox.insert(receiver.inbox.end(), segment.bytes.begin(), segment.bytes.end());
  receiver.ended = receiver.ended || segment.fin;
  receiver.readable.wake_all();
}

void SimNet::reset(Connection& connection) {
  connection.reset = true;
  for (End& end : connection.ends) {
    end.readable.wake_all();
    end.writable.wake_all();
  }
}

void SimNet::close_end(const std::shared_ptr<Connection>& connection, int side) {
  End& end = connection->ends[side];
  if (std::exchange(end.closed, true)) return;
  end.readable.wake_all();
  end.writable.wake_all();
  if (connection->reset || end.dead) return;
  end.inbox.clear();
  send(connection, side, {}, true);
}

void SimNet::reset_all(const Node& node) {
  for (const auto& connection : connections_of(node)) {
    sim_.stats().add("net.reset");
    reset(*connection);
  }
}

void SimNet::node_down(const Node& node, bool silent) {
  std::erase_if(listeners_, [&](auto& entry) {
    if (entry.first.first != node.index()) return false;
    entry.second->closed = true;
    return true;
  });
  for (const auto& connection : connections_of(node)) {
    for (const int side : {0, 1}) {
      End& end = connection->ends[side];
      if (end.node != &node || end.dead) continue;
      if (!silent && !end.closed) close_end(connection, side);
      end.dead = true;
    }
  }
}

void SimNet::node_up(const Node&) { rearm_stalled(); }

}  // namespace pyralog::io::sim
