#include "io/sim/simulator.h"

#include <algorithm>

#include "io/sim/sim_net.h"
#include "io/sim/sim_shard.h"

namespace pyralog::io::sim {

namespace {
// The wall clock at the start of every run: 2026-01-01T00:00Z.
constexpr std::int64_t kWallStartMs = 1'767'225'600'000;
constexpr std::uint64_t kPostLatencyNs = 2'000;
constexpr std::uint64_t kTimerLatenessNs = 1'000;
constexpr std::uint64_t kPoolLatencyNs = 50'000;
}  // namespace

Simulator::Simulator(std::uint64_t seed)
    : seed_(seed),
      order_rng_(seed ^ 0x6f72646572U),
      test_rng_(seed ^ 0x74657374U),
      net_(std::make_unique<SimNet>(*this, seed ^ 0x6e6574U)) {}

Simulator::~Simulator() {
  for (const auto& node : nodes_) {
    if (node->up_) node->crash(Node::Crash::kKill);
  }
  const detail::TeardownScope scope;
  events_.clear();
}

Node& Simulator::add_node(NodeOptions options) {
  const auto index = static_cast<unsigned>(nodes_.size());
  if (options.name.empty()) options.name = "node-" + std::to_string(index);
  nodes_.push_back(std::make_unique<Node>(*this, index, std::move(options)));
  return *nodes_.back();
}

std::uint64_t Simulator::add(Instant at, Event event) {
  const Key key{std::max(at, now_).ns, order_rng_.next(), next_sequence_++};
  events_.emplace(key, std::move(event));
  by_sequence_.emplace(key.sequence, key);
  return key.sequence;
}

void Simulator::cancel(std::uint64_t sequence) {
  const auto found = by_sequence_.find(sequence);
  if (found == by_sequence_.end()) return;
  const auto event = events_.extract(found->second);
  by_sequence_.erase(found);
}

void Simulator::drop_events_of(const Node& node) {
  std::vector<Event> dropped;  // their destructors may come back here
  for (auto it = events_.begin(); it != events_.end();) {
    if (it->second.node == &node) {
      dropped.push_back(std::move(it->second));
      by_sequence_.erase(it->first.sequence);
      it = events_.erase(it);
    } else {
      ++it;
    }
  }
}

bool Simulator::step() {
  if (events_.empty()) return false;
  auto first = events_.extract(events_.begin());
  by_sequence_.erase(first.key().sequence);
  now_ = Instant{first.key().at};
  Event& event = first.mapped();
  Node* const node = event.node;
  running_ = node;
  Shard::set_current(event.shard);
  event.job();
  event.job = nullptr;
  Shard::set_current(nullptr);
  running_ = nullptr;
  if (node != nullptr && node->crash_ != Node::Crash::kNone) node->crash_now();
  return true;
}

bool Simulator::run_until(const std::function<bool()>& done, Duration limit) {
  const Instant end = now_ + limit;
  while (!done()) {
    if (events_.empty()) return false;
    if (events_.begin()->first.at > end.ns) {
      now_ = end;
      return false;
    }
    step();
  }
  return true;
}

bool Simulator::run_until_idle(Duration limit) {
  run_until([] { return false; }, limit);
  return events_.empty();
}

void Simulator::run_for(Duration time) {
  const Instant end = now_ + time;
  run_until_idle(time);
  now_ = end;
}

void Simulator::schedule(Duration delay, Shard::Job job) {
  add(now_ + delay, {nullptr, nullptr, std::move(job)});
}

Node::Node(Simulator& sim, unsigned index, NodeOptions options)
    : sim_(sim),
      index_(index),
      options_(std::move(options)),
      disk_(*this, options_.disk, sim.seed_ ^ (0x6469736bU + index * 0x9e3779b97f4a7c15U),
            sim.stats_) {
  PYRALOG_ASSERT(options_.shards > 0);
  make_shards();
}

Node::~Node() = default;

void Node::make_shards() {
  for (unsigned i = 0; i < options_.shards; ++i) {
    const std::uint64_t seed =
        SeededRng(sim_.seed_ + index_ * 1'000'003ULL + incarnation_ * 1'009ULL + i).next();
    shards_.push_back(std::make_unique<SimShard>(*this, i, seed, roots_));
    shard_pointers_.push_back(shards_.back().get());
  }
}

void Node::crash(Crash kind) {
  if (!up_ || crash_ != Crash::kNone) return;
  crash_ = kind;
  if (sim_.running_ != this) crash_now();
}

void Node::crash_now() {
  const bool power = crash_ == Crash::kPower;
  up_ = false;
  crash_ = Crash::kNone;
  sim_.stats_.add(power ? "node.power_loss" : "node.kill");
  sim_.net_->node_down(*this, power);
  for (const auto& shard : shards_) shard->end();
  {
    const detail::TeardownScope scope;
    sim_.drop_events_of(*this);
    // Another node's code may be what took this one down.
    Shard* const running = Shard::has_current() ? &Shard::current() : nullptr;
    Shard::set_current(shards_.front().get());
    roots_.destroy_all();
    Shard::set_current(running);
  }
  disk_.process_ended(power);
  for (auto& shard : shards_) old_shards_.push_back(std::move(shard));
  shards_.clear();
  shard_pointers_.clear();
}

void Node::restart() {
  PYRALOG_ASSERT(!up_);
  up_ = true;
  ++incarnation_;
  sim_.stats_.add("node.restart");
  make_shards();
  sim_.net_->node_up(*this);
}

SimShard::SimShard(Node& node, unsigned index, std::uint64_t seed, detail::RootList& roots)
    : Shard(&roots),
      node_(node),
      index_(index),
      rng_(seed),
      pools_(node),
      net_(node.simulator().net().endpoint(*this)),
      serial_(++node.simulator().shards_made_) {}

SimShard::~SimShard() = default;

void SimShard::post(Job job) {
  if (!alive_) return;
  Simulator& sim = node_.simulator();
  const std::uint64_t sender =
      Shard::has_current() ? static_cast<const SimShard&>(Shard::current()).serial_ : 0;
  Instant& last = last_from_[sender];
  Instant at = sim.now() + Duration(sim.order_rng_.below(kPostLatencyNs));
  at = std::max(at, last + Duration(1));
  last = at;
  sim.add(at, {&node_, this, std::move(job)});
}

Shard::TimerId SimShard::call_at(Instant at, Job job) {
  if (!alive_) return 0;
  Simulator& sim = node_.simulator();
  const Instant due = std::max(at, sim.now());
  PYRALOG_ASSERT(at != Instant::never());
  return sim.add(due + Duration(sim.order_rng_.below(kTimerLatenessNs)),
                 {&node_, this, std::move(job)});
}

void SimShard::cancel_timer(TimerId id) { node_.simulator().cancel(id); }

Instant SimShard::now() const { return node_.simulator().now(); }

WallMs SimShard::wall() const {
  const Duration shown = (now() - Instant{}) + node_.wall_offset();
  return {kWallStartMs + std::chrono::duration_cast<std::chrono::milliseconds>(shown).count()};
}

Disk& SimShard::disk() { return node_.disk(); }

void SimPools::submit(Pool, Shard::Job job) {
  Simulator& sim = node_.simulator();
  if (!node_.up()) return;
  const Duration delay(sim.order_rng_.below(kPoolLatencyNs));
  sim.add(sim.now() + delay, {&node_, nullptr, std::move(job)});
}

}  // namespace pyralog::io::sim
