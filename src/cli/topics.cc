#include <algorithm>

#include "base/json.h"
#include "cli/handlers.h"
#include "cli/partition_text.h"
#include "cli/with_client.h"
#include "client/admin.h"
#include "client/offsets.h"

namespace pyralog::cli {

namespace {

struct Ends {
  std::int64_t start = 0;
  std::int64_t end = 0;
};

io::Task<Result<std::map<std::int32_t, Ends>>> ends_of(client::Cluster& cluster,
                                                       client::TopicInfo info, Instant deadline) {
  std::map<client::TopicPartition, std::int64_t> earliest;
  std::map<client::TopicPartition, std::int64_t> latest;
  for (const auto& partition : info.partitions) {
    earliest[{info.name, partition.index}] = client::kEarliestTime;
    latest[{info.name, partition.index}] = client::kLatestTime;
  }
  PYRALOG_CO_ASSIGN(const auto starts,
                    co_await client::list_offsets(cluster, earliest, false, deadline));
  PYRALOG_CO_ASSIGN(const auto ends,
                    co_await client::list_offsets(cluster, latest, false, deadline));
  std::map<std::int32_t, Ends> found;
  for (const auto& [partition, at] : starts) found[partition.partition].start = at.offset;
  for (const auto& [partition, at] : ends) found[partition.partition].end = at.offset;
  co_return found;
}

std::string description_json(const client::TopicInfo& info,
                             const std::map<std::int32_t, Ends>& ends,
                             const std::vector<client::ConfigEntry>& config) {
  JsonWriter json;
  json.object()
      .field("topic", info.name)
      .field("id", to_string(info.id.uuid))
      .field("internal", info.internal)
      .key("partitions")
      .array();
  for (const auto& partition : info.partitions) {
    const Ends& at = ends.at(partition.index);
    json.object()
        .field("partition", partition.index)
        .field("leader", partition.leader)
        .field("leader_epoch", partition.leader_epoch);
    ids_json(json, "replicas", partition.replicas);
    ids_json(json, "in_sync", partition.in_sync);
    json.field("start", at.start).field("end", at.end).end();
  }
  json.end().key("config").object();
  for (const auto& entry : config) {
    json.key(entry.name);
    if (entry.value)
      json.value(*entry.value);
    else
      json.null();
  }
  return json.end().end().take() + "\n";
}

std::string description_text(const client::TopicInfo& info,
                             const std::map<std::int32_t, Ends>& ends,
                             const std::vector<client::ConfigEntry>& config) {
  std::string out = "topic " + info.name + "  id " + to_string(info.id.uuid) + "\n";
  for (const auto& partition : info.partitions) {
    const Ends& at = ends.at(partition.index);
    out += "  partition " + std::to_string(partition.index) + "  leader " +
           std::to_string(partition.leader) + "  epoch " + std::to_string(partition.leader_epoch) +
           "  replicas " + joined(partition.replicas) + "  in sync " + joined(partition.in_sync) +
           "  offsets " + std::to_string(at.start) + " to " + std::to_string(at.end) + "\n";
  }
  for (const auto& entry : config) {
    out += "  " + entry.name + " = " + entry.value.value_or("") +
           (entry.is_default ? "  (default)" : "") + "\n";
  }
  return out;
}

void say(const Args& args, Console& console, std::string_view what, std::string_view name) {
  if (args.flag("json")) {
    JsonWriter json;
    print(console.out, json.object().field("topic", name).field("done", what).end().text() + "\n");
  } else {
    print(console.out, std::string(what) + " topic " + std::string(name) + "\n");
  }
}

}  // namespace

Outcome topic_create(const Args& args, Console& console) {
  client::NewTopic topic;
  topic.name = args.text("NAME");
  const auto partitions = args.number("partitions", -1, 1, 1'000'000);
  if (!partitions) return usage(partitions.error().message);
  const auto replicas = args.number("replication-factor", -1, -1, 32'767);
  if (!replicas) return usage(replicas.error().message);
  auto config = args.pairs("config");
  if (!config) return usage(config.error().message);
  topic.partitions = static_cast<std::int32_t>(*partitions);
  topic.replication_factor = static_cast<std::int16_t>(*replicas);
  topic.config = std::move(*config);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        const auto created = co_await client::Admin(cluster).create_topic(topic, deadline);
        if (!created && created.error().code == Code::kAlreadyExists &&
            args.flag("if-not-exists")) {
          say(args, console, "found", topic.name);
          co_return Result<void>();
        }
        PYRALOG_CO_TRY(created);
        say(args, console, "created", topic.name);
        co_return Result<void>();
      });
}

Outcome topic_list(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(auto topics, co_await cluster.all_topics(deadline));
        std::erase_if(topics,
                      [&](const auto& topic) { return topic.internal && !args.flag("internal"); });
        std::ranges::sort(topics, {}, &client::TopicInfo::name);
        JsonWriter json;
        json.array();
        for (const auto& topic : topics) {
          const std::size_t replicas =
              topic.partitions.empty() ? 0 : topic.partitions.front().replicas.size();
          if (args.flag("json")) {
            json.object()
                .field("topic", topic.name)
                .field("partitions", topic.partitions.size())
                .field("replication_factor", replicas)
                .field("internal", topic.internal)
                .end();
          } else {
            print(console.out, topic.name + "  partitions " +
                                   std::to_string(topic.partitions.size()) + "  replicas " +
                                   std::to_string(replicas) + "\n");
          }
        }
        if (args.flag("json")) print(console.out, json.end().text() + "\n");
        co_return Result<void>();
      });
}

Outcome topic_describe(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto info,
                          co_await cluster.topic(args.text("NAME"), false, deadline));
        PYRALOG_CO_ASSIGN(const auto ends, co_await ends_of(cluster, info, deadline));
        PYRALOG_CO_ASSIGN(auto config,
                          co_await client::Admin(cluster).topic_config(info.name, deadline));
        if (!args.flag("all")) {
          std::erase_if(config, [](const client::ConfigEntry& entry) { return entry.is_default; });
        }
        print(console.out, args.flag("json") ? description_json(info, ends, config)
                                             : description_text(info, ends, config));
        co_return Result<void>();
      });
}

namespace {

/// A server takes it for granted that what it does not know is not set; who mistypes wants to hear it.
io::Task<Result<void>> check_names(client::Admin& admin, std::string topic,
                                   std::vector<std::string> names, Instant deadline) {
  if (names.empty()) co_return Result<void>();
  PYRALOG_CO_ASSIGN(const auto known, co_await admin.topic_config(topic, deadline));
  for (const auto& name : names) {
    if (std::ranges::none_of(known, [&](const auto& each) { return each.name == name; })) {
      co_return fail(Code::kInvalidArgument, "setting " + name + ": topics have none of this name; "
                                             "see pyralog topic describe " + topic + " --json");
    }
  }
  co_return Result<void>();
}

}  // namespace

Outcome topic_alter(const Args& args, Console& console) {
  const auto partitions = args.number("partitions", 0, 1, 1'000'000);
  if (!partitions) return usage(partitions.error().message);
  const auto config = args.pairs("config");
  if (!config) return usage(config.error().message);
  std::vector<std::pair<std::string, std::optional<std::string>>> changes;
  for (const auto& [key, value] : *config) changes.emplace_back(key, value);
  for (const auto& key : args.list("delete-config")) changes.emplace_back(key, std::nullopt);
  if (changes.empty() && *partitions == 0) {
    return usage("topic alter: nothing to change; give --config, --delete-config or --partitions");
  }
  const std::string name = args.text("NAME");
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        client::Admin admin(cluster);
        PYRALOG_CO_TRY(co_await check_names(admin, name, args.list("delete-config"), deadline));
        if (!changes.empty()) {
          PYRALOG_CO_TRY(co_await admin.alter_topic_config(name, changes, deadline));
        }
        if (*partitions > 0) {
          PYRALOG_CO_TRY(
              co_await admin.grow_topic(name, static_cast<std::int32_t>(*partitions), deadline));
        }
        say(args, console, "altered", name);
        co_return Result<void>();
      });
}

Outcome topic_delete(const Args& args, Console& console) {
  if (args.has("records-before")) return delete_records(args, console);
  if (args.has("partition")) {
    return usage(
        "topic delete: a partition is not deleted alone; --partition goes with "
        "--records-before");
  }
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        // One by one, so that what is said to be deleted is, whatever becomes of the others.
        Result<void> first;
        for (const auto& name : args.list("NAME")) {
          const auto deleted = co_await client::Admin(cluster).delete_topics({name}, deadline);
          if (deleted)
            say(args, console, "deleted", name);
          else if (first)
            first = deleted;
        }
        co_return first;
      });
}

}  // namespace pyralog::cli
