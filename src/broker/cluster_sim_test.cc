// Whole brokers of three nodes under random faults: kills, power losses, clean stops, cut and slow
// links, slow disks, clocks that jump. Clients append to partitions of several durabilities and
// read them; what was acknowledged is there at its offset in the end, once, and all that was ever
// read stays.
#include <cstdlib>
#include <map>
#include <optional>

#include "broker/cluster_testing.h"
#include "io/rng.h"

namespace pyralog::broker {
namespace {

using namespace testing;

/// What a client has asked for and what came of it.
struct Append {
  std::string topic;
  std::string value;
  Instant began;
  std::optional<Instant> ended;
  KafkaError error = KafkaError::kUnknownServerError;
  std::int64_t offset = -1;
};

/// How much the runs have met in all.
struct Met {
  std::uint64_t acknowledged = 0;
  std::uint64_t refused = 0;
  std::uint64_t unknown = 0;
  std::uint64_t read = 0;
  std::uint64_t read_near = 0;  ///< answers of followers
  std::uint64_t takeovers = 0;
  std::uint64_t crashes = 0;
  std::uint64_t losses = 0;  ///< that were recorded
};

class World : public ClusterOfBrokersTest {
 public:
  World(std::uint64_t seed, Met& met)
      : ClusterOfBrokersTest(seed), seed_(seed), rng_(seed), met_(met) {}
  void TestBody() override {}

  void run_all() {
    start_all();
    if (HasFailure()) return;
    ASSERT_EQ(create(1, "f"), KafkaError::kNone);
    ASSERT_EQ(create(2, "o", 1, {{"durability", "os"}}), KafkaError::kNone);
    ASSERT_EQ(create(3, "s", 1, {{"min.insync.replicas", "3"}}), KafkaError::kNone);
    ASSERT_NE(wait_leader("f"), 0);
    const Instant end = sim_.now() + 15s;
    while (sim_.now() < end && !HasFailure()) {
      step();
      sim_.run_for(std::chrono::milliseconds(pick(60)));
    }
    heal();
    for (const char* topic : kTopics) {
      ASSERT_TRUE(write(topic, "the end", 60s)) << topic << " of seed " << seed_;
      ASSERT_TRUE(even(topic, 60s)) << topic << " of seed " << seed_;
      judge(topic);
    }
  }

 private:
  static constexpr const char* kTopics[] = {"f", "o", "s"};
  std::uint64_t pick(std::uint64_t below) { return rng_.next() % below; }
  bool chance(std::uint64_t one_in) { return pick(one_in) == 0; }

  void step() {
    if (!chance(8)) {
      for (std::uint64_t i = 1 + pick(3); i > 0; --i) chance(3) ? read_one() : append_one();
      return;
    }
    const auto i = static_cast<std::int32_t>(1 + pick(kNodes));
    switch (pick(9)) {
      case 0:
      case 1:
        take_down(i, false);
        break;
      case 2:
        // All at once, now and then.
        take_down(i, true);
        if (chance(6)) {
          for (std::int32_t k = 1; k <= kNodes; ++k) take_down(k, true);
        }
        break;
      case 3:
        sim_.net().isolate(machine(i));
        break;
      case 4: {
        const auto k = static_cast<std::int32_t>(1 + pick(kNodes));
        if (k != i) sim_.net().block(machine(i), machine(k));
        break;
      }
      case 5: {
        const auto k = static_cast<std::int32_t>(1 + pick(kNodes));
        if (k != i) sim_.net().slow(machine(i), machine(k), std::chrono::milliseconds(pick(400)));
        break;
      }
      case 6:
        machine(i).disk().options().slow = chance(2) ? 0.3 : 0.0;
        break;
      case 7:
        machine(i).set_wall_offset(std::chrono::seconds(pick(7'200)) - 1h);
        break;
      default:
        bring_back();
    }
    if (chance(3)) bring_back();
  }

  void take_down(std::int32_t i, bool power) {
    if (at(i).broker == nullptr) return;
    ++met_.crashes;
    kill(i, power);
    power_failed_ = power_failed_ || power;
    down_.insert(i);
  }
  void bring_back() {
    if (chance(2)) sim_.net().heal_all();
    for (const std::int32_t i : std::exchange(down_, {})) start(i);
  }
  void heal() {
    sim_.net().heal_all();
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      machine(i).disk().options().slow = 0;
      if (at(i).broker == nullptr && !down_.contains(i)) kill(i);  // may have been refused
    }
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (at(i).broker == nullptr) start(i);
    }
    down_.clear();
    ASSERT_TRUE(up({1, 2, 3}, 120s)) << seed_ << at(1).refused << at(2).refused << at(3).refused;
  }

  /// Whom a client would ask: mostly the right one, sometimes one who has led before.
  std::int32_t whom(const char* topic) {
    if (chance(6)) return static_cast<std::int32_t>(1 + pick(kNodes));
    for (std::int32_t i = 1; i <= kNodes; ++i) {
      if (leads(i, topic)) return i;
    }
    return static_cast<std::int32_t>(1 + pick(kNodes));
  }

  void append_one() {
    const char* topic = kTopics[pick(3)];
    const std::int32_t i = whom(topic);
    if (at(i).broker == nullptr) return;
    appends_.push_back(std::make_unique<Append>());
    Append& made = *appends_.back();
    made.topic = topic;
    made.value = topic + std::to_string(appends_.size());
    made.began = sim_.now();
    machine(i).spawn([this, i, &made]() -> io::Task<void> {
      auto owner = std::make_shared<Bytes>(batch_of({made.value}));
      std::vector<ProduceItem> items;
      items.push_back({{made.topic, 0}, owner, MutableBytes(*owner)});
      auto out = co_await at(i).broker->produce(std::move(items), Acks::kAll, 3s);
      made.ended = sim_.now();
      made.error = out.front().error;
      made.offset = out.front().base_offset;
    });
  }

  void read_one() {
    const char* topic = kTopics[pick(3)];
    // Half of them from any replica.
    const bool near = chance(2);
    const std::int32_t i = near ? static_cast<std::int32_t>(1 + pick(kNodes)) : whom(topic);
    if (at(i).broker == nullptr) return;
    const auto from = static_cast<std::int64_t>(pick(20));
    const bool follows = !leads(i, topic);
    machine(i).spawn([this, i, topic, from, near, follows]() -> io::Task<void> {
      std::vector<FetchItem> wanted(1);
      wanted[0].target = {topic, 0};
      wanted[0].offset = from;
      wanted[0].max_bytes = 1 << 20;
      FetchBounds bounds{.min_bytes = 1, .max_bytes = 50u << 20};
      if (near) bounds.rack = "where nobody is";
      auto out = co_await at(i).broker->fetch(std::move(wanted), std::move(bounds));
      if (out.front().error != KafkaError::kNone || out.front().bytes == 0) co_return;
      if (near && follows) ++met_.read_near;
      const Bytes bytes = co_await bytes_of(std::move(out.front().records));
      see(topic, bytes);
    });
  }
  void see(const std::string& topic, ByteView bytes) {
    while (!bytes.empty()) {
      const BatchHeader header = parse_batch_header(bytes).value();
      const auto values = values_of(bytes.first(header.total_bytes()));
      for (std::size_t k = 0; k < values.size(); ++k) {
        const std::int64_t offset = header.base_offset + static_cast<std::int64_t>(k);
        const auto [known, first] = seen_[topic].emplace(offset, values[k]);
        // Where records may be lost, others may come.
        const bool may_differ = topic == "o" && power_failed_;
        EXPECT_TRUE(first || known->second == values[k] || may_differ)
            << topic << " at " << offset << ": " << known->second << " and " << values[k]
            << ", seed " << seed_;
        ++met_.read;
      }
      bytes = bytes.subspan(header.total_bytes());
    }
  }

  void judge(const char* topic) {
    const std::vector<std::string> all = read(topic);
    // Power that fails on a majority takes what is not on disk; that is recorded.
    std::int64_t lost_from = INT64_MAX;
    for (const auto& each : at(1).cluster->catalog()->topic(topic)->partitions[0]->lost) {
      lost_from = std::min(lost_from, each.from.value);
    }
    if (std::string_view(topic) != "o")
      EXPECT_EQ(lost_from, INT64_MAX) << topic << ", seed " << seed_;
    if (lost_from != INT64_MAX) ++met_.losses;
    std::map<std::string, std::int64_t> where;
    for (std::size_t k = 0; k < all.size(); ++k) {
      EXPECT_TRUE(where.emplace(all[k], static_cast<std::int64_t>(k)).second)
          << all[k] << " is there twice, seed " << seed_;
    }
    for (const auto& [offset, value] : seen_[topic]) {
      if (offset >= lost_from) continue;
      ASSERT_LT(static_cast<std::size_t>(offset), all.size()) << topic << ", seed " << seed_;
      EXPECT_EQ(all[static_cast<std::size_t>(offset)], value)
          << topic << " at " << offset << " was read before, seed " << seed_;
    }
    std::vector<const Append*> acknowledged;
    for (const auto& each : appends_) {
      if (each->topic != topic) continue;
      if (!each->ended) {
        ++met_.unknown;
      } else if (each->error != KafkaError::kNone) {
        ++met_.refused;
      } else {
        ++met_.acknowledged;
        if (each->offset >= lost_from) continue;
        acknowledged.push_back(each.get());
        const auto found = where.find(each->value);
        if (found == where.end()) {
          ADD_FAILURE() << each->value << " was acknowledged and is gone, seed " << seed_;
        } else {
          EXPECT_EQ(found->second, each->offset) << each->value << ", seed " << seed_;
        }
      }
    }
    // As a list that is appended to: what had ended when another began lies before it.
    std::ranges::sort(acknowledged, {}, &Append::offset);
    Instant latest_begin{};
    for (const Append* each : acknowledged) {
      EXPECT_GE(*each->ended, latest_begin)
          << each->value << " lies behind one that began later, seed " << seed_;
      latest_begin = std::max(latest_begin, each->began);
    }
    const auto& current = at(1).cluster->catalog()->topic(topic)->partitions[0]->current;
    if (current) met_.takeovers += current->epoch.value - 1;
  }

  std::uint64_t seed_;
  io::SeededRng rng_;
  Met& met_;
  std::set<std::int32_t> down_;
  bool power_failed_ = false;
  std::vector<std::unique_ptr<Append>> appends_;
  std::map<std::string, std::map<std::int64_t, std::string>> seen_;
};

TEST(ClusterSimulation, nothing_acknowledged_is_lost_whatever_fails) {
  Met met;
  const char* one = std::getenv("PYRALOG_SEED");
  const char* wanted = std::getenv("PYRALOG_CLUSTER_SEEDS");
  const std::uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  std::uint64_t seeds = std::getenv("PYRALOG_SOAK") != nullptr ? 1'000 : 40;
  if (wanted != nullptr) seeds = std::strtoull(wanted, nullptr, 10);
  if (one != nullptr) seeds = 1;
  for (std::uint64_t seed = first; seed < first + seeds && !::testing::Test::HasFailure(); ++seed) {
    World(seed, met).run_all();
  }
  if (one != nullptr) return;
  EXPECT_GT(met.acknowledged, seeds * 20);
  EXPECT_GT(met.refused, seeds);
  EXPECT_GT(met.read, seeds * 20);
  EXPECT_GT(met.read_near, seeds);
  EXPECT_GT(met.takeovers, seeds * 3);
  EXPECT_GT(met.crashes, seeds * 3);
  EXPECT_GT(met.losses, 0u);
  RecordProperty("acknowledged", std::to_string(met.acknowledged));
  std::printf(
      "%llu acknowledged, %llu refused, %llu unknown, %llu read, %llu takeovers, %llu crashes\n",
      static_cast<unsigned long long>(met.acknowledged),
      static_cast<unsigned long long>(met.refused), static_cast<unsigned long long>(met.unknown),
      static_cast<unsigned long long>(met.read), static_cast<unsigned long long>(met.takeovers),
      static_cast<unsigned long long>(met.crashes));
}

}  // namespace
}  // namespace pyralog::broker
