#pragma once

#include "cli/command.h"
#include "server/settings.h"

namespace pyralog::cli {

/// What `serve` and `config check` were given: the options of the settings table, the environment,
/// and the file that --config or PYRALOG_CONFIG names.
[[nodiscard]] server::SettingSources sources_from(const Args& args);
/// Whether the file that the settings name as the cluster's secret, if they do, holds one.
[[nodiscard]] Result<void> check_secret(const server::ServerOptions& options);

}  // namespace pyralog::cli
