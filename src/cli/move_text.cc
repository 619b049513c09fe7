#include "cli/move_text.h"

#include <charconv>

#include "base/json.h"
#include "cli/partition_text.h"

namespace pyralog::cli {

namespace {

std::string partitions(std::int32_t count) {
  return std::to_string(count) + (count == 1 ? " partition" : " partitions");
}

std::string drain_json(std::int32_t node, const client::Drain& drain) {
  JsonWriter json;
  json.object().field("node", node).field("draining", drain.draining).field("done", drain.done());
  json.field("leading", drain.leading).field("under_way", drain.under_way);
  json.field("waiting", drain.waiting).field("stuck", drain.stuck).key("examples").array();
  for (const auto& each : drain.examples) {
    json.object().field("topic", each.partition.topic);
    json.field("partition", each.partition.partition).field("reason", each.reason).end();
  }
  return json.end().end().take() + "\n";
}

}  // namespace

Result<std::vector<std::int32_t>> parse_nodes(std::string_view text) {
  std::vector<std::int32_t> nodes;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    std::int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    const bool more = next != end;
    if (error != std::errc() || id < 0 || (more && *next != ',')) {
      return fail(Code::kInvalidArgument,
                  "\"" + std::string(text) + "\" is no list of nodes; give ids such as 1,2,3");
    }
    nodes.push_back(id);
    if (!more) return nodes;
    at = next + 1;
  }
}

std::string moves_text(const client::Reassignments& moves, bool as_json) {
  JsonWriter json;
  json.array();
  std::string lines;
  for (const auto& [partition, move] : moves) {
    if (as_json) {
      json.object().field("topic", partition.topic).field("partition", partition.partition);
      ids_json(json, "replicas", move.replicas);
      ids_json(json, "adding", move.adding);
      ids_json(json, "removing", move.removing);
      json.end();
      continue;
    }
    lines += partition.topic + "  partition " + std::to_string(partition.partition) +
             "  replicas " + joined(move.replicas);
    if (!move.adding.empty()) lines += "  adding " + joined(move.adding);
    if (!move.removing.empty()) lines += "  removing " + joined(move.removing);
    lines += "\n";
  }
  return as_json ? json.end().take() + "\n" : lines;
}

std::string move_text(const client::TopicPartition& partition,
                      const std::vector<std::int32_t>& replicas, std::string_view state,
                      bool as_json) {
  if (as_json) {
    JsonWriter json;
    json.array().object().field("topic", partition.topic).field("partition", partition.partition);
    ids_json(json, "replicas", replicas);
    return json.field("state", state).end().end().take() + "\n";
  }
  const std::string name = to_string(partition) + ": ";
  if (state == "moved") return name + "on " + joined(replicas) + " now\n";
  if (state == "cancelled")
    return name + "its move is cancelled; it stays on " + joined(replicas) + "\n";
  return name + "on its way to " + joined(replicas) + "; pyralog partition list --moving\n";
}

std::string drain_text(std::int32_t node, const client::Drain& drain, bool as_json) {
  if (as_json) return drain_json(node, drain);
  const std::string name = "node " + std::to_string(node) + ": ";
  if (!drain.draining && drain.done()) return name + "not draining; it holds nothing\n";
  if (drain.done()) return name + "drained; it leads and holds nothing\n";
  std::string out = name + (drain.draining ? "draining" : "not draining") + "; leads " +
                    partitions(drain.leading) + ", " + std::to_string(drain.under_way) +
                    " leaving it, " + std::to_string(drain.waiting) + " to leave, " +
                    std::to_string(drain.stuck) + " stuck\n";
  for (const auto& each : drain.examples) out += "  " + each.reason + "\n";
  return out;
}

Result<void> check_not_stuck(std::int32_t node, const client::Drain& drain) {
  if (drain.stuck == 0 || drain.under_way > 0 || drain.waiting > 0) return {};
  std::string why = "node " + std::to_string(node) + ": " + partitions(drain.stuck) +
                    " cannot leave it; add a node, or give their topics fewer replicas";
  if (!drain.examples.empty())
    why = "node " + std::to_string(node) + ": " + partitions(drain.stuck) +
          " cannot leave it, such as " + drain.examples.front().reason;
  return fail(Code::kUnavailable, std::move(why));
}

}  // namespace pyralog::cli
