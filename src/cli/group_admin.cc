// What changes groups: resetting and deleting their offsets, deleting them.
#include <set>

#include "base/json.h"
#include "base/plant.h"
#include "cli/handlers.h"
#include "cli/places.h"
#include "cli/with_client.h"
#include "client/admin.h"
#include "client/offsets.h"

namespace pyralog::cli {

namespace {

using client::TopicPartition;

std::string group_text(const std::string& group) {
  return "group \"" + group + "\"";
}

/// "orders-0", as the tables of `group describe` have it.
std::string short_name(const TopicPartition& partition) {
  return partition.topic + "-" + std::to_string(partition.partition);
}

struct ResetPlan {
  std::string group;
  ResetTarget target;
  std::vector<TopicPart> parts;  ///< empty = wherever the group has offsets
  bool execute = false;
};

Result<ResetPlan> plan_of(const Args& args) {
  ResetPlan plan;
  plan.group = args.text("GROUP");
  PYRALOG_ASSIGN(plan.target, parse_reset(args.text("to")));
  for (const std::string& text : args.list("topic")) {
    PYRALOG_ASSIGN(auto part, parse_topic_part(text));
    plan.parts.push_back(std::move(part));
  }
  if (plan.parts.empty() != args.flag("all-topics")) {
    return fail(Code::kInvalidArgument,
                "group reset: give --topic TOPIC[:PARTITION,…], or --all-topics for all that the "
                "group has offsets of");
  }
  plan.execute = args.flag("execute");
  if (plan.execute && args.flag("dry-run")) {
    return fail(Code::kInvalidArgument,
                "group reset: --dry-run and --execute exclude each other; drop one");
  }
  return plan;
}

/// A group that does not exist has neither members nor offsets, and may be given some.
io::Task<Result<client::GroupDescription>> idle_group(client::Cluster& cluster, std::string name,
                                                      Instant deadline) {
  auto group = co_await client::Admin(cluster).describe_group(name, deadline);
  if (!group && group.error().code == Code::kNotFound) {
    client::GroupDescription none;
    none.group = name;
    none.state = "Dead";
    co_return none;
  }
  PYRALOG_CO_TRY(group);
  if (group->state != "Empty" && group->state != "Dead") {
    co_return fail(Code::kAlreadyExists, group_text(name) + ": is " + group->state + " with " +
                                             std::to_string(group->members.size()) +
                                             " members; stop them, then reset its offsets");
  }
  co_return group;
}

io::Task<Result<std::set<TopicPartition>>> partitions_of(client::Cluster& cluster,
                                                         const ResetPlan& plan,
                                                         const client::Offsets& committed,
                                                         Instant deadline) {
  std::set<TopicPartition> found;
  if (plan.parts.empty()) {
    for (const auto& [partition, offset] : committed) found.insert(partition);
    if (found.empty()) {
      co_return fail(Code::kNotFound, group_text(plan.group) +
                                          ": has no committed offsets; name topics with --topic");
    }
    co_return found;
  }
  for (const TopicPart& part : plan.parts) {
    PYRALOG_CO_ASSIGN(const auto info, co_await cluster.topic(part.topic, false, deadline));
    std::set<std::int32_t> there;
    for (const auto& each : info.partitions) there.insert(each.index);
    for (const std::int32_t index : part.partitions) {
      if (!there.contains(index)) {
        co_return fail(Code::kNotFound,
                       "topic \"" + part.topic + "\": has no partition " + std::to_string(index));
      }
      found.insert({part.topic, index});
    }
    if (!part.partitions.empty()) continue;
    for (const std::int32_t index : there) found.insert({part.topic, index});
  }
  co_return found;
}

struct Move {
  ResetFrom from;
  ResetTo to;
};
using Moves = std::map<TopicPartition, Move>;

io::Task<Result<Moves>> moves_of(client::Cluster& cluster, const ResetPlan& plan,
                                 const client::Offsets& committed,
                                 std::set<TopicPartition> partitions, Instant deadline) {
  const auto ask = [&](std::int64_t time) {
    std::map<TopicPartition, std::int64_t> times;
    for (const auto& partition : partitions) times[partition] = time;
    return client::list_offsets(cluster, std::move(times), false, deadline);
  };
  PYRALOG_CO_ASSIGN(const auto starts, co_await ask(client::kEarliestTime));
  PYRALOG_CO_ASSIGN(const auto ends, co_await ask(client::kLatestTime));
  std::map<TopicPartition, client::OffsetAtTime> at_time;
  if (plan.target.kind == ResetTarget::Kind::kTime) {
    PYRALOG_CO_ASSIGN(at_time, co_await ask(plan.target.number));
  }
  Moves moves;
  for (const auto& partition : partitions) {
    Move move;
    if (const auto has = committed.find(partition); has != committed.end()) {
      move.from.committed = has->second;
    }
    move.from.start = starts.at(partition).offset;
    move.from.end = ends.at(partition).offset;
    if (const auto at = at_time.find(partition); at != at_time.end()) {
      move.from.at_time = at->second.offset;
    }
    const auto to = reset_to(plan.target, move.from);
    if (!to) {
      co_return fail(Code::kNotFound, group_text(plan.group) + ": " + to_string(partition) +
                                          " has no committed offset to shift; reset it to another "
                                          "place");
    }
    move.to = *to;
    moves[partition] = move;
  }
  co_return moves;
}

std::string moves_json(const ResetPlan& plan, const Moves& moves) {
  JsonWriter json;
  json.object().field("group", plan.group).field("executed", plan.execute).key("offsets").array();
  for (const auto& [partition, move] : moves) {
    json.object().field("topic", partition.topic).field("partition", partition.partition);
    json.key("offset");
    if (move.from.committed) {
      json.value(*move.from.committed);
    } else {
      json.null();
    }
    json.field("new_offset", move.to.offset)
        .field("start", move.from.start)
        .field("end", move.from.end)
        .field("nearest", move.to.moved)
        .end();
  }
  return json.end().end().take() + "\n";
}

std::string moves_text(const ResetPlan& plan, const Moves& moves) {
  std::string out = "group " + plan.group +
                    (plan.execute ? ": offsets are reset\n"
                                  : ": this is the plan; nothing changes without --execute\n");
  for (const auto& [partition, move] : moves) {
    out += "  " + short_name(partition) + "  offset " +
           (move.from.committed ? std::to_string(*move.from.committed) : "-") + "  new " +
           std::to_string(move.to.offset) + "  of " + std::to_string(move.from.start) + " to " +
           std::to_string(move.from.end) +
           (move.to.moved ? "  (the nearest that there is)\n" : "\n");
  }
  return out;
}

}  // namespace

Outcome group_reset(const Args& args, Console& console) {
  const auto plan = plan_of(args);
  if (!plan) return usage(plan.error().message);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto group, co_await idle_group(cluster, plan->group, deadline));
        PYRALOG_CO_ASSIGN(auto partitions,
                          co_await partitions_of(cluster, *plan, group.offsets, deadline));
        PYRALOG_CO_ASSIGN(const auto moves, co_await moves_of(cluster, *plan, group.offsets,
                                                              std::move(partitions), deadline));
        if (plan->execute || PYRALOG_PLANT("cli.reset_at_once")) {
          client::Offsets offsets;
          for (const auto& [partition, move] : moves) offsets[partition] = move.to.offset;
          PYRALOG_CO_TRY(co_await client::Admin(cluster).commit_offsets(
              plan->group, std::move(offsets), deadline));
        }
        print(console.out, args.flag("json") ? moves_json(*plan, moves) : moves_text(*plan, moves));
        co_return Result<void>();
      });
}

Outcome group_delete(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        // One by one, so that what is said to be deleted is, whatever becomes of the others.
        Result<void> first;
        for (const auto& name : args.list("GROUP")) {
          const auto deleted = co_await client::Admin(cluster).delete_group(name, deadline);
          if (!deleted) {
            if (first) first = deleted;
          } else if (args.flag("json")) {
            JsonWriter json;
            print(console.out,
                  json.object().field("group", name).field("done", "deleted").end().text() + "\n");
          } else {
            print(console.out, "deleted group " + name + "\n");
          }
        }
        co_return first;
      });
}

namespace {

/// The offsets of `group` that `parts` name; kNotFound if one names none.
Result<client::Offsets> offsets_in(const client::GroupDescription& group,
                                   const std::vector<TopicPart>& parts) {
  client::Offsets found;
  for (const TopicPart& part : parts) {
    std::set<std::int32_t> missing(part.partitions.begin(), part.partitions.end());
    bool any = false;
    for (const auto& [partition, offset] : group.offsets) {
      if (partition.topic != part.topic) continue;
      if (!part.partitions.empty() && missing.erase(partition.partition) == 0) continue;
      found[partition] = offset;
      any = true;
    }
    if (any && missing.empty()) continue;
    const std::string what = missing.empty()
                                 ? "topic \"" + part.topic + "\""
                                 : to_string(TopicPartition{part.topic, *missing.begin()});
    return fail(Code::kNotFound, group_text(group.group) + ": has no committed offset of " + what +
                                     "; `pyralog group describe " + group.group +
                                     "` shows those that it has");
  }
  return found;
}

}  // namespace

Outcome group_delete_offsets(const Args& args, Console& console) {
  std::vector<TopicPart> parts;
  for (const std::string& text : args.list("topic")) {
    auto part = parse_topic_part(text);
    if (!part) return usage(part.error().message);
    parts.push_back(std::move(*part));
  }
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        client::Admin admin(cluster);
        PYRALOG_CO_ASSIGN(const auto group,
                          co_await admin.describe_group(args.text("GROUP"), deadline));
        PYRALOG_CO_ASSIGN(const auto offsets, offsets_in(group, parts));
        std::set<TopicPartition> partitions;
        for (const auto& [partition, offset] : offsets) partitions.insert(partition);
        PYRALOG_CO_TRY(co_await admin.delete_offsets(group.group, std::move(partitions), deadline));
        JsonWriter json;
        json.object().field("group", group.group).field("done", "deleted offsets");
        json.key("offsets").array();
        std::string out = "group " + group.group + ": offsets are deleted\n";
        for (const auto& [partition, offset] : offsets) {
          json.object()
              .field("topic", partition.topic)
              .field("partition", partition.partition)
              .field("offset", offset)
              .end();
          out += "  " + short_name(partition) + "  offset " + std::to_string(offset) + "\n";
        }
        print(console.out, args.flag("json") ? json.end().end().text() + "\n" : out);
        co_return Result<void>();
      });
}

}  // namespace pyralog::cli
