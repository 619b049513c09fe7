#include "cli/partition_text.h"

namespace pyralog::cli {

namespace {

/// Whom the assignment prefers; −1 if a server says nothing of it.
std::int32_t preferred(const client::PartitionInfo& partition) {
  return partition.replicas.empty() ? -1 : partition.replicas.front();
}

void add_json(JsonWriter& json, const std::string& topic, const client::PartitionInfo& partition) {
  json.object().field("topic", topic).field("partition", partition.index).key("leader");
  if (partition.leader < 0)
    json.null();
  else
    json.value(partition.leader);
  json.field("leader_epoch", partition.leader_epoch).field("preferred", preferred(partition));
  ids_json(json, "replicas", partition.replicas);
  ids_json(json, "in_sync", partition.in_sync);
  ids_json(json, "offline", partition.offline);
  json.end();
}

std::string line_of(const std::string& topic, const client::PartitionInfo& partition) {
  std::string out = topic + "  partition " + std::to_string(partition.index) + "  leader " +
                    (partition.leader < 0 ? "none" : std::to_string(partition.leader)) +
                    "  epoch " + std::to_string(partition.leader_epoch) + "  replicas " +
                    joined(partition.replicas) + "  in sync " +
                    (partition.in_sync.empty() ? "none" : joined(partition.in_sync));
  if (!partition.offline.empty()) out += "  offline " + joined(partition.offline);
  if (partition.leader >= 0 && partition.leader != preferred(partition)) {
    out += "  prefers " + std::to_string(preferred(partition));
  }
  return out + "\n";
}

std::string_view word_of(client::Election election) {
  switch (election) {
    case client::Election::kMoved:
      return "moved";
    case client::Election::kNotNeeded:
      return "not needed";
  }
  return "";
}

}  // namespace

std::string joined(const std::vector<std::int32_t>& ids) {
  std::string out;
  for (const std::int32_t id : ids) out += (out.empty() ? "" : ",") + std::to_string(id);
  return out;
}

void ids_json(JsonWriter& json, std::string_view key, const std::vector<std::int32_t>& ids) {
  json.key(key).array();
  for (const std::int32_t id : ids) json.value(id);
  json.end();
}

std::string partitions_text(const std::vector<client::TopicInfo>& topics, bool as_json) {
  JsonWriter json;
  json.array();
  std::string lines;
  for (const auto& topic : topics) {
    for (const auto& partition : topic.partitions) {
      if (as_json)
        add_json(json, topic.name, partition);
      else
        lines += line_of(topic.name, partition);
    }
  }
  return as_json ? json.end().take() + "\n" : lines;
}

std::string elections_text(const client::Elections& elections, bool as_json) {
  JsonWriter json;
  json.array();
  std::string lines;
  for (const auto& [partition, election] : elections) {
    if (as_json) {
      json.object().field("topic", partition.topic).field("partition", partition.partition);
      if (election)
        json.field("leader", word_of(*election));
      else
        json.field("leader", "failed").field("error", election.error().message);
      json.end();
    } else if (election) {
      lines += to_string(partition) + (*election == client::Election::kMoved
                                           ? ": led by its preferred replica now\n"
                                           : ": led by its preferred replica already\n");
    }
  }
  return as_json ? json.end().take() + "\n" : lines;
}

Result<void> failures_of(const client::Elections& elections) {
  std::size_t failures = 0;
  const Error* first = nullptr;
  for (const auto& [partition, election] : elections) {
    if (election) continue;
    ++failures;
    if (first == nullptr) first = &election.error();
  }
  if (first == nullptr) return {};
  Error all = *first;
  if (failures > 1) all.message += "; and " + std::to_string(failures - 1) + " more, see --json";
  return fail(std::move(all));
}

}  // namespace pyralog::cli
