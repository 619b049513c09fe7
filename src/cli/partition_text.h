#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "client/admin.h"

namespace pyralog::cli {

/// "1,2,3".
[[nodiscard]] std::string joined(const std::vector<std::int32_t>& ids);
/// "key":[1,2,3]
void ids_json(JsonWriter& json, std::string_view key, const std::vector<std::int32_t>& ids);

/// A line for each partition, or with `as_json` one document for all: who leads it, who is to.
[[nodiscard]] std::string partitions_text(const std::vector<client::TopicInfo>& topics,
                                          bool as_json);

/// What became of the leaders of partitions; failures are told of in JSON only, as lines they are
/// errors.
[[nodiscard]] std::string elections_text(const client::Elections& elections, bool as_json);
/// All failures as one, if there are any.
[[nodiscard]] Result<void> failures_of(const client::Elections& elections);

}  // namespace pyralog::cli
