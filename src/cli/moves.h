#pragma once

#include "cli/command.h"
#include "client/cluster.h"

namespace pyralog::cli {

/// `partition move` with --to or --cancel.
Outcome move_replicas(const Args& args, Console& console, client::TopicPartition partition);
/// `partition list --moving`.
Outcome partition_list_moving(const Args& args, Console& console);

}  // namespace pyralog::cli
