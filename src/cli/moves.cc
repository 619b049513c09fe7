// Where replicas are: partitions get others, nodes are drained.
#include "cli/moves.h"

#include <algorithm>
#include <limits>

#include "cli/handlers.h"
#include "cli/move_text.h"
#include "cli/with_client.h"
#include "client/admin.h"

namespace pyralog::cli {

namespace {

using client::Admin;
using client::TopicPartition;
using Nodes = std::vector<std::int32_t>;

constexpr Duration kOneQuestion = std::chrono::seconds(30);
constexpr Duration kLookEvery = std::chrono::milliseconds(200);
/// What looks at every partition, there.
constexpr Duration kLookAtDrainEvery = std::chrono::milliseconds(500);
constexpr Duration kSayEvery = std::chrono::seconds(1);
/// A server that has just come back may know less than the one that took the change.
constexpr int kLooksToBeSure = 5;

/// Says on standard error how far it is, once that takes longer, and when it has changed.
class Progress {
 public:
  Progress(const Args& args, Console& console) : console_(console), silent_(args.flag("json")) {}
  void say(const std::string& text) {
    const Instant now = io::Shard::current().now();
    if (silent_ || now < next_ || text == said_) return;
    next_ = now + kSayEvery;
    said_ = text;
    print(console_.err, text);
  }

 private:
  Console& console_;
  bool silent_;
  Instant next_ = io::Shard::current().now() + kSayEvery;
  std::string said_;
};

Instant question_end(Instant deadline) {
  return std::min(deadline, io::Shard::current().now() + kOneQuestion);
}

/// The replicas that are assigned; kNotFound.
io::Task<Result<Nodes>> assigned(client::Cluster& cluster, TopicPartition partition,
                                 Instant deadline) {
  cluster.forget_topic(partition.topic);
  PYRALOG_CO_ASSIGN(const auto topic,
                    co_await cluster.topic(partition.topic, false, question_end(deadline)));
  const auto at =
      std::ranges::find(topic.partitions, partition.partition, &client::PartitionInfo::index);
  if (at != topic.partitions.end()) co_return at->replicas;
  co_return fail(Code::kNotFound,
                 to_string(partition) + ": there is no such partition; check the number");
}

/// Waits until nothing is under way for the partition; `wanted` nullopt: wherever it then is.
/// Returns where.
io::Task<Result<Nodes>> wait_moved(client::Cluster& cluster, TopicPartition partition,
                                   std::optional<Nodes> wanted, Progress progress,
                                   Instant deadline) {
  for (int others = 0;;) {
    PYRALOG_CO_ASSIGN(const auto moves,
                      co_await Admin(cluster).reassignments(question_end(deadline)));
    const auto move = moves.find(partition);
    if (move == moves.end()) {
      PYRALOG_CO_ASSIGN(Nodes now, co_await assigned(cluster, partition, deadline));
      if (!wanted || now == *wanted) co_return now;
      if (++others == kLooksToBeSure) {
        co_return fail(Code::kFenced, to_string(partition) +
                                          ": somebody has moved it elsewhere meanwhile; look at "
                                          "pyralog partition list");
      }
    } else {
      others = 0;
      progress.say("still moving: " + moves_text({*move}, false));
    }
    if (io::Shard::current().now() + kLookEvery >= deadline) {
      co_return fail(Code::kTimedOut, to_string(partition) +
                                          ": not all of its replicas are there yet, and it goes "
                                          "on; look at pyralog partition list --moving");
    }
    co_await io::sleep_for(kLookEvery);
  }
}

}  // namespace

Outcome move_replicas(const Args& args, Console& console, TopicPartition partition) {
  std::optional<Nodes> wanted;
  if (args.has("to")) {
    auto nodes = parse_nodes(args.text("to"));
    if (!nodes) return usage("partition move: --to " + nodes.error().message);
    wanted = std::move(*nodes);
  }
  const bool wait = args.flag("wait");
  return with_client(
      args,
      [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        const bool as_json = args.flag("json");
        PYRALOG_CO_TRY(co_await Admin(cluster).reassign(partition, wanted, question_end(deadline)));
        Nodes where;
        if (wait) {
          PYRALOG_CO_ASSIGN(where, co_await wait_moved(cluster, partition, wanted,
                                                       Progress(args, console), deadline));
        } else if (wanted) {
          where = *wanted;
        } else {
          PYRALOG_CO_ASSIGN(where, co_await assigned(cluster, partition, deadline));
        }
        const char* state = !wanted ? "cancelled" : wait ? "moved" : "moving";
        print(console.out, move_text(partition, where, state, as_json));
        co_return Result<void>();
      },
      wait ? kNoHurry : kInAMoment);
}

Outcome partition_list_moving(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(auto moves, co_await Admin(cluster).reassignments(deadline));
        if (args.has("TOPIC")) {
          const std::string only = args.text("TOPIC");
          PYRALOG_CO_TRY(co_await cluster.topic(only, false, deadline));
          std::erase_if(moves, [&](const auto& each) { return each.first.topic != only; });
        }
        if (moves.empty() && !args.flag("json")) {
          print(console.out, "no replicas are being moved\n");
        } else {
          print(console.out, moves_text(moves, args.flag("json")));
        }
        co_return Result<void>();
      });
}

Outcome cluster_drain(const Args& args, Console& console) {
  const auto number = args.number("NODE", 0, 0, std::numeric_limits<std::int32_t>::max());
  if (!number) {
    return usage("cluster drain: \"" + args.text("NODE") +
                 "\" is no node's id; give one such as 3");
  }
  const auto node = static_cast<std::int32_t>(*number);
  const bool cancel = args.flag("cancel");
  const bool only_ask = args.flag("status");
  const bool wait = args.flag("wait");
  if (cancel && (only_ask || wait)) {
    return usage("cluster drain: --cancel stands alone; leave out --wait and --status");
  }
  auto change = cancel ? client::DrainChange::kDrainNoLonger : client::DrainChange::kDrain;
  if (only_ask) change = client::DrainChange::kNone;
  return with_client(
      args,
      [&, change](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        Admin admin(cluster);
        PYRALOG_CO_ASSIGN(client::Drain drain,
                          co_await admin.drain_node(node, change, question_end(deadline)));
        Progress progress(args, console);
        const auto given_up = [&] { return !drain.draining && !only_ask; };
        for (int undone = 0; wait && (!drain.done() || given_up());) {
          PYRALOG_CO_TRY(check_not_stuck(node, drain));
          undone = given_up() ? undone + 1 : 0;
          if (undone == kLooksToBeSure) {
            co_return fail(Code::kFenced, "node " + std::to_string(node) +
                                              ": somebody has taken the drain back; ask again "
                                              "with pyralog cluster drain");
          }
          progress.say(drain_text(node, drain, false));
          if (io::Shard::current().now() + kLookAtDrainEvery >= deadline) {
            co_return fail(Code::kTimedOut, "node " + std::to_string(node) +
                                                ": it is not drained yet, and that goes on; look "
                                                "at pyralog cluster drain --status");
          }
          co_await io::sleep_for(kLookAtDrainEvery);
          PYRALOG_CO_ASSIGN(drain, co_await admin.drain_node(node, client::DrainChange::kNone,
                                                             question_end(deadline)));
        }
        print(console.out, drain_text(node, drain, args.flag("json")));
        co_return Result<void>();
      },
      wait ? kNoHurry : kInAMoment);
}

}  // namespace pyralog::cli
