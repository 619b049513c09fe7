#include "server/settings.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>

#include "base/plant.h"
#include "server/cluster_settings.h"
#include "server/memory_shares.h"

extern char** environ;

namespace pyralog::server {

namespace {

struct Unit {
  std::string_view name;
  std::int64_t factor;
};
constexpr std::array kByteUnits = {Unit{"GiB", 1LL << 30}, Unit{"MiB", 1LL << 20},
                                   Unit{"KiB", 1LL << 10}, Unit{"B", 1}};
constexpr std::array kMilliUnits = {Unit{"ms", 1}, Unit{"s", 1'000}, Unit{"m", 60'000},
                                    Unit{"h", 3'600'000}, Unit{"d", 86'400'000}};

std::span<const Unit> units_of(SettingKind kind) {
  switch (kind) {
    case SettingKind::kBytes:
      return kByteUnits;
    case SettingKind::kMillis:
      return kMilliUnits;
    case SettingKind::kText:
    case SettingKind::kAddress:
    case SettingKind::kMembers:
    case SettingKind::kBool:
    case SettingKind::kInteger:
    case SettingKind::kChoice:
      break;
  }
  return {};
}

std::optional<std::int64_t> parse_number(std::string_view text, std::span<const Unit> units) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<std::size_t>(end - text.data()));
  if (unit.empty()) return number;
  for (const Unit& known : units) {
    if (known.name != unit) continue;
    std::int64_t scaled = 0;
    if (__builtin_mul_overflow(number, known.factor, &scaled)) return std::nullopt;
    return scaled;
  }
  return std::nullopt;
}

std::optional<bool> parse_bool(std::string_view text) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") return true;
  if (text == "false" || text == "0" || text == "no" || text == "off") return false;
  return std::nullopt;
}

bool is_choice(std::string_view choices, std::string_view text) {
  while (!choices.empty()) {
    const std::size_t bar = choices.find('|');
    if (choices.substr(0, bar) == text) return true;
    choices = bar == std::string_view::npos ? std::string_view() : choices.substr(bar + 1);
  }
  return false;
}

std::unexpected<Error> impossible(const Setting& setting, std::string_view text,
                                  std::string_view origin) {
  return fail(Code::kInvalidArgument, std::string(origin) + ": " + std::string(setting.key) +
                                          " cannot be \"" + std::string(text) + "\"; it takes " +
                                          accepts(setting));
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t up = row[j];
      row[j] = std::min({up + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      diagonal = up;
    }
  }
  return row[b.size()];
}

std::unexpected<Error> unknown(const Assignment& assignment) {
  std::vector<std::string_view> keys;
  for (const Setting& setting : settings()) keys.push_back(setting.key);
  const std::string_view near = nearest(assignment.key, keys);
  return fail(Code::kInvalidArgument,
              assignment.origin + ": unknown setting \"" + assignment.key + "\"; " +
                  (near.empty() ? std::string("`pyralog config reference` lists all")
                                : "did you mean \"" + std::string(near) + "\"?"));
}

// Variables that share the prefix and are no settings: other commands', the tests', and those that
// container platforms derive from a service called pyralog.
//
// A service called pyralog-NAME gives PYRALOG_NAME_SERVICE_HOST, _SERVICE_PORT, _SERVICE_PORT_OTHER, _PORT,
// _PORT_9092_TCP, _PORT_9092_TCP_ADDR and so on. No setting is called so.
bool is_of_a_service(std::string_view name, std::string_view value) {
  if (PYRALOG_PLANT("server.services_are_settings")) return false;
  if (name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") ||
      name.contains("_SERVICE_PORT_")) {
    return true;
  }
  // PYRALOG_HTTP_PORT=8080 is somebody's mistake.
  if (name.ends_with("_PORT")) {
    return value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
  }
  constexpr std::string_view kPort = "_PORT_";
  for (std::size_t at = name.find(kPort); at != std::string_view::npos; at = name.find(kPort, at + 1)) {
    std::string_view rest = name.substr(at + kPort.size());
    const std::size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    rest.remove_prefix(digits);
    if (digits > 0 && (rest.starts_with("_TCP") || rest.starts_with("_UDP") || rest.starts_with("_SCTP"))) {
      return true;
    }
  }
  return false;
}

bool is_foreign_variable(std::string_view name, std::string_view value) {
  static constexpr std::string_view kExact[] = {
      "PYRALOG_CONFIG", "PYRALOG_BOOTSTRAP", "PYRALOG_PLANT", "PYRALOG_BINARY",
      "PYRALOG_DEPS",   "PYRALOG_SOAK",      "PYRALOG_SEED",  "PYRALOG_LIBRDKAFKA_DRIVER"};
  static constexpr std::string_view kPrefixes[] = {"PYRALOG_TEST_", "PYRALOG_SERVICE_",
                                                   "PYRALOG_PORT"};
  return is_of_a_service(name, value) ||
         std::ranges::any_of(kExact, [&](auto exact) { return name == exact; }) ||
         std::ranges::any_of(kPrefixes, [&](auto prefix) { return name.starts_with(prefix); });
}

Result<std::vector<Assignment>> from_environment(
    const std::map<std::string, std::string>& environment) {
  std::vector<Assignment> found;
  for (const auto& [name, value] : environment) {
    const Setting* match = nullptr;
    for (const Setting& setting : settings()) {
      if (environment_of(setting) == name) match = &setting;
    }
    if (match != nullptr) {
      found.push_back({std::string(match->key), value, "environment variable " + name});
      continue;
    }
    if (is_foreign_variable(name, value)) continue;
    std::vector<std::string> names;
    for (const Setting& setting : settings()) names.push_back(environment_of(setting));
    const std::vector<std::string_view> views(names.begin(), names.end());
    const std::string_view near = nearest(name, views);
    return fail(Code::kInvalidArgument,
                "environment variable " + name + ": unknown setting; " +
                    (near.empty() ? std::string("unset it (`pyralog config reference` lists all)")
                                  : "did you mean " + std::string(near) + "?"));
  }
  return found;
}

/// What may come in one request has to find room on its shard. The default of max.request.bytes is lowered
/// to what does; what somebody has asked for is not.
Result<void> check_requests(const LoadedSettings& loaded, const MemoryShares& memory) {
  const ServerOptions& o = loaded.options;
  const std::pair<std::string_view, std::int64_t> wanted[] = {{"max.request.bytes", o.max_request_bytes},
                                                              {"message.max.bytes", o.message_max_bytes}};
  for (const auto& [key, bytes] : wanted) {
    const auto origin = loaded.origins.find(key);
    if (origin == loaded.origins.end() || std::cmp_less_equal(bytes, memory.largest_request)) continue;
    return fail(Code::kInvalidArgument,
                origin->second + ": " + std::string(key) + " (" + std::to_string(bytes) +
                    ") finds no room in queued.max.request.bytes (" + std::to_string(memory.requests) +
                    "), of which each shard has its share, for requests of up to " +
                    std::to_string(memory.largest_request) +
                    " bytes; lower the former, raise the latter, or take fewer shards");
  }
  return {};
}

Result<void> check_together(const LoadedSettings& loaded) {
  const ServerOptions& o = loaded.options;
  const auto origin = [&](std::string_view key) {
    const auto it = loaded.origins.find(key);
    return it == loaded.origins.end() ? std::string("default") : it->second;
  };
  if (o.group_min_session_timeout_ms > o.group_max_session_timeout_ms) {
    return fail(Code::kInvalidArgument,
                origin("group.min.session.timeout.ms") + ": group.min.session.timeout.ms (" +
                    std::to_string(o.group_min_session_timeout_ms) +
                    ") is above group.max.session.timeout.ms (" +
                    std::to_string(o.group_max_session_timeout_ms) + "); lower it");
  }
  if (o.message_max_bytes > o.max_request_bytes) {
    return fail(Code::kInvalidArgument, origin("message.max.bytes") + ": message.max.bytes (" +
                                            std::to_string(o.message_max_bytes) +
                                            ") is above max.request.bytes (" +
                                            std::to_string(o.max_request_bytes) +
                                            "), so no request could carry it; lower it");
  }
  if (o.queued_max_request_bytes >= 0 && loaded.origins.contains("max.request.bytes") &&
      o.max_request_bytes > o.queued_max_request_bytes) {
    return fail(Code::kInvalidArgument,
                origin("max.request.bytes") + ": max.request.bytes (" +
                    std::to_string(o.max_request_bytes) + ") is above queued.max.request.bytes (" +
                    std::to_string(o.queued_max_request_bytes) + "); raise the latter");
  }
  PYRALOG_ASSIGN(const MemoryShares memory, share_memory(o));
  return check_requests(loaded, memory);
}

Result<std::optional<io::Address>> address_of(const std::string& text, std::string_view key) {
  if (text.empty()) return std::nullopt;
  auto address = io::parse_address(text);
  if (!address)
    return fail(Code::kInvalidArgument, std::string(key) + ": " + address.error().message);
  return *address;
}

constexpr std::size_t kMaxRackBytes = 255;  // that can be registered

/// What is said of a cluster is said whole: who this node is among them, where it listens, and the
/// secret that they share.
Result<void> plan_cluster(const ServerOptions& options, ListenPlan& plan) {
  const auto refused = [](std::string message) {
    return fail(Code::kInvalidArgument, std::move(message));
  };
  if (options.rack.size() > kMaxRackBytes) {
    return refused("broker.rack has " + std::to_string(options.rack.size()) +
                   " bytes; 255 are the most");
  }
  if (options.replica_selector != "rack" && options.replica_selector != "leader") {
    return refused("replica.selector.class is \"" + options.replica_selector +
                   "\"; use rack or leader");
  }
  const bool has_secret = !options.secret_file.empty();
  if (!options.members.empty()) {
    auto members = parse_members(options.members);
    if (!members) return refused("cluster.members: " + members.error().message);
    const NodeId self(static_cast<std::int32_t>(options.node_id));
    const auto own = std::ranges::find(*members, self, &cluster::Member::node);
    // Who comes to a cluster that exists is not one of those whom it began with.
    if (own == members->end() && !plan.peer) {
      return refused("cluster.members does not name node " + std::to_string(options.node_id) +
                     ", which this one is; add " + std::to_string(options.node_id) +
                     "@HOST:PORT on all nodes, or correct node.id (--node-id); a node that `pyralog cluster "
                     "add` lets into a cluster says --peer HOST:PORT");
    }
    if (!has_secret && !PYRALOG_PLANT("server.cluster_without_secret")) {
      return refused(
          "cluster.members without cluster.secret.file: nodes prove to each other that they have "
          "it; write random bytes to a file (`openssl rand -hex 32`), the same on every node, and "
          "name it with --cluster-secret-file");
    }
    if (!plan.peer) plan.peer = own->peer;
  } else if (plan.peer && !has_secret) {
    return refused(
        "listeners.peer without cluster.secret.file: only nodes of a cluster listen for others; "
        "name its secret with --cluster-secret-file, or leave --peer out");
  } else if (has_secret && !plan.peer) {
    return refused(
        "cluster.secret.file without cluster.members: where other nodes find this one is not said; "
        "give --cluster as on all nodes or, once it has formed, --peer HOST:PORT; leave the secret "
        "out if this node is alone");
  } else if (plan.peer && io::is_wildcard(*plan.peer) && !PYRALOG_PLANT("server.wildcard_told")) {
    if (!plan.advertise) {
      return refused("listener peer " + io::to_string(*plan.peer) +
                     ": is an address that no node can connect to; name the host, or give "
                     "--advertise HOST:PORT");
    }
    plan.peer_host = plan.advertise->host;
  }
  if (plan.peer && !plan.kafka) {
    return refused(
        "a node of a cluster without listeners.kafka: the others are told where its clients "
        "connect; give --kafka HOST:PORT");
  }
  return {};
}

/// Where nodes are on several machines, every client would be told to look for all of them on its own.
Result<void> check_told(const ServerOptions& options, const ListenPlan& plan) {
  if (!plan.peer || plan.advertise || !io::is_loopback(*plan.kafka)) return {};
  bool beyond = !io::is_loopback(*plan.peer);
  if (!options.members.empty()) {
    PYRALOG_ASSIGN(const auto members, parse_members(options.members));
    beyond = beyond || std::ranges::any_of(members, [](const cluster::Member& each) {
               return !io::is_loopback(each.peer);
             });
  }
  if (!beyond || PYRALOG_PLANT("server.loopback_told")) return {};
  return fail(Code::kInvalidArgument,
              "listener kafka " + io::to_string(*plan.kafka) +
                  ": is what clients of the whole cluster would be told, and its nodes are not all "
                  "on this machine; give --kafka HOST:PORT or --advertise HOST:PORT");
}

}  // namespace

std::string flag_of(const Setting& setting) {
  if (!setting.flag.empty()) return "--" + std::string(setting.flag);
  std::string flag = "--" + std::string(setting.key);
  std::ranges::replace(flag, '.', '-');
  std::ranges::replace(flag, '_', '-');
  return flag;
}

std::string environment_of(const Setting& setting) {
  std::string name = "PYRALOG_";
  for (const char c : setting.key) {
    name +=
        c == '.' || c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::string value_of(const ServerOptions& options, const Setting& setting) {
  if (const auto* text = std::get_if<std::string ServerOptions::*>(&setting.field)) {
    return options.*(*text);
  }
  if (const auto* truth = std::get_if<bool ServerOptions::*>(&setting.field)) {
    return options.*(*truth) ? "true" : "false";
  }
  return std::to_string(options.*std::get<std::int64_t ServerOptions::*>(setting.field));
}

std::string accepts(const Setting& setting) {
  const std::string bounds = std::to_string(setting.min) + " to " + std::to_string(setting.max);
  switch (setting.kind) {
    case SettingKind::kText:
      return "text";
    case SettingKind::kAddress:
      return "HOST:PORT";
    case SettingKind::kMembers:
      return "ID@HOST:PORT,…";
    case SettingKind::kBool:
      return "true or false";
    case SettingKind::kInteger:
      return bounds;
    case SettingKind::kBytes:
      return bounds + " bytes, or a number with KiB, MiB or GiB";
    case SettingKind::kMillis:
      return bounds + " milliseconds, or a number with s, m, h or d";
    case SettingKind::kChoice:
      break;
  }
  std::string text(setting.choices);
  for (std::size_t at = text.rfind('|'); at != std::string::npos; at = text.rfind('|')) {
    text.replace(at, 1, text.find(" or ") == std::string::npos ? " or " : ", ");
  }
  return text;
}

Result<void> assign(ServerOptions& options, const Setting& setting, std::string_view text,
                    std::string_view origin) {
  if (const auto* truth = std::get_if<bool ServerOptions::*>(&setting.field)) {
    const auto value = parse_bool(text);
    if (!value) return impossible(setting, text, origin);
    options.*(*truth) = *value;
    return {};
  }
  if (const auto* number = std::get_if<std::int64_t ServerOptions::*>(&setting.field)) {
    const auto value = parse_number(text, units_of(setting.kind));
    const bool within = value && *value >= setting.min && *value <= setting.max;
    if (!value || (!within && !PYRALOG_PLANT("server.any_number"))) {
      return impossible(setting, text, origin);
    }
    options.*(*number) = *value;
    return {};
  }
  if (setting.kind == SettingKind::kMembers) {
    if (const auto members = parse_members(text); !members) {
      return fail(Code::kInvalidArgument, std::string(origin) + ": " + std::string(setting.key) +
                                              ": " + members.error().message);
    }
  }
  const bool is_address = setting.kind == SettingKind::kAddress;
  if (text.empty() || (is_address && !io::parse_address(text)) ||
      (setting.kind == SettingKind::kChoice && !is_choice(setting.choices, text)) ||
      text.find('\0') != std::string_view::npos) {
    return impossible(setting, text, origin);
  }
  options.*std::get<std::string ServerOptions::*>(setting.field) = std::string(text);
  return {};
}

Result<LoadedSettings> load_settings(const SettingSources& sources) {
  std::vector<std::vector<Assignment>> layers;
  if (sources.config_file) {
    PYRALOG_ASSIGN(auto from_file, read_toml_file(*sources.config_file));
    layers.push_back(std::move(from_file));
  }
  PYRALOG_ASSIGN(auto from_env, from_environment(sources.environment));
  layers.push_back(std::move(from_env));
  layers.push_back(sources.command_line);

  LoadedSettings loaded;
  loaded.options.machine = sources.machine;
  for (const auto& layer : layers) {
    for (const Assignment& assignment : layer) {
      const Setting* setting = find_setting(assignment.key);
      if (setting == nullptr && PYRALOG_PLANT("server.unknown_key")) continue;
      if (setting == nullptr) return unknown(assignment);
      PYRALOG_TRY(assign(loaded.options, *setting, assignment.value, assignment.origin));
      loaded.origins[assignment.key] = assignment.origin;
      if (setting->cluster_wide) {
        loaded.options.cluster_defaults[assignment.key] = value_of(loaded.options, *setting);
      }
    }
  }
  PYRALOG_TRY(check_together(loaded));
  return loaded;
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (!text.starts_with("PYRALOG_") || equals == std::string_view::npos) continue;
    found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

Result<ListenPlan> plan_listeners(const ServerOptions& options) {
  ListenPlan plan;
  PYRALOG_ASSIGN(plan.kafka, address_of(options.kafka_listener, "listeners.kafka"));
  PYRALOG_ASSIGN(plan.http, address_of(options.http_listener, "listeners.http"));
  PYRALOG_ASSIGN(plan.advertise, address_of(options.advertise, "advertise"));
  PYRALOG_ASSIGN(plan.peer, address_of(options.peer_listener, "listeners.peer"));
  if (!plan.kafka && !plan.http) {
    plan.kafka = io::Address{"127.0.0.1", 9092};
    plan.http = io::Address{"127.0.0.1", 9094};
  }
  PYRALOG_TRY(plan_cluster(options, plan));
  struct Door {
    std::string_view name;
    const std::optional<io::Address>* address;
    std::string_view has;    // "neither encryption nor authentication"
    std::string_view lacks;  // the same, of what is open nonetheless
  };
  constexpr std::string_view kNothing = "neither encryption nor authentication";
  constexpr std::string_view kBoth = "encryption and authentication";
  const Door doors[] = {{"kafka", &plan.kafka, kNothing, kBoth},
                        {"http", &plan.http, kNothing, kBoth},
                        {"peer", &plan.peer, "no encryption", "encryption"}};
  for (const Door& door : doors) {
    const auto& address = *door.address;
    if (!address || io::is_loopback(*address)) continue;
    const std::string what = "listener " + std::string(door.name) + " " + io::to_string(*address);
    if (!options.allow_insecure && !PYRALOG_PLANT("server.insecure_listener")) {
      return fail(Code::kInvalidArgument,
                  what + ": has " + std::string(door.has) +
                      " and is not on the loopback; "
                      "listen on 127.0.0.1, or give --allow-insecure if the network is trusted");
    }
    plan.warnings.push_back(what + " is open to its network without " + std::string(door.lacks));
  }
  if (plan.kafka && io::is_wildcard(*plan.kafka) && !plan.advertise &&
      !PYRALOG_PLANT("server.wildcard_told")) {
    return fail(Code::kInvalidArgument,
                "listener kafka " + io::to_string(*plan.kafka) +
                    ": is an address that no client can connect to; give --advertise HOST:PORT");
  }
  if (plan.advertise && io::is_wildcard(*plan.advertise)) {
    return fail(Code::kInvalidArgument, "advertise " + io::to_string(*plan.advertise) +
                                            ": no client can connect to it; name the host");
  }
  PYRALOG_TRY(check_told(options, plan));
  return plan;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
  std::string_view best;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const std::string_view candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return least <= std::max<std::size_t>(2, word.size() / 3) ? best : std::string_view();
}

}  // namespace pyralog::server
