// What /health, /status and /partitions/NAME-N/status show.
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>

#include "io/pools.h"
#include "model/fundamental.h"
#include "server/node.h"

namespace pyralog::server {

namespace {

/// "orders-3"; nullopt for what names no partition.
std::optional<broker::PartitionRef> partition_ref(std::string_view name) {
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  broker::PartitionRef out;
  out.topic = std::string(name.substr(0, dash));
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + dash + 1, end, out.partition);
  if (error != std::errc() || at != end || out.partition < 0) return std::nullopt;
  return out;
}

nlohmann::json lost_json(const std::vector<catalog::LostRecord>& all) {
  nlohmann::json out = nlohmann::json::array();
  for (const auto& lost : all) {
    out.push_back({{"from", lost.from.value},
                   {"to", lost.to.value},
                   {"reason", lost.reason},
                   {"at_ms", lost.at.ms}});
  }
  return out;
}

nlohmann::json status_of(const broker::PartitionStatus& p) {
  nlohmann::json out = {{"name", p.name},           {"directory", to_string(p.id)},
                        {"epoch", p.epoch},
                        {"log_start", p.log_start}, {"high_watermark", p.high_watermark},
                        {"log_end", p.log_end},     {"bytes", p.bytes}};
  if (!p.offline.empty()) out["offline"] = p.offline;
  if (!p.lost.empty()) out["lost"] = lost_json(p.lost);
  if (!p.holds.empty()) {
    for (const auto& hold : p.holds) out["holds"].push_back({{"by", hold.by}, {"offset", hold.offset}});
    out["held_back_bytes"] = p.held_back_bytes;
  }
  return out;
}

nlohmann::json log_json(const log::LogDetails& log) {
  nlohmann::json out = {{"segments", log.segments},
                        {"damaged_ranges", log.damaged_ranges},
                        {"index_memory_bytes", log.index_bytes}};
  out["newest_segments"] = nlohmann::json::array();
  for (const auto& segment : log.newest) {
    out["newest_segments"].push_back({{"base", segment.base.value},
                                      {"next", segment.next.value},
                                      {"bytes", segment.bytes},
                                      {"synced_bytes", segment.synced_bytes},
                                      {"active", segment.active}});
  }
  if (log.evidence) {
    out["evidence"] = {{"segment", log.evidence->segment.value},
                       {"end_position", log.evidence->end_position},
                       {"end_offset", log.evidence->end_offset.value},
                       {"epoch", log.evidence->epoch.value},
                       {"log_start", log.evidence->start.value}};
  }
  if (log.cleaner) {
    out["cleaner"] = {{"running", log.cleaner->running},
                      {"backlog_bytes", log.cleaner->backlog_bytes}};
    if (log.cleaner->known) out["cleaner"]["compacted_to"] = log.cleaner->upto.value;
  }
  return out;
}

/// What is wrong with one partition, as /health says it.
std::vector<Problem> problems_of(const broker::PartitionDetails& partition) {
  HealthFacts facts;
  facts.wall = WallMs{INT64_MAX};  // the node's clock is not its business
  if (!partition.status.offline.empty()) {
    facts.offline.emplace_back(partition.status.name, partition.status.offline);
  }
  if (partition.log) facts.damage = partition.log->damage;
  return problems_in(facts);
}

nlohmann::json problems_json(const std::vector<Problem>& problems) {
  nlohmann::json out = nlohmann::json::array();
  for (const Problem& problem : problems) {
    out.push_back({{"kind", problem.kind},
                   {"what", problem.what},
                   {"remedy", problem.remedy},
                   {"severity", severity_name(problem.severity)}});
  }
  return out;
}

nlohmann::json part_json(std::uint64_t used, std::uint64_t limit) {
  return {{"used_bytes", used}, {"limit_bytes", limit}};
}

nlohmann::json minute_json(const MinuteMoved& moved) {
  nlohmann::json out = {{"seconds", moved.seconds},         {"records_in", moved.records_in},
                        {"bytes_in", moved.bytes_in},       {"records_out", moved.records_out},
                        {"bytes_out", moved.bytes_out}};
  if (moved.produce_p99) {
    out["produce_p99_ms"] = static_cast<double>(moved.produce_p99->count()) / 1e6;
  }
  return out;
}

void add_cluster_facts(const ClusterView& view, HealthFacts& facts) {
  facts.metadata_failed = view.failed;
  facts.no_controller = !view.controller;
  for (const NodeView& node : view.nodes) {
    if (!node.reachable) facts.unreachable.emplace_back(node.id.value, node.why);
  }
}

std::string text_of(const nlohmann::json& json) {
  // What comes from names and messages need not be UTF-8.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::optional<ClusterView> Node::cluster_view() {
  if (cluster_ == nullptr || leaving_) return std::nullopt;
  return view_of(*cluster_);
}

HealthFacts Node::health_facts(const std::vector<broker::PartitionStatus>& partitions,
                               const log::ShardLogUse& logs, const broker::ScrubStatus& scrub) {
  const io::Shard& shard = io::Shard::current();
  HealthFacts facts;
  facts.data_dir = options_.data_dir;
  facts.wall = shard.wall();
  facts.clock_jump = clock_.look(facts.wall, shard.now());
  facts.open_files = process_.open_files;
  facts.max_open_files = process_.max_open_files;
  for (const auto& partition : partitions) {
    if (!partition.offline.empty()) facts.offline.emplace_back(partition.name, partition.offline);
  }
  if (ready_) facts.writes_refused = broker_->space_complaint();
  if (!ready_) facts.waits_for = waits_for_;
  if (const auto view = cluster_view()) add_cluster_facts(*view, facts);
  facts.failed_write_ahead = logs.failed_write_ahead;
  facts.damage = scrub.damage;
  return facts;
}

void Node::look_at_process() {
  if (looking_at_process_) return;
  looking_at_process_ = true;
  running_.spawn([](Node* self) -> io::Task<void> {
    self->process_ =
        co_await io::run_in(io::Pool::kWork, [] { return observe::process_stats(); });
    self->looking_at_process_ = false;
  }(this));
}

io::Task<std::string> Node::health_text() {
  look_at_process();
  std::vector<broker::PartitionStatus> partitions;
  log::ShardLogUse logs;
  broker::ScrubStatus scrub;
  if (ready_) {
    partitions = co_await broker_->status();
    logs = co_await broker_->log_use();
    scrub = co_await broker_->scrub_status();
  }
  const HealthFacts facts = health_facts(partitions, logs, scrub);
  co_return health_json(ready_, facts, problems_in(facts));
}

io::Task<std::optional<std::string>> Node::partition_json(std::string name) {
  const auto target = partition_ref(name);
  if (!target || !ready_) co_return std::nullopt;
  const auto found = co_await broker_->partition(*target);
  if (!found) co_return std::nullopt;
  nlohmann::json out = status_of(found->status);
  out["synced_end"] = found->status.synced_end;
  out["shard"] = found->shard;
  out["durability"] = pyralog::model::name(found->durability);
  out["producers"] = found->producers;
  out["epochs"] = nlohmann::json::array();
  for (const EpochStart& epoch : found->epochs) {
    out["epochs"].push_back({{"epoch", epoch.epoch.value}, {"start", epoch.start.value}});
  }
  if (found->log) out["log"] = log_json(*found->log);
  const std::vector<Problem> problems = problems_of(*found);
  out["problems"] = problems_json(problems);
  out["status"] = health_status(true, problems);
  co_return text_of(out);
}

io::Task<Node::MemoryUsed> Node::memory_used() {
  const log::ShardLogUse logs = co_await broker_->log_use();
  const group::Kept groups = (co_await broker_->totals()).groups;
  if (kafka_ != nullptr) kafka_memory_ = co_await kafka_->memory();
  co_return MemoryUsed{kafka_memory_.requests, kafka_memory_.answers, logs.memory_topic_bytes,
                       groups.members + groups.offsets + groups.storing, logs.index_bytes};
}

Movement Node::movement() {
  // They exist already, with what they say of themselves.
  constexpr const char* kThere = "As the Kafka listener counts it";
  constexpr const char* kProduceTimes = "pyralog_kafka_request_seconds";
  const auto counted = [&](const char* name) { return metrics_.counter(name, kThere).value(); };
  Movement now;
  now.at = io::Shard::current().now();
  now.records_in = counted("pyralog_kafka_produced_records_total");
  now.bytes_in = counted("pyralog_kafka_produced_bytes_total");
  now.records_out = counted("pyralog_kafka_fetched_records_total");
  now.bytes_out = counted("pyralog_kafka_fetched_bytes_total");
  const observe::Labels produce{{"api", "Produce"}};
  now.produce =
      metrics_.histogram(kProduceTimes, kThere, observe::Unit::kSeconds, produce).snapshot();
  return now;
}

io::Task<void> Node::watch_traffic() {
  while (!stopping_) {
    last_minute_.note(movement());
    (void)co_await stop_watching_.wait(io::Shard::current().now() + LastMinute::kStep);
  }
}

io::Task<std::string> Node::status_json() {
  look_at_process();
  nlohmann::json out;
  out["uptime_ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(
                         io::Shard::current().now() - began_at_)
                         .count();
  out["process"] = {{"resident_bytes", process_.resident_bytes},
                    {"cpu_seconds", process_.cpu_seconds},
                    {"open_files", process_.open_files},
                    {"max_open_files", process_.max_open_files}};
  out["version"] = PYRALOG_VERSION;
  out["ready"] = ready_;
  out["data_dir"] = options_.data_dir;
  out["shards"] = shards_.size();
  if (kafka_address_) out["kafka"] = io::to_string(*kafka_address_);
  if (cluster_ != nullptr) {
    out["cluster_id"] = to_string(cluster_->cookie().cluster);
    out["node_id"] = cluster_->node().value;
    out["starts"] = cluster_->cookie().boot_counter;
    out["topics"] = cluster_->catalog()->topic_count();
  }
  if (!ready_ && !waits_for_.empty()) out["waits_for"] = waits_for_;
  if (const auto view = cluster_view(); view && !view->alone) {
    out["cluster"] = nlohmann::json::parse(cluster_json(*view));
  }
  if (kafka_ != nullptr) out["connections"] = kafka_->connections();
  out["partitions"] = nlohmann::json::array();
  if (ready_) {
    const broker::RecoveryStatus& read = broker_->recovery();
    out["recovery"] = {{"logs", read.logs},
                       {"scanned_bytes", read.scanned_bytes},
                       {"replayed_bytes", read.replayed_bytes},
                       {"torn_bytes", read.torn_bytes},
                       {"ms", read.millis}};
    const broker::ScrubStatus scrub = co_await broker_->scrub_status();
    out["scrub"] = {{"damaged_ranges", scrub.damaged_ranges}, {"damage", scrub.damage}};
    if (scrub.last_round_ms >= 0) out["scrub"]["last_round_ms"] = scrub.last_round_ms;
    const MemoryUsed used = co_await memory_used();
    out["memory"] = {{"max_bytes", memory_.all},
                     {"requests", part_json(used.requests, memory_.requests)},
                     {"answers", part_json(used.answers, memory_.answers)},
                     {"topics", part_json(used.topics, memory_.topics)},
                     {"groups", part_json(used.groups, memory_.groups)},
                     {"indexes", part_json(used.indexes, memory_.indexes * shards_.size())},
                     // What a pass holds of it goes with the pass, and is not counted.
                     {"compaction", {{"limit_bytes", memory_.compaction * shards_.size()}}}};
    if (kafka_ != nullptr) out["last_minute"] = minute_json(last_minute_.until(movement()));
    const broker::SpaceStatus& space = broker_->space();
    out["disk"] = {{"free_bytes", space.free_bytes},
                   {"total_bytes", space.total_bytes},
                   {"min_free_bytes", space.limits.floor},
                   {"reserve_bytes", space.held_bytes},
                   {"refusing", space.refusing}};
    for (const auto& p : co_await broker_->status()) {
      out["partitions"].push_back(status_of(p));
    }
  }
  co_return text_of(out);
}

}  // namespace pyralog::server
