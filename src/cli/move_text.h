#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "client/admin.h"

namespace pyralog::cli {

/// "3,1,2" → ids; kInvalidArgument for anything else.
[[nodiscard]] Result<std::vector<std::int32_t>> parse_nodes(std::string_view text);

/// A line for each partition whose replicas are being replaced, or with `as_json` one document.
[[nodiscard]] std::string moves_text(const client::Reassignments& moves, bool as_json);

/// What has become of one: "moving", "moved" or "cancelled".
[[nodiscard]] std::string move_text(const client::TopicPartition& partition,
                                    const std::vector<std::int32_t>& replicas,
                                    std::string_view state, bool as_json);

/// How far a node is with giving everything to others: lines, or one document.
[[nodiscard]] std::string drain_text(std::int32_t node, const client::Drain& drain, bool as_json);
/// Why waiting is of no use: what is left has nowhere to go.
[[nodiscard]] Result<void> check_not_stuck(std::int32_t node, const client::Drain& drain);

}  // namespace pyralog::cli
