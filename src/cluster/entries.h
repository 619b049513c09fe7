#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "catalog/catalog.h"
#include "catalog/entry.h"

namespace pyralog::cluster {

/// The entries of one proposal, each with a u32 length before it.
[[nodiscard]] Bytes encode_entries(const std::vector<catalog::Entry>& entries);
/// kCorrupt, kUnsupported (an entry is newer than what is understood).
[[nodiscard]] Result<std::vector<catalog::Entry>> decode_entries(
    ByteView bytes, std::uint16_t understood = catalog::kFeatureLevel);
/// `state` with all of `entries`; what the catalogue refuses is refused with its reason.
[[nodiscard]] Result<catalog::Catalog> with(const catalog::Catalog& state,
                                            const std::vector<catalog::Entry>& entries);

}  // namespace pyralog::cluster
