#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "catalog/entry.h"
#include "io/net.h"

namespace pyralog::server {

/// What a node may have of its machine; 0 = nobody has asked.
struct MachineSize {
  std::uint64_t memory_bytes = 0;  ///< of the machine, or of its control group if that has less
  unsigned cores = 0;
};

/// Everything that can be set about a node, with its default. The settings table (`settings()`)
/// names a key for each field; `server/node` hands each room its own part.
struct ServerOptions {
  MachineSize machine;  ///< not set but found: what defaults go by

  // Place and listeners
  std::string data_dir = "./data";
  std::string kafka_listener;  ///< HOST:PORT; empty = not named
  std::string http_listener;
  std::string peer_listener;  ///< HOST:PORT where other nodes of the cluster connect
  std::string advertise;  ///< HOST:PORT that Kafka clients are told; empty = the listener itself
  bool allow_insecure = false;
  std::int64_t shards = 0;  ///< 0 = one per core
  bool follow_readers = true;

  // Cluster
  std::int64_t node_id = 1;
  std::string members;      ///< ID@HOST:PORT,…: the first nodes of the cluster; empty = not named
  std::string secret_file;  ///< what the cluster's nodes prove to each other that they have
  std::string rack;
  std::string role = "all";
  std::int64_t feature_level = catalog::kFeatureLevel;

  // Connections and requests
  std::int64_t max_connections = 10'000;
  std::int64_t connections_max_idle_ms = 600'000;
  std::int64_t max_request_bytes = 104'857'600;
  std::int64_t queued_max_request_bytes = -1;
  std::int64_t queued_max_response_bytes = -1;
  std::int64_t connection_max_requests = 64;
  std::int64_t fetch_max_bytes = 57'671'680;
  std::int64_t max_fetch_sessions = 1'000;
  std::int64_t shutdown_timeout_ms = 10'000;
  std::int64_t http_max_connections = 256;
  std::int64_t metrics_max_topics = 1'000;
  std::int64_t metrics_max_groups = 1'000;

  // Topics. What `cluster_defaults` names goes into the metadata log, which keeps it for all topics
  // that say nothing themselves; the fields beside it hold the same values, for checks and for
  // help.
  std::map<std::string, std::string> cluster_defaults;
  bool auto_create_topics = true;
  std::int64_t num_partitions = 1;
  std::int64_t max_partitions = 100'000;
  std::int64_t default_replication_factor = -1;
  std::int64_t min_insync_replicas = 1;
  std::string durability = "fsync";
  std::int64_t message_max_bytes = 1'048'588;
  std::int64_t segment_bytes = 1'073'741'824;
  std::int64_t retention_ms = 604'800'000;
  std::int64_t retention_bytes = -1;

  // Groups and producers
  std::int64_t retention_check_interval_ms = 300'000;
  std::int64_t cleaner_backoff_ms = 15'000;
  std::int64_t send_buffer_bytes = 262'144;
  std::int64_t write_ahead_bytes = 536'870'912;
  std::int64_t memory_topics_bytes = -1;
  std::int64_t cleaner_table_bytes = -1;
  std::int64_t cleaner_bytes_per_second = -1;
  std::int64_t scrub_interval_ms = 604'800'000;
  std::int64_t scrub_bytes_per_second = 10'485'760;
  std::int64_t replica_lag_time_max_ms = 30'000;
  std::string replica_selector = "rack";
  std::int64_t offsets_partitions = 50;
  std::int64_t offsets_replication_factor = -1;
  std::int64_t offset_metadata_max_bytes = 4'096;
  std::int64_t offsets_retention_minutes = 10'080;
  std::int64_t offsets_retention_check_interval_ms = 600'000;
  std::int64_t group_min_session_timeout_ms = 6'000;
  std::int64_t group_max_session_timeout_ms = 1'800'000;
  std::int64_t group_initial_rebalance_delay_ms = 3'000;
  std::int64_t group_max_size = 2'147'483'647;
  std::int64_t memory_groups_bytes = -1;
  std::int64_t producer_id_expiration_ms = 86'400'000;
  std::int64_t max_producer_ids = -1;

  // Machine
  std::int64_t memory_max_bytes = -1;
  std::int64_t min_free_bytes = -1;
  std::int64_t disk_reserve_bytes = -1;
  std::int64_t sync_threads = 16;
  std::int64_t disk_threads = 4;
  std::int64_t work_threads = 2;

  // Log lines
  std::string log_level = "info";
  std::string log_format = "text";
  std::int64_t slow_operation_ms = 1'000;
};

enum class SettingKind : std::uint8_t {
  kText,
  kAddress,  ///< HOST:PORT
  kMembers,  ///< ID@HOST:PORT,…
  kBool,
  kInteger,
  kBytes,   ///< also "64MiB"
  kMillis,  ///< also "30s"
  kChoice,
};

/// One row of the table: what a key is called, means and accepts, and the field that it sets.
struct Setting {
  std::string_view key;
  std::string_view flag;  ///< without "--"; empty = the key with '-' for '.' and '_'
  std::string_view group;
  SettingKind kind = SettingKind::kText;
  std::variant<std::string ServerOptions::*, bool ServerOptions::*, std::int64_t ServerOptions::*>
      field;
  std::int64_t min = 0;  ///< bounds of numbers, both allowed
  std::int64_t max = 0;
  std::string_view choices;  ///< "a|b|c"
  std::string_view help;
  bool cluster_wide = false;  ///< kept in the metadata log: ServerOptions::cluster_defaults
};

/// The one settings table, grouped, in the order in which a reader wants it.
[[nodiscard]] std::span<const Setting> settings();
[[nodiscard]] const Setting* find_setting(std::string_view key);
/// "--" and the option's name.
[[nodiscard]] std::string flag_of(const Setting& setting);
/// "PYRALOG_" and the key in capitals, '_' for '.' and '-'.
[[nodiscard]] std::string environment_of(const Setting& setting);
/// The current value as text, in the form that `assign` reads.
[[nodiscard]] std::string value_of(const ServerOptions& options, const Setting& setting);
/// "64MiB", "a|b", "1 to 10": what the setting accepts, for people.
[[nodiscard]] std::string accepts(const Setting& setting);

/// Sets one field from text; `origin` ("pyralog.toml:3", "option --shards") opens the message of an
/// error, kInvalidArgument.
[[nodiscard]] Result<void> assign(ServerOptions& options, const Setting& setting,
                                  std::string_view text, std::string_view origin);

/// One assignment with the place where it was written.
struct Assignment {
  std::string key;
  std::string value;
  std::string origin;
};

/// Where settings come from, weakest last: `command_line` over `environment` over the file over the
/// defaults.
struct SettingSources {
  MachineSize machine;
  std::optional<std::string> config_file;
  std::map<std::string, std::string> environment;  ///< variables whose names begin with PYRALOG_
  std::vector<Assignment> command_line;
};

struct LoadedSettings {
  ServerOptions options;
  std::map<std::string, std::string, std::less<>> origins;  ///< key → origin; absent = default
};

/// Reads and checks everything. An unknown key or an impossible value is kInvalidArgument and names
/// file, line, key and, for an unknown one, the nearest key there is.
[[nodiscard]] Result<LoadedSettings> load_settings(const SettingSources& sources);

/// The assignments of a TOML file, tables joined by dots, in the file's order. kNotFound, kIo,
/// kInvalidArgument with file and line.
[[nodiscard]] Result<std::vector<Assignment>> read_toml_file(const std::string& path);
[[nodiscard]] Result<std::vector<Assignment>> parse_toml(std::string_view text,
                                                         std::string_view file_name);

/// The variables of this process whose names begin with PYRALOG_.
[[nodiscard]] std::map<std::string, std::string> process_environment();

/// Which listeners open, after defaults: of those for clients the ones that are named, or all if
/// none is; the one for other nodes if there are to be any.
struct ListenPlan {
  std::optional<io::Address> kafka;
  std::optional<io::Address> http;
  std::optional<io::Address> advertise;
  std::optional<io::Address> peer;    ///< none = the node is alone
  std::string peer_host;              ///< that other nodes are told; empty = as is listened or said
  std::vector<std::string> warnings;  ///< to be logged at every start
};
/// kInvalidArgument for an address beyond loopback without `allow_insecure`, for a wildcard
/// listener of which nobody is told a better address, and for what is said of a cluster by halves.
[[nodiscard]] Result<ListenPlan> plan_listeners(const ServerOptions& options);

/// The reference page of all settings.
[[nodiscard]] std::string reference_markdown();
/// The same as JSON: [{key, type, default, accepts, environment, option, help}].
[[nodiscard]] std::string reference_json();

/// The member of `known` that differs least from `word`; empty if none is near.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::span<const std::string_view> known);

}  // namespace pyralog::server
