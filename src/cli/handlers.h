#pragma once

#include "cli/command.h"

// What the rows of the table of commands run. Each reads its own options from `args`, writes its
// answer to the console, and reports failure by its outcome.
namespace pyralog::cli {

Outcome serve(const Args& args, Console& console);
Outcome topic_create(const Args& args, Console& console);
Outcome topic_list(const Args& args, Console& console);
Outcome topic_describe(const Args& args, Console& console);
Outcome topic_alter(const Args& args, Console& console);
Outcome topic_delete(const Args& args, Console& console);
/// `topic delete` with --records-before.
Outcome delete_records(const Args& args, Console& console);
Outcome partition_list(const Args& args, Console& console);
Outcome partition_move(const Args& args, Console& console);
Outcome produce(const Args& args, Console& console);
Outcome consume(const Args& args, Console& console);
Outcome bench_produce(const Args& args, Console& console);
Outcome bench_consume(const Args& args, Console& console);
Outcome bench_latency(const Args& args, Console& console);
Outcome group_list(const Args& args, Console& console);
Outcome group_describe(const Args& args, Console& console);
Outcome group_reset(const Args& args, Console& console);
Outcome group_delete(const Args& args, Console& console);
Outcome group_delete_offsets(const Args& args, Console& console);
Outcome log_inspect(const Args& args, Console& console);
Outcome log_verify(const Args& args, Console& console);
Outcome log_repair(const Args& args, Console& console);
Outcome id_next(const Args& args, Console& console);
Outcome id_batch(const Args& args, Console& console);
Outcome id_inspect(const Args& args, Console& console);
Outcome ids_next(const Args& args, Console& console);
Outcome counter_next(const Args& args, Console& console);
Outcome config_check(const Args& args, Console& console);
Outcome config_reference(const Args& args, Console& console);
Outcome cluster_status(const Args& args, Console& console);
Outcome cluster_rebalance(const Args& args, Console& console);
Outcome cluster_drain(const Args& args, Console& console);
Outcome cluster_add(const Args& args, Console& console);
Outcome cluster_remove(const Args& args, Console& console);
Outcome cluster_replace_disk(const Args& args, Console& console);
Outcome dev_cluster(const Args& args, Console& console);
Outcome doctor(const Args& args, Console& console);
Outcome version(const Args& args, Console& console);
Outcome completion(const Args& args, Console& console);
Outcome man(const Args& args, Console& console);

}  // namespace pyralog::cli
