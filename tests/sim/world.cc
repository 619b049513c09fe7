#include "world.h"

#include <algorithm>

#include "wire/kafka/gen/create_topics.h"

namespace pyralog::simtest {

using namespace std::chrono_literals;

World::World(std::uint64_t seed, bool print)
    : sim(seed), trace(sim, print), oracle(trace, sim.stats()), seed_(seed), rng_(seed ^ 0x51d) {
  clients_ = &sim.add_node({.name = "clients"});
  io::sim::NodeOptions node;
  node.name = "server";
  node.shards = static_cast<unsigned>(2 + rng_.below(2));
  server_ = &sim.add_node(node);
  server_->disk().set_hook(
      [this](io::sim::DiskOp op, const std::string& path) { return on_disk(op, path); });
  server_->disk().options().sync_error_drops = 0.5;
  plan_server();
  plan_topics();
  lives_ = static_cast<unsigned>(3 + rng_.below(3));
}

World::~World() {
  // Clients and server hold on to this world; their coroutines go first.
  server_->kill();
  clients_->kill();
}

void World::plan_server() {
  const auto either = [this](auto small, auto usual) { return rng_.chance(0.5) ? small : usual; };
  options_.cluster.data_dir = "/data";
  options_.cluster.metadata.rewrite_bytes = either(1u << 11, 8u << 20);
  broker::Options& b = options_.broker;
  b.data_dir = "/data";
  b.auto_create_topics = false;
  b.offsets_partitions = 2;
  b.open_at_once = either(std::size_t{1}, std::size_t{16});
  b.producer_snapshot_interval = std::chrono::milliseconds(either(20, 60'000));
  b.commit_timeout = 200ms;
  b.producer_id_block = either(1, 1000);
  b.log.max_open_files = either(std::size_t{1}, std::size_t{256});
  b.log.verify_step_bytes = either(1u << 12, 256u << 10);
  b.log.synced_journal_bytes = either(1u << 11, 16u << 20);
  b.log.write_ahead_min_files = either(std::size_t{1}, std::size_t{4});
  b.log.write_ahead_bytes = std::uint64_t{1} << (17 + rng_.below(4));
  b.log.append_time_sync = std::chrono::milliseconds(either(20, 1000));
  b.groups.initial_rebalance_delay_ms = 0;
  b.retention_check_interval = std::chrono::milliseconds(either(15, 150));
  b.scrub_interval = std::chrono::milliseconds(either(20, 400));
  b.scrub_bytes_per_second = either(std::uint64_t{1} << 16, UINT64_MAX);
  b.cleaner_backoff = std::chrono::milliseconds(either(20, 300));
  b.cleaner_table_bytes = either(std::size_t{1} << 8, std::size_t{1} << 20);
}

void World::plan_topics() {
  // One of each durability, and a fourth of any; the first keeps every promise.
  const Durability kinds[] = {Durability::kFsync, Durability::kOs, Durability::kMemory,
                              static_cast<Durability>(1 + rng_.below(2))};
  for (const Durability durability : kinds) {
    DataTopic topic;
    topic.durability = durability;
    topic.name = fmt::format("data-{}-{}", topics_.size(), pyralog::name(durability));
    topic.settings.emplace_back("durability", pyralog::name(durability));
    const std::uint64_t segment = rng_.chance(0.5) ? 1000 + rng_.below(8000) : 1u << 20;
    topic.settings.emplace_back("segment.bytes", std::to_string(segment));
    topic.settings.emplace_back("index.interval.bytes", rng_.chance(0.5) ? "100" : "4096");
    const std::uint64_t partitions = durability == Durability::kFsync ? 1 + rng_.below(3) : 1;
    for (std::uint64_t i = 0; i < partitions; ++i) {
      topic.partitions.push_back(
          oracle.add_partition(topic.name, static_cast<std::int32_t>(i), durability, {}));
    }
    topics_.push_back(std::move(topic));
  }
  plan_compacted_topic();
  plan_forgetting_topic();
}

void World::plan_compacted_topic() {
  DataTopic topic;
  topic.durability = rng_.chance(0.7) ? Durability::kFsync : Durability::kOs;
  topic.name = fmt::format("compacted-{}", pyralog::name(topic.durability));
  topic.settings.emplace_back("durability", pyralog::name(topic.durability));
  topic.settings.emplace_back("cleanup.policy", "compact");
  topic.settings.emplace_back("segment.bytes", std::to_string(600 + rng_.below(4000)));
  topic.settings.emplace_back("index.interval.bytes", rng_.chance(0.5) ? "100" : "4096");
  topic.settings.emplace_back("min.cleanable.dirty.ratio", rng_.chance(0.5) ? "0" : "0.4");
  Forgets forgets{.compacted = true};
  forgets.delete_retention_ms = static_cast<std::int64_t>(rng_.below(300));
  topic.settings.emplace_back("delete.retention.ms", std::to_string(forgets.delete_retention_ms));
  topic.partitions.push_back(oracle.add_partition(topic.name, 0, topic.durability, forgets));
  topics_.push_back(std::move(topic));
}

void World::plan_forgetting_topic() {
  DataTopic topic;
  topic.durability = rng_.chance(0.7) ? Durability::kFsync : Durability::kOs;
  topic.name = fmt::format("forgetting-{}", pyralog::name(topic.durability));
  topic.settings.emplace_back("durability", pyralog::name(topic.durability));
  topic.settings.emplace_back("segment.bytes", std::to_string(600 + rng_.below(4000)));
  topic.settings.emplace_back("index.interval.bytes", rng_.chance(0.5) ? "100" : "4096");
  // By size, by age, by both, or only when it is told to.
  Forgets forgets{.from_the_front = true};
  const std::uint64_t how = rng_.below(4);
  if (how == 0 || how == 2) forgets.retention_bytes = static_cast<std::int64_t>(rng_.below(20'000));
  if (how == 1 || how == 2) {
    forgets.retention_ms = static_cast<std::int64_t>(30 + rng_.below(400));
    topic.settings.emplace_back("segment.ms", std::to_string(20 + rng_.below(200)));
  }
  topic.settings.emplace_back("retention.bytes", std::to_string(forgets.retention_bytes));
  topic.settings.emplace_back("retention.ms", std::to_string(forgets.retention_ms));
  topic.partitions.push_back(oracle.add_partition(topic.name, 0, topic.durability, forgets));
  topics_.push_back(std::move(topic));
}

io::Task<World::Busy> World::enter(io::Rng& rng, Duration think) {
  co_await io::sleep_for(
      Duration(static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(think.count())))));
  while (!open_ && !over_) (void)co_await gate_.wait(Instant::never());
  co_return Busy(over_ ? nullptr : this);
}

io::Task<bool> World::connect(Link& link) {
  if (link.connected()) co_return true;
  auto connected = co_await link.connect({"server", kKafkaPort}, 100ms);
  // Behind a closed gate nobody talks to the next life.
  if (connected && !open_) link.close();
  co_return link.connected();
}

void World::open_gate(bool open) {
  open_ = open;
  if (open) gate_.wake_all();
}

void World::quiesce() {
  if (!sim.run_until([this] { return busy_ == 0; }, 60s)) {
    oracle.violate(fmt::format("{} clients have waited for a minute", busy_));
  }
}

void World::begin_life() {
  ++life_number_;
  life_ = std::make_shared<Life>();
  life_->inspect = [this](SimServer& server) { return inspect(server); };
  inspected_.clear();
  first_look_ = true;
  disk_failed_ = sync_failed_ = false;
  run_server(*server_, life_, options_);
}

bool World::weather_a_start() {
  weathering_ = true;
  storm_ = some_storm();
  trace.add("server: starts in a storm {} on {} at {}", static_cast<int>(storm_.fault),
            storm_.op ? static_cast<int>(*storm_.op) : -1, storm_.rate);
  begin_life();
  const bool ended = sim.run_until(
      [this] { return life_->started || !life_->start_error.empty() || !server_->up(); }, 60s);
  if (!ended) {
    oracle.violate("the server neither starts nor refuses to while its disk fails");
    return false;
  }
  trace.add("server: {}", life_->started ? "has started in a storm"
                                         : "refuses to start in a storm: " + life_->start_error);
  count(life_->started ? "rare.started_in_a_storm" : "rare.start_refused_in_a_storm");
  if (life_->started) (void)sim.run_until([] { return false; }, std::chrono::milliseconds(rng_.below(60)));
  const bool power = rng_.chance(0.5);
  if (rng_.chance(0.3)) (void)stop_server();
  take_down(power);
  if (sync_failed_) survives_ = Strength::kPower;
  end_faults();
  weathering_ = false;
  server_->restart();
  return violations().empty();
}

bool World::start_server() {
  while (true) {
    if (rng_.chance(0.12) && !weather_a_start()) return false;
    if (std::ranges::any_of(server_->disk().files(),
                            [](const std::string& path) { return path.ends_with(".wal"); })) {
      count("rare.write_ahead_replayed");
    }
    if (rng_.chance(0.25)) crash_at_call(1 + rng_.below(120), rng_.chance(0.6));
    begin_life();
    const bool ended = sim.run_until(
        [this] { return life_->started || !life_->start_error.empty() || !server_->up(); }, 60s);
    crash_in_ = 0;
    if (!ended) {
      oracle.violate("the server does not start");
      return false;
    }
    if (!server_->up()) {
      count("rare.crash_in_recovery");
      if (crash_is_power_) survives_ = Strength::kPower;
      server_->restart();
      continue;
    }
    if (!life_->start_error.empty()) {
      oracle.violate("the server refuses to start: " + life_->start_error);
      return false;
    }
    trace.add("server: life {} begins", life_number_);
    return true;
  }
}

io::Task<void> World::inspect(SimServer& server) {
  const bool first = std::exchange(first_look_, false);
  if ((co_await server.broker().totals()).log.write_ahead_rounds > 0) {
    count("rare.write_ahead_round");
  }
  for (const auto& status : co_await server.broker().status()) {
    if (first && !weathering_) {
      if (!status.offline.empty()) {
        oracle.violate(fmt::format("{} is offline after a start: {}", status.name, status.offline));
      }
      if (went_off_.erase(status.name) > 0) count("rare.partition_back");
    }
    if (!status.offline.empty()) {
      count("rare.partition_offline");
      went_off_.insert(status.name);
    }
    const auto topic = std::ranges::find_if(
        topics_, [&](const DataTopic& t) { return status.name.starts_with(t.name + "-"); });
    if (topic == topics_.end()) continue;
    auto& before = inspected_[status.name];
    if (status.high_watermark < before || status.high_watermark > status.log_end ||
        status.log_start > status.high_watermark) {
      oracle.violate(fmt::format("{}: high watermark {}, {} before, the log is {} to {}", status.name,
                                 status.high_watermark, before, status.log_start, status.log_end));
    }
    before = status.high_watermark;
    if (topic->durability == Durability::kFsync && status.high_watermark > status.synced_end) {
      oracle.violate(fmt::format("{}: high watermark {} beyond the synced end {}", status.name,
                                 status.high_watermark, status.synced_end));
    }
  }
}

bool World::create_topics() {
  wire::CreateTopicsRequest request;
  for (const DataTopic& planned : topics_) {
    auto& topic = request.topics.emplace_back();
    topic.name = planned.name;
    topic.num_partitions = static_cast<std::int32_t>(planned.partitions.size());
    topic.replication_factor = -1;
    for (const auto& [key, value] : planned.settings) topic.configs.push_back({key, value});
  }
  return clients_->run([&]() -> io::Task<bool> {
    Link link("setup");
    if (!co_await link.connect({"server", kKafkaPort}, 1s)) co_return false;
    auto made = co_await link.call<wire::CreateTopicsResponse>(request, 7, 10s);
    if (!made) co_return false;
    for (const auto& topic : made->message.topics) {
      if (topic.error_code == 0) continue;
      oracle.violate(
          fmt::format("{} was not made: {}", topic.name, topic.error_message.value_or("")));
    }
    co_return true;
  });
}

void World::start_clients() {
  std::uint64_t next = seed_ * 1'000'003;
  unsigned number = 0;
  for (const DataTopic& topic : topics_) {
    for (std::size_t i = 0; i < topic.partitions.size(); ++i) {
      const std::uint64_t producers = 1 + rng_.below(2);
      for (std::uint64_t n = 0; n < producers; ++n) {
        ProducerPlan plan;
        plan.number = ++number;
        plan.topic = topic.name;
        plan.index = static_cast<std::int32_t>(i);
        plan.partition = topic.partitions[i];
        plan.idempotent = rng_.chance(0.6);
        const std::uint64_t acks = rng_.below(10);
        plan.acks = acks < 6                      ? Acks::kAll
                    : acks < 9 || plan.idempotent ? Acks::kLeader
                                                  : Acks::kNone;
        plan.window = plan.idempotent ? 1 + rng_.below(5) : 1;
        plan.think = std::chrono::milliseconds(2 + rng_.below(40));
        clients_->spawn([this, plan, seed = ++next] { return run_producer(*this, plan, seed); });
      }
    }
    clients_->spawn([this, &topic, seed = ++next] { return run_consumer(*this, topic, seed); });
  }
  clients_->spawn([this, seed = ++next] { return run_searcher(*this, seed); });
  for (unsigned i = 0; i < 2; ++i) {
    clients_->spawn([this, i, seed = ++next] { return run_committer(*this, i, i == 1, seed); });
  }
  clients_->spawn([this, seed = ++next] { return run_admin(*this, 0, seed); });
  clients_->spawn([this, seed = ++next] { return run_forgetter(*this, seed); });
}

void World::work() {
  const Duration span = std::chrono::milliseconds(40 + rng_.below(260));
  plan_faults(span);
  open_gate(true);
  (void)sim.run_until([this] { return !server_->up() || !violations().empty(); }, span);
  open_gate(false);
}

bool World::stop_server() {
  life_->stop_wanted = true;
  life_->stop.wake_all();
  const bool ended = sim.run_until([this] { return life_->stopped || !server_->up(); }, 60s);
  if (!ended) {
    oracle.violate("the server does not stop");
    return false;
  }
  if (!server_->up()) return false;
  if (!life_->stop_error.empty() && !disk_failed_) {
    oracle.violate("the server does not stop in order: " + life_->stop_error);
  }
  return life_->stop_error.empty() && !disk_failed_;
}

void World::take_down(bool power) {
  if (power) {
    survives_ = Strength::kPower;
    server_->lose_power();
  } else {
    server_->kill();
  }
}

void World::end_life() {
  survives_ = Strength::kProcess;
  if (server_->up()) {
    const std::uint64_t how = rng_.below(10);
    if (how < 3) {
      // What fails may go on failing.
      const Storm storm = rng_.chance(0.2) ? some_storm() : Storm{};
      end_faults();
      if (rng_.chance(0.5)) quiesce();
      storm_ = storm;
      // A crash may come into a clean stop, too.
      if (rng_.chance(0.2)) crash_at_call(1 + rng_.below(60), rng_.chance(0.5));
      if (stop_server()) {
        trace.add("server: ends cleanly");
        count("end.clean");
        quiesce();
        oracle.ended_cleanly();
      }
    } else {
      trace.add("server: {}", how < 6 ? "is killed" : "loses power");
    }
    if (server_->up()) take_down(how < 3 ? rng_.chance(0.5) : how >= 6);
  }
  if (crash_in_ == 0 && crash_is_power_) survives_ = Strength::kPower;
  if (sync_failed_) survives_ = Strength::kPower;
  end_faults();
  if (rng_.chance(0.5)) quiesce();
  server_->restart();
}

void World::run() {
  if (!start_server() || !create_topics()) return;
  start_clients();
  for (unsigned i = 0; i < lives_ && violations().empty(); ++i) {
    work();
    if (!violations().empty()) break;
    end_life();
    if (!start_server()) break;
    quiesce();
    if (violations().empty()) audit();
  }
  over_ = true;
  gate_.wake_all();
  quiesce();
  trace.add("the end; {} disk calls", server_->disk().calls());
}

}  // namespace pyralog::simtest
