// `topic delete --records-before`: the topic stays, its older records go.
#include <algorithm>

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

struct DeletePlan {
  std::string topic;
  StartPoint before;
  std::optional<std::int32_t> partition;  ///< nullopt = all
};

Result<DeletePlan> plan_of(const Args& args) {
  DeletePlan plan;
  const auto names = args.list("NAME");
  if (names.size() != 1) {
    return fail(Code::kInvalidArgument,
                "topic delete: --records-before takes one topic at a time; name one");
  }
  plan.topic = names.front();
  PYRALOG_ASSIGN(plan.before, parse_start("records-before", args.text("records-before")));
  if (plan.before.kind == StartPoint::Kind::kBeginning) {
    return fail(Code::kInvalidArgument,
                "option --records-before: there is nothing before the beginning; give end, an "
                "offset, @MS or 2026-01-31T12:00:00Z");
  }
  if (args.has("partition")) {
    PYRALOG_ASSIGN(const auto partition, args.number("partition", 0, 0, 1'000'000));
    plan.partition = static_cast<std::int32_t>(partition);
  }
  return plan;
}

/// Where each partition begins and ends, and the offset before which its records go.
struct Cut {
  std::int64_t start = 0;
  std::int64_t end = 0;
  std::int64_t before = 0;
};
using Cuts = std::map<TopicPartition, Cut>;

io::Task<Result<Cuts>> cuts_of(client::Cluster& cluster, const DeletePlan& plan, Instant deadline) {
  PYRALOG_CO_ASSIGN(const auto info, co_await cluster.topic(plan.topic, false, deadline));
  Cuts cuts;
  for (const auto& each : info.partitions) {
    if (!plan.partition || *plan.partition == each.index) cuts[{plan.topic, each.index}] = {};
  }
  if (cuts.empty()) {
    co_return fail(Code::kNotFound, "topic \"" + plan.topic + "\": has no partition " +
                                        std::to_string(plan.partition.value_or(0)));
  }
  const auto ask = [&](std::int64_t time) {
    std::map<TopicPartition, std::int64_t> times;
    for (const auto& [partition, cut] : cuts) times[partition] = time;
    return client::list_offsets(cluster, std::move(times), false, deadline);
  };
  PYRALOG_CO_ASSIGN(const auto starts, co_await ask(client::kEarliestTime));
  PYRALOG_CO_ASSIGN(const auto ends, co_await ask(client::kLatestTime));
  std::map<TopicPartition, client::OffsetAtTime> at_time;
  if (plan.before.kind == StartPoint::Kind::kTime) {
    PYRALOG_CO_ASSIGN(at_time, co_await ask(plan.before.number));
  }
  for (auto& [partition, cut] : cuts) {
    cut.start = starts.at(partition).offset;
    cut.end = ends.at(partition).offset;
    if (plan.before.kind == StartPoint::Kind::kOffset) {
      cut.before = plan.before.number;
      if (cut.before > cut.end) {
        co_return fail(Code::kOutOfRange,
                       to_string(partition) + ": ends at " + std::to_string(cut.end) + ", before " +
                           std::to_string(cut.before) + "; give at most that, or --partition");
      }
      continue;
    }
    // The end as it was before the time was asked for: what has come since is not as old.
    cut.before = cut.end;
    const auto at = at_time.find(partition);
    if (at != at_time.end() && at->second.offset >= 0) cut.before = at->second.offset;
    if (PYRALOG_PLANT("cli.delete_to_end")) cut.before = cut.end;
  }
  co_return cuts;
}

void report(const Args& args, Console& console, const std::string& topic, const Cuts& cuts,
            const client::Offsets& starts) {
  JsonWriter json;
  json.object().field("topic", topic).field("done", "deleted records").key("partitions").array();
  std::string out = "deleted records of topic " + topic + "\n";
  for (const auto& [partition, cut] : cuts) {
    const auto now = starts.find(partition);
    const std::int64_t start = now == starts.end() ? cut.start : now->second;
    const std::int64_t deleted = std::max<std::int64_t>(start - cut.start, 0);
    json.object()
        .field("partition", partition.partition)
        .field("deleted", deleted)
        .field("start", start)
        .field("end", std::max(cut.end, start))
        .end();
    out += "  " + topic + "-" + std::to_string(partition.partition) + "  deleted " +
           std::to_string(deleted) + "  offsets " + std::to_string(start) + " to " +
           std::to_string(std::max(cut.end, start)) + "\n";
  }
  print(console.out, args.flag("json") ? json.end().end().text() + "\n" : out);
}

}  // namespace

Outcome delete_records(const Args& args, Console& console) {
  const auto plan = plan_of(args);
  if (!plan) return usage(plan.error().message);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto cuts, co_await cuts_of(cluster, *plan, deadline));
        client::Offsets before;
        for (const auto& [partition, cut] : cuts) before[partition] = cut.before;
        PYRALOG_CO_ASSIGN(const auto starts, co_await client::Admin(cluster).delete_records(
                                                 std::move(before), deadline));
        report(args, console, plan->topic, cuts, starts);
        co_return Result<void>();
      });
}

}  // namespace pyralog::cli
