#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace pyralog::cli {

/// What `cluster status` prints, from what a server answers to GET /status: lines, or its "cluster"
/// as one line of JSON. Of a lone node a cluster of one. kCorrupt if it is no such answer,
/// kUnavailable if the server is still on its way into a cluster. Pure.
[[nodiscard]] Result<std::string> cluster_status_text(std::string_view status, bool as_json);

}  // namespace pyralog::cli
