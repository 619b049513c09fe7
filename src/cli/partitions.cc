#include <algorithm>
#include <limits>

#include "cli/handlers.h"
#include "cli/moves.h"
#include "cli/partition_text.h"
#include "cli/with_client.h"
#include "client/admin.h"

namespace pyralog::cli {

namespace {

/// Says what became of each, then fails if one did.
Result<void> report(const Args& args, Console& console, const client::Elections& elections) {
  print(console.out, elections_text(elections, args.flag("json")));
  return failures_of(elections);
}

}  // namespace

Outcome partition_list(const Args& args, Console& console) {
  if (args.flag("moving")) return partition_list_moving(args, console);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        std::vector<client::TopicInfo> topics;
        if (args.has("TOPIC")) {
          PYRALOG_CO_ASSIGN(topics.emplace_back(),
                            co_await cluster.topic(args.text("TOPIC"), false, deadline));
        } else {
          PYRALOG_CO_ASSIGN(topics, co_await cluster.all_topics(deadline));
          std::erase_if(
              topics, [&](const auto& topic) { return topic.internal && !args.flag("internal"); });
          std::ranges::sort(topics, {}, &client::TopicInfo::name);
        }
        print(console.out, partitions_text(topics, args.flag("json")));
        co_return Result<void>();
      });
}

Outcome partition_move(const Args& args, Console& console) {
  const auto index = args.number("PARTITION", 0, 0, std::numeric_limits<std::int32_t>::max());
  if (!index) {
    return usage("partition move: \"" + args.text("PARTITION") +
                 "\" is no partition's number; give one such as 0");
  }
  const int ways =
      (args.flag("preferred") ? 1 : 0) + (args.has("to") ? 1 : 0) + (args.flag("cancel") ? 1 : 0);
  if (ways != 1) {
    return usage("partition move: where to? Give one of --to N,N,N, --cancel and --preferred");
  }
  const client::TopicPartition partition{args.text("TOPIC"), static_cast<std::int32_t>(*index)};
  if (!args.flag("preferred")) return move_replicas(args, console, partition);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto elections,
                          co_await client::Admin(cluster).elect_preferred({{partition}}, deadline));
        co_return report(args, console, elections);
      });
}

Outcome cluster_rebalance(const Args& args, Console& console) {
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        PYRALOG_CO_ASSIGN(const auto elections,
                          co_await client::Admin(cluster).elect_preferred(std::nullopt, deadline));
        if (elections.empty() && !args.flag("json")) {
          print(console.out, "every partition is led by its preferred replica already\n");
          co_return Result<void>();
        }
        co_return report(args, console, elections);
      });
}

}  // namespace pyralog::cli
