// Three nodes that all dial each other while the network and the nodes fail at random.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "peer/links.h"
#include "peer/testing.h"

namespace pyralog::peer::testing {
namespace {

std::uint64_t seeds() {
  return std::getenv("PYRALOG_SOAK") != nullptr ? 400 : 8;
}

struct Tally {
  std::uint64_t answered = 0;
  std::uint64_t failed = 0;
  std::uint64_t cast = 0;
  std::uint64_t arrived = 0;
};

/// Casts of one start of a node to another arrive in order and not twice, whatever breaks in
/// between.
class Order {
 public:
  void came(const std::string& from, std::int64_t number) {
    const auto [at, first] = last_.try_emplace(from, number);
    if (first) return;
    EXPECT_GT(number, at->second) << from;
    at->second = number;
  }

 private:
  std::map<std::string, std::int64_t> last_;
};

struct Three : Nodes {
  explicit Three(std::uint64_t seed) : Nodes(seed) {
    for (std::int32_t id = 1; id <= 3; ++id) {
      NodeSpec spec{.id = id};
      spec.service.max_requests = 2;
      spec.limits.max_calls = 16;
      add(spec);
    }
    for (std::size_t i = 0; i < 3; ++i) begin(i);
  }

  void begin(std::size_t index) {
    Machine& machine = *machines[index];
    std::map<NodeId, io::Address> peers;
    for (std::size_t other = 0; other < 3; ++other) {
      peers[NodeId(static_cast<std::int32_t>(other + 1))] = address(other);
    }
    machine.service().on(Kind::kRaftMessages, [this, index](Request request) {
      const std::string text(as_text(request.body.view()));
      const std::size_t space = text.find(' ');
      ++tally.arrived;
      order[index].came(text.substr(0, space), std::atoll(text.c_str() + space));
    });
    machine.service().on_task(Kind::kSeal, [](Request request) -> io::Task<void> {
      io::Shard& shard = io::Shard::current();
      if (shard.rng().below(3) != 0)
        co_await io::sleep_for(Duration(shard.rng().below(50'000'000)));
      if (shard.rng().below(30) == 0) co_await io::sleep_for(2s);
      if (shard.rng().below(20) == 0) co_return;
      request.respond.reply(packed(Kind::kSeal, request.body));
    });
    machine.dial(peers);
    // Each talks to both others, from several coroutines.
    for (int worker = 0; worker < 3; ++worker) {
      machine.node().spawn(
          [this, &machine, index]() -> io::Task<void> { return talk(&machine, index); });
    }
  }

  io::Task<void> talk(Machine* machine, std::size_t index) {
    io::Shard& shard = io::Shard::current();
    const std::string who =
        std::to_string(index + 1) + "." + std::to_string(machine->node().incarnation());
    while (!over) {
      auto to = static_cast<std::int32_t>(shard.rng().below(3) + 1);
      if (to == static_cast<std::int32_t>(index + 1)) to = to % 3 + 1;
      if (shard.rng().below(2) == 0) {
        const std::string text = who + " " + std::to_string(next_number++);
        tally.cast +=
            machine->links().cast(NodeId(to), packed(Kind::kRaftMessages, text)) ? 1U : 0U;
      } else {
        std::string text = who + " asks " + std::to_string(next_number++);
        text.resize(text.size() + shard.rng().below(shard.rng().below(10) == 0 ? 300'000 : 300),
                    '.');
        auto reply = co_await machine->links().call(
            NodeId(to), packed(Kind::kSeal, text),
            shard.now() + Duration(shard.rng().below(2'000'000'000)),
            shard.rng().below(2) == 0 ? WhenDown::kWait : WhenDown::kFail);
        ++(reply ? tally.answered : tally.failed);
        if (reply) EXPECT_EQ(as_text(reply->body.view()), text) << "the answer to another question";
      }
      co_await io::sleep_for(Duration(shard.rng().below(20'000'000)));
    }
  }

  void fail_something() {
    auto& random = sim.rng();
    io::sim::Node& one = sim.node(random.below(3));
    io::sim::Node& other = sim.node(random.below(3));
    switch (random.below(7)) {
      case 0:
        sim.net().reset_all(one);
        break;
      case 1:
        sim.net().block(one, other);
        break;
      case 2:
        sim.net().isolate(one);
        break;
      case 3:
        sim.net().slow(one, other, Duration(random.below(300'000'000)));
        break;
      case 4:
        sim.net().options().reset = random.below(2) == 0 ? 0.01 : 0;
        break;
      case 5:
        if (random.below(2) == 0) {
          one.kill();
        } else {
          one.lose_power();
        }
        sim.run_for(Duration(random.below(1'000'000'000)));
        restart(one.index());
        begin(one.index());
        break;
      default:
        sim.net().heal_all();
        break;
    }
  }

  Tally tally;
  std::array<Order, 3> order;
  std::int64_t next_number = 1;
  bool over = false;
};

TEST(PeerChaos, answers_are_right_casts_keep_their_order_and_all_is_well_in_the_end) {
  Tally all;
  std::map<std::string, std::uint64_t> happened;
  const std::uint64_t count = seeds();
  for (std::uint64_t seed = 1; seed <= count; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Three three(seed);
    for (int fault = 0; fault < 15; ++fault) {
      three.sim.run_for(Duration(three.sim.rng().below(1'500'000'000)));
      three.fail_something();
    }
    three.sim.net().heal_all();
    three.sim.net().options().reset = 0;
    three.sim.run_for(5s);
    for (std::int32_t id = 1; id <= 3; ++id) {
      Machine& machine = *three.machines[static_cast<std::size_t>(id - 1)];
      EXPECT_TRUE(machine.up(id % 3 + 1) && machine.up((id + 1) % 3 + 1)) << id;
      EXPECT_EQ(machine.service().connections(), 2U);
    }
    three.over = true;
    three.sim.run_for(5s);
    for (auto& machine : three.machines) machine->stop();
    all.answered += three.tally.answered;
    all.failed += three.tally.failed;
    all.cast += three.tally.cast;
    all.arrived += three.tally.arrived;
    for (const char* fault : {"net.reset", "net.stalled", "net.backpressure", "net.slowed"}) {
      happened[fault] += three.sim.stats()[fault];
    }
    happened["restart"] += three.old.size();
    for (auto& machine : three.old) three.machines.push_back(std::move(machine));
    for (const auto& machine : three.machines) {
      happened["replaced"] += machine->acceptor().stats().replaced;
      happened["paused"] += machine->service().stats().paused;
      happened["late reply"] += machine->links().stats().late_replies;
      happened["timed out"] += machine->links().stats().calls_timed_out;
    }
    if (HasFailure()) break;
  }
  EXPECT_GT(all.answered, 100 * count);
  EXPECT_GT(all.failed, count);
  EXPECT_GT(all.arrived, 100 * count);
  EXPECT_LE(all.arrived, all.cast);
  for (const auto& [what, times] : happened) EXPECT_GT(times, 0U) << what << " was never tried";
}

}  // namespace
}  // namespace pyralog::peer::testing
