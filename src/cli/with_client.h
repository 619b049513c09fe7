#pragma once

#include <functional>

#include "cli/command.h"
#include "client/cluster.h"
#include "io/task.h"

namespace pyralog::cli {

/// What a command does with a cluster; runs on the shard of a runtime that lives as long.
using ClientBody =
    std::function<io::Task<Result<void>>(client::Cluster& cluster, Instant deadline)>;

inline constexpr Duration kInAMoment = std::chrono::seconds(30);
/// For what waits until it is told that something is done.
inline constexpr Duration kNoHurry = std::chrono::hours(24);

/// Starts a runtime of one shard, opens a client of the servers that --bootstrap (or
/// PYRALOG_BOOTSTRAP) names, runs `body` with a deadline of --timeout, or of `otherwise`, and ends
/// both.
[[nodiscard]] Outcome with_client(const Args& args, ClientBody body,
                                  Duration otherwise = kInAMoment);

/// Calls `first` at the first Ctrl-C or SIGTERM; the second ends the process at once. The command
/// has blocked both signals; to be spawned, not awaited: it ends with the runtime.
[[nodiscard]] io::Task<void> on_interrupt(std::function<void()> first);

/// The same without servers, for what only needs files.
using LocalBody = std::function<io::Task<Result<void>>()>;
[[nodiscard]] Outcome with_runtime(LocalBody body);

}  // namespace pyralog::cli
