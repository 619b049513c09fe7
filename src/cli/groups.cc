#include "base/json.h"
#include "cli/handlers.h"
#include "cli/with_client.h"
#include "client/admin.h"
#include "client/offsets.h"

namespace pyralog::cli {

namespace {

using Ends = std::map<client::TopicPartition, client::OffsetAtTime>;

std::string to_json(const client::GroupDescription& group, const Ends& ends) {
  JsonWriter json;
  json.object()
      .field("group", group.group)
      .field("state", group.state)
      .field("protocol", group.protocol)
      .key("members")
      .array();
  for (const auto& member : group.members) {
    json.object().field("member", member.member_id);
    if (member.instance_id) json.field("instance", *member.instance_id);
    json.field("client", member.client_id).field("host", member.host).key("partitions").array();
    for (const auto& each : member.assigned) {
      json.object().field("topic", each.topic).field("partition", each.partition).end();
    }
    json.end().end();
  }
  json.end().key("offsets").array();
  for (const auto& [partition, offset] : group.offsets) {
    json.object()
        .field("topic", partition.topic)
        .field("partition", partition.partition)
        .field("offset", offset);
    if (const auto end = ends.find(partition); end != ends.end()) {
      json.field("end", end->second.offset).field("lag", end->second.offset - offset);
    }
    json.end();
  }
  return json.end().end().take() + "\n";
}

std::string to_text(const client::GroupDescription& group, const Ends& ends) {
  std::string out = "group " + group.group + "  state " + group.state + "  assignor " +
                    (group.protocol.empty() ? "-" : group.protocol) + "\n";
  for (const auto& member : group.members) {
    out += "  member " + member.member_id + "  client " + member.client_id + "  host " +
           member.host + "  holds";
    for (const auto& each : member.assigned) {
      out += " " + each.topic + "-" + std::to_string(each.partition);
    }
    out += "\n";
  }
  for (const auto& [partition, offset] : group.offsets) {
    out += "  " + partition.topic + "-" + std::to_string(partition.partition) + "  offset " +
           std::to_string(offset);
    if (const auto end = ends.find(partition); end != ends.end()) {
      out += "  end " + std::to_string(end->second.offset) + "  lag " +
             std::to_string(end->second.offset - offset);
    }
    out += "\n";
  }
  return out;
}

}  // namespace

Outcome group_list(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto groups, co_await client::Admin(cluster).list_groups(deadline));
        JsonWriter json;
        json.array();
        for (const auto& group : groups) {
          if (args.flag("json")) {
            json.object()
                .field("group", group.group)
                .field("state", group.state)
                .field("type", group.protocol_type)
                .end();
          } else {
            print(console.out, group.group + "  " + group.state + "\n");
          }
        }
        if (args.flag("json")) print(console.out, json.end().text() + "\n");
        co_return Result<void>();
      });
}

Outcome group_describe(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto group, co_await client::Admin(cluster).describe_group(
                                                args.text("GROUP"), deadline));
        // A topic that is gone has no end; the others' lag is still worth telling.
        Ends ends;
        for (const auto& [partition, offset] : group.offsets) {
          const auto end = co_await client::list_offsets(
              cluster, {{partition, client::kLatestTime}}, false, deadline);
          if (end) ends.insert(end->begin(), end->end());
        }
        print(console.out, args.flag("json") ? to_json(group, ends) : to_text(group, ends));
        co_return Result<void>();
      });
}

}  // namespace pyralog::cli
