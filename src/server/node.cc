#include "server/node.h"

#include <malloc.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/plant.h"
#include "catalog/plan.h"
#include "io/pools.h"
#include "observe/log.h"
#include "observe/metrics.h"
#include "server/cluster_settings.h"

namespace pyralog::server {

namespace {
template <typename T>
T narrow(std::int64_t value) {
  return static_cast<T>(value);
}

/// What Kafka's tools call it.
std::string name_for_clients(const Setting& setting) {
  if (setting.key == "data_dir") return "log.dirs";
  if (setting.key == "listeners.kafka") return "listeners";
  if (setting.key == "max.request.bytes") return "socket.request.max.bytes";
  return std::string(setting.key);
}

catalog::SettingType type_for_clients(const Setting& setting) {
  switch (setting.kind) {
    case SettingKind::kBool:
      return catalog::SettingType::kBoolean;
    case SettingKind::kInteger:
    case SettingKind::kBytes:
    case SettingKind::kMillis:
      return setting.max <= INT32_MAX ? catalog::SettingType::kInt : catalog::SettingType::kLong;
    case SettingKind::kText:
    case SettingKind::kAddress:
    case SettingKind::kMembers:
    case SettingKind::kChoice:
      break;
  }
  return catalog::SettingType::kString;
}

protocol::kafka::Service::Options service_options(const ServerOptions& o, const MemoryShares& memory,
                                                  const std::optional<io::Address>& kafka,
                                                  observe::Registry& metrics,
                                                  observe::SlowLog& slow) {
  protocol::kafka::Service::Options out;
  out.metrics = &metrics;
  out.slow = &slow;
  out.fetch_max_bytes = narrow<std::size_t>(o.fetch_max_bytes);
  // What is built is some twice as large as what is sent.
  out.max_answer_bytes = 2 * memory.answers;
  out.sessions.max_sessions = narrow<std::size_t>(o.max_fetch_sessions);
  const ServerOptions defaults;
  for (const Setting& setting : settings()) {
    if (setting.cluster_wide) continue;      // the metadata log knows them
    if (setting.key == "node.id") continue;  // and this
    std::string value = value_of(o, setting);
    const bool is_default = value == value_of(defaults, setting);
    if (setting.key == "listeners.kafka") value = kafka ? "PLAINTEXT://" + to_string(*kafka) : "";
    out.settings.push_back({name_for_clients(setting), value, type_for_clients(setting),
                            setting.help, is_default});
  }
  return out;
}

protocol::kafka::Listener::Options listener_options(const ServerOptions& o, const MemoryShares& memory) {
  protocol::kafka::Listener::Options out;
  out.send_buffer_bytes = o.send_buffer_bytes > 0 ? static_cast<std::uint32_t>(o.send_buffer_bytes) : 0;
  out.max_connections = narrow<std::size_t>(o.max_connections);
  out.connection.max_frame_bytes = narrow<std::size_t>(o.max_request_bytes);
  out.connection.max_pipelined = narrow<std::size_t>(o.connection_max_requests);
  out.max_request_memory = memory.requests;
  out.max_answer_memory = memory.answers;
  out.connection.max_pipelined_bytes =
      std::max(out.connection.max_frame_bytes, out.max_request_memory / 8);
  out.connection.idle = std::chrono::milliseconds(o.connections_max_idle_ms);
  return out;
}
/// What may come in one request has to find room on its shard; true if that is less than was set.
bool lower_requests(ServerOptions& options, const MemoryShares& memory) {
  if (std::cmp_less_equal(options.max_request_bytes, memory.largest_request)) return false;
  options.max_request_bytes = static_cast<std::int64_t>(memory.largest_request);
  return true;
}
}  // namespace

observe::Level level_of(const ServerOptions& options) {
  if (options.log_level == "debug") return observe::Level::kDebug;
  if (options.log_level == "warn") return observe::Level::kWarn;
  if (options.log_level == "error") return observe::Level::kError;
  return observe::Level::kInfo;
}

broker::Options broker_options(const ServerOptions& o, const MemoryShares& memory) {
  broker::Options out;
  out.data_dir = o.data_dir;
  out.auto_create_topics = o.auto_create_topics;
  out.topics.default_partitions = narrow<std::int32_t>(o.num_partitions);
  out.topics.max_partitions_in_all = o.max_partitions;
  out.default_replication_factor = narrow<std::int16_t>(o.default_replication_factor);
  out.retention_check_interval = std::chrono::milliseconds(o.retention_check_interval_ms);
  out.cleaner_backoff = std::chrono::milliseconds(o.cleaner_backoff_ms);
  out.log.memory_bytes = memory.topics;
  out.log.max_index_bytes = memory.indexes;
  out.log.write_ahead_bytes = static_cast<std::uint64_t>(o.write_ahead_bytes);
  out.cleaner_table_bytes = memory.compaction;
  if (o.cleaner_bytes_per_second >= 0) {
    out.cleaner_bytes_per_second = narrow<std::uint64_t>(o.cleaner_bytes_per_second);
  }
  out.scrub_interval = std::chrono::milliseconds(std::max<std::int64_t>(o.scrub_interval_ms, 0));
  out.scrub_bytes_per_second =
      o.scrub_bytes_per_second < 0 ? UINT64_MAX : narrow<std::uint64_t>(o.scrub_bytes_per_second);
  out.offsets_partitions = narrow<std::int32_t>(o.offsets_partitions);
  out.offsets_replication_factor = narrow<std::int16_t>(o.offsets_replication_factor);
  out.producers.expiration_ms = o.producer_id_expiration_ms;
  out.max_producer_ids = o.max_producer_ids >= 0 ? narrow<std::size_t>(o.max_producer_ids)
                                                 : std::max<std::size_t>(100'000, memory.all / 2048);
  out.groups.min_session_timeout_ms = narrow<std::int32_t>(o.group_min_session_timeout_ms);
  out.groups.max_session_timeout_ms = narrow<std::int32_t>(o.group_max_session_timeout_ms);
  out.groups.initial_rebalance_delay_ms = narrow<std::int32_t>(o.group_initial_rebalance_delay_ms);
  out.groups.offset_metadata_max_bytes = narrow<std::size_t>(o.offset_metadata_max_bytes);
  out.groups.offsets_retention_ms = o.offsets_retention_minutes * 60'000;
  out.replica_lag_time_max = std::chrono::milliseconds(o.replica_lag_time_max_ms);
  out.read_by_rack = o.replica_selector == "rack";
  out.offsets_check_interval = std::chrono::milliseconds(o.offsets_retention_check_interval_ms);
  const auto of_disk = [](std::int64_t bytes) -> std::optional<std::uint64_t> {
    if (bytes < 0) return std::nullopt;
    return static_cast<std::uint64_t>(bytes);
  };
  out.space = {of_disk(o.min_free_bytes), of_disk(o.disk_reserve_bytes)};
  out.groups.max_group_size = narrow<std::size_t>(o.group_max_size);
  out.group_bytes = memory.groups;
  return out;
}

std::uint64_t space_floor(const ServerOptions& options, std::uint64_t disk_bytes) {
  return broker::space_limits(broker_options(options, {}).space, disk_bytes).floor;
}

Node::Node(io::Shards shards, ServerOptions options)
    : shards_(std::move(shards)),
      options_(std::move(options)),
      metrics_(static_cast<unsigned>(shards_.size())),
      slow_(metrics_, std::chrono::milliseconds(options_.slow_operation_ms)) {}

Node::~Node() = default;

io::Task<Result<void>> Node::bind(const ListenPlan& plan) {
  io::Net& net = io::Shard::current().net();
  if (plan.kafka) {
    PYRALOG_CO_ASSIGN(kafka_bound_, co_await net.listen(*plan.kafka));
    kafka_address_ = kafka_bound_->local();
  }
  if (plan.http) {
    PYRALOG_CO_ASSIGN(http_bound_, co_await net.listen(*plan.http));
    http_address_ = http_bound_->local();
  }
  co_return Result<void>{};
}

io::Task<Result<cluster::JoinOptions>> Node::join_options(const ListenPlan& plan) {
  cluster::JoinOptions join;
  const std::string& dir = options_.data_dir;
  PYRALOG_CO_ASSIGN(const bool has_joined,
                    co_await io::Shard::current().disk().exists(dir + "/raft.log"));
  if (options_.secret_file.empty()) {
    if (!has_joined) co_return join;
    co_return fail(Code::kInvalidArgument,
                   "data directory " + dir +
                       ": is that of a node of a cluster; give --cluster-secret-file and, unless "
                       "--cluster names it, --peer HOST:PORT");
  }
  if (!options_.members.empty()) {
    PYRALOG_CO_ASSIGN(join.members, parse_members(options_.members));
  } else if (!has_joined) {
    io::Disk& disk = io::Shard::current().disk();
    PYRALOG_CO_ASSIGN(const bool lone, co_await disk.exists(dir + "/metadata.log"));
    PYRALOG_CO_ASSIGN(const bool half, co_await disk.exists(dir + "/metadata.log.converted"));
    // A lone node's directory becomes that of a cluster of one; an empty one has to be told of whom.
    if (!lone && !half && !PYRALOG_PLANT("server.secret_of_a_lone_node")) {
      co_return fail(Code::kInvalidArgument,
                     "data directory " + dir +
                         ": is no cluster's, and cluster.secret.file was given; name the nodes that "
                         "form one with --cluster, or leave the secret out if this node is alone");
    }
  }
  PYRALOG_CO_ASSIGN(join.secret,
                    co_await io::run_in(io::Pool::kDisk, [path = options_.secret_file] {
                      return read_secret(path);
                    }));
  join.secret_name = "cluster.secret.file " + options_.secret_file;
  join.listen = plan.peer;
  join.advertise = plan.peer_host;
  join.shards = shards_;
  waits_for_ = "agreement of a majority of the cluster's nodes";
  if (!options_.members.empty()) waits_for_ += " (" + options_.members + ")";
  co_return join;
}

io::Task<Result<void>> Node::open(const ListenPlan& plan) {
  io::Shard& shard = io::Shard::current();
  cluster::Cluster::Options options;
  options.data_dir = options_.data_dir;
  const io::Address told =
      plan.advertise.value_or(kafka_address_.value_or(io::Address{"127.0.0.1", 9092}));
  options.host = told.host;
  options.port = told.port == 0 && kafka_address_ ? kafka_address_->port : told.port;
  options.node = NodeId(narrow<std::int32_t>(options_.node_id));
  options.rack = options_.rack;
  for (const auto role : {catalog::NodeRole::kPyramid, catalog::NodeRole::kObelisk}) {
    if (options_.role == catalog::name(role)) options.role = role;
  }
  options.feature_level = narrow<std::uint16_t>(options_.feature_level);
  options.give_up = [giving_up = giving_up_] {
    return giving_up->load() && !PYRALOG_PLANT("server.waits_for_ever");
  };
  PYRALOG_CO_ASSIGN(options.join, co_await join_options(plan));
  PYRALOG_CO_ASSIGN(cluster_, co_await cluster::Cluster::open(shard.disk(), shard.rng(), options));
  PYRALOG_CO_TRY(co_await put_first_defaults());
  PYRALOG_CO_TRY(go_on());
  if (cluster_->joined() != nullptr) waits_for_ = "recovery of this node's partitions";
  broker::Options broker = broker_options(options_, memory_);
  broker.log.slow = &slow_;
  broker.log.give_up = giving_up_;
  broker.log.sync_times = &metrics_.histogram(
      "pyralog_log_sync_seconds", "Rounds of group commit, on the disk", observe::Unit::kSeconds);
  broker_ = std::make_unique<broker::Broker>(shards_, std::move(broker));
  co_return co_await broker_->start(*cluster_);
}

io::Task<Result<void>> Node::put_defaults(Defaults defaults) {
  if (defaults.empty()) co_return Result<void>{};
  std::vector<catalog::AlterSetting> wanted;
  for (const auto& [name, value] : defaults) {
    wanted.push_back({name, value ? catalog::AlterOp::kSet : catalog::AlterOp::kDelete, value});
  }
  PYRALOG_CO_TRY(co_await cluster_->metadata().propose(
      [&wanted](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        const auto planned = catalog::plan_alter_cluster(wanted, state);
        if (!planned) return fail(Code::kInvalidArgument, planned.error().message);
        if (planned->changes.empty()) return std::vector<catalog::Entry>{};
        return std::vector<catalog::Entry>{*planned};
      }));
  co_return Result<void>{};
}

io::Task<Result<void>> Node::put_first_defaults() {
  for (;;) {
    auto put =
        co_await put_defaults({options_.cluster_defaults.begin(), options_.cluster_defaults.end()});
    if (put || cluster_->joined() == nullptr || cluster_->joined()->raft().dead()) co_return put;
    const Code code = put.error().code;
    if (code != Code::kUnavailable && code != Code::kTimedOut) co_return put;
    // Another node has begun to lead meanwhile. To set them twice is to set them once.
    PYRALOG_CO_TRY(go_on());
    co_await io::sleep_for(std::chrono::milliseconds(20));
  }
}

io::Task<void> Node::serve_kafka() {
  std::vector<protocol::kafka::Service*> services;
  for (unsigned s = 0; s < shards_.size(); ++s) {
    services_.push_back(std::make_unique<protocol::kafka::Service>(
        *broker_, s, service_options(options_, memory_, kafka_address_, metrics_, slow_)));
    services.push_back(services_.back().get());
  }
  for (auto* service : services) service->join(services, shards_);
  kafka_ = std::make_unique<protocol::kafka::Listener>(std::move(kafka_bound_), shards_, services,
                                                       listener_options(options_, memory_));
  running_.spawn(kafka_->run());
  co_return;
}

void Node::serve_http() {
  protocol::http::HttpOptions options;
  options.max_connections = narrow<std::size_t>(options_.http_max_connections);
  protocol::http::HttpHooks hooks;
  hooks.ready = [this] { return ready_; };
  hooks.health_json = [this] { return health_text(); };
  hooks.status_json = [this] { return status_json(); };
  hooks.partition_json = [this](std::string name) { return partition_json(std::move(name)); };
  hooks.metrics_text = [this] { return metrics_text(); };
  hooks.version_json = nlohmann::json{{"version", PYRALOG_VERSION}}.dump();
  http_ = std::make_unique<protocol::http::HttpServer>(options, std::move(hooks));
  running_.spawn(http_->serve(std::move(http_bound_)));
}

io::Task<Result<void>> Node::start() {
  began_ = io::Shard::current().wall();
  began_at_ = io::Shard::current().now();
  look_at_process();
  PYRALOG_CO_ASSIGN(const ListenPlan plan, plan_listeners(options_));
  PYRALOG_CO_ASSIGN(memory_, share_memory(options_));
  if (lower_requests(options_, memory_)) {
    observe::log_info("server.largest_request", {{"bytes", options_.max_request_bytes},
                                                 {"queued_bytes", memory_.requests},
                                                 {"shards", shards_.size()}});
  }
  for (const auto& warning : plan.warnings) {
    observe::log_warn("server.insecure", {{"what", warning}});
  }
  PYRALOG_CO_TRY(co_await bind(plan));
  // Health is told while recovery runs; clients of the log wait in the backlog meanwhile.
  if (http_bound_ != nullptr) serve_http();
  PYRALOG_CO_TRY(go_on());
  PYRALOG_CO_TRY(co_await open(plan));
  PYRALOG_CO_TRY(go_on());
  if (kafka_bound_ != nullptr) {
    co_await serve_kafka();
    running_.spawn(watch_traffic());
  }
  // Recovery reads journals and the ends of logs; the allocator would keep the room for good.
  co_await io::run_in(io::Pool::kWork, [] { return malloc_trim(0); });
  ready_ = true;
  observe::log_info("server.started",
                    {{"version", PYRALOG_VERSION},
                     {"data_dir", options_.data_dir},
                     {"cluster", to_string(cluster_->cookie().cluster)},
                     {"starts", std::to_string(cluster_->cookie().boot_counter)}});
  co_return Result<void>{};
}

Result<void> Node::go_on() const {
  if (!*giving_up_ || PYRALOG_PLANT("server.starts_to_the_end")) return {};
  return fail(Code::kCancelled, "the start was ended before clients were accepted");
}

io::Task<Result<void>> Node::reload(ServerOptions wanted) {
  (void)lower_requests(wanted, memory_);
  Defaults defaults;
  std::string restart;
  std::vector<const Setting*> changed;
  for (const Setting& setting : settings()) {
    const std::string value = value_of(wanted, setting);
    if (setting.cluster_wide) {
      const std::string key(setting.key);
      const auto named = wanted.cluster_defaults.find(key);
      const bool is_named = named != wanted.cluster_defaults.end();
      // What this node has put into the metadata log, and names no more, goes from there; what a client has
      // put there since stays.
      const auto before = options_.cluster_defaults.find(key);
      const auto& kept = broker_->catalog()->cluster_settings();
      const auto now = kept.find(key);
      const bool goes = !is_named && before != options_.cluster_defaults.end() && now != kept.end() &&
                        now->second == before->second &&
                        !PYRALOG_PLANT("server.reload_keeps_what_was_removed");
      if (goes) {
        defaults.emplace(key, std::nullopt);
      } else if (!is_named || value == value_of(options_, setting)) {
        continue;
      } else {
        defaults.insert(*named);
      }
    } else if (value == value_of(options_, setting)) {
      continue;
    } else if (setting.key != "log.level") {
      restart += (restart.empty() ? "" : " ") + std::string(setting.key);
      continue;
    }
    changed.push_back(&setting);
  }
  PYRALOG_CO_TRY(co_await put_defaults(std::move(defaults)));
  for (const Setting* setting : changed) {
    const std::string from = value_of(options_, *setting);
    const std::string to = value_of(wanted, *setting);
    PYRALOG_CO_TRY(assign(options_, *setting, to, "reload"));
    if (setting->cluster_wide && !wanted.cluster_defaults.contains(std::string(setting->key))) {
      options_.cluster_defaults.erase(std::string(setting->key));
    } else if (setting->cluster_wide) {
      options_.cluster_defaults[std::string(setting->key)] = to;
    }
    observe::log_info("server.setting_changed", {{"setting", setting->key}, {"from", from}, {"to", to}});
  }
  observe::set_log_level(level_of(options_));
  if (!restart.empty() && !PYRALOG_PLANT("server.restart_is_not_told")) {
    observe::log_warn("server.restart_needed", {{"settings", restart}});
  }
  observe::log_info("server.reloaded", {{"changed", changed.size()}});
  co_return Result<void>{};
}

io::Task<Result<void>> Node::stop() {
  if (ready_) observe::log_info("server.stopping", {{"data_dir", options_.data_dir}});
  ready_ = false;
  stopping_ = true;
  stop_watching_.wake_all();
  const Instant deadline =
      io::Shard::current().now() + std::chrono::milliseconds(options_.shutdown_timeout_ms);
  if (kafka_ != nullptr) co_await kafka_->drain();
  if (broker_ != nullptr) co_await broker_->drain();
  if (kafka_ != nullptr) co_await kafka_->finish(deadline);
  Result<void> stopped;
  if (broker_ != nullptr) stopped = co_await broker_->stop();
  // What is told of the cluster is of no use any more, though HTTP may still be asked.
  leaving_ = true;
  if (cluster_ != nullptr && !PYRALOG_PLANT("server.never_leaves")) co_await cluster_->stop();
  if (http_ != nullptr) http_->stop();
  co_await running_.join();
  co_return stopped;
}

}  // namespace pyralog::server
