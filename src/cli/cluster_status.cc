#include "cli/cluster_status.h"

#include <nlohmann/json.hpp>

#include "cli/handlers.h"
#include "cli/http_get.h"

namespace pyralog::cli {

namespace {

using nlohmann::json;

std::string text_in(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}
bool is_true(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}
/// A number as text; "-" if there is none.
std::string number_in(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->dump() : "-";
}

json of_lone_node(const json& status) {
  const json id = status.value("node_id", json());
  return {{"id", status.value("cluster_id", json())},
          {"node_id", id},
          {"controller", id},
          {"reachable", 1},
          {"nodes", json::array({{{"node_id", id},
                                  {"kafka", status.value("kafka", json(""))},
                                  {"controller", true},
                                  {"reachable", true}}})}};
}

std::string lines_of(const json& cluster) {
  std::string out = "cluster " + text_in(cluster, "id") + "  controller " +
                    number_in(cluster, "controller") + "  term " + number_in(cluster, "term") +
                    "  committed " + number_in(cluster, "committed");
  if (cluster.contains("feature_level")) {
    out += "  feature level " + number_in(cluster, "feature_level");
  }
  out += "\n";
  if (const auto failed = text_in(cluster, "failed"); !failed.empty()) {
    out += "  node " + number_in(cluster, "node_id") + " takes no part any more: " + failed + "\n";
  }
  for (const json& node : cluster["nodes"]) {
    if (!node.is_object()) continue;
    out += "  node " + number_in(node, "node_id");
    for (const char* each : {"kafka", "peer", "rack"}) {
      if (const auto text = text_in(node, each); !text.empty()) {
        out += "  " + std::string(each) + " " + text;
      }
    }
    if (node.contains("feature_level")) out += "  level " + number_in(node, "feature_level");
    if (is_true(node, "controller")) out += "  controller";
    if (is_true(node, "reachable")) {
      out += "  reachable\n";
      continue;
    }
    const std::string why = text_in(node, "why");
    out += "  unreachable" + (why.empty() ? std::string() : ": " + why) + "\n";
  }
  return out;
}

}  // namespace

Result<std::string> cluster_status_text(std::string_view status, bool as_json) {
  const json all = json::parse(status, nullptr, false);
  if (!all.is_object()) return fail(Code::kCorrupt, "its answer is no status");
  json cluster = all.value("cluster", json());
  if (cluster.is_null() && all.contains("cluster_id")) cluster = of_lone_node(all);
  if (cluster.is_null()) {
    const std::string what = text_in(all, "waits_for");
    return fail(Code::kUnavailable, "it is starting" +
                                        (what.empty() ? "" : " and waits for " + what) +
                                        "; ask again later, or start the other nodes");
  }
  if (!cluster.is_object() || !cluster.value("nodes", json()).is_array()) {
    return fail(Code::kCorrupt, "its answer is no status");
  }
  if (!as_json) return lines_of(cluster);
  return cluster.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

Outcome cluster_status(const Args& args, Console& console) {
  const auto address = io::parse_address(args.text("http", "127.0.0.1:9094"));
  if (!address) return usage("option --http: " + address.error().message);
  auto status = http_get(*address, "/status", kMaxStatusBytes);
  if (!status) {
    status.error().message += "; is a server running there? Name its --http";
    return std::unexpected<Failure>(std::move(status.error()));
  }
  auto text = cluster_status_text(*status, args.flag("json"));
  if (!text) {
    return std::unexpected<Failure>(
        Error{text.error().code, io::to_string(*address) + ": " + text.error().message, 0});
  }
  print(console.out, *text);
  return {};
}

}  // namespace pyralog::cli
