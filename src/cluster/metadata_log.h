#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "catalog/catalog.h"
#include "catalog/entry.h"
#include "io/shard.h"

namespace pyralog::cluster {

using CatalogPtr = std::shared_ptr<const catalog::Catalog>;

/// The metadata log as whoever changes the catalogue sees it, alone or in a cluster. Lives on shard
/// 0. Nobody sees what a crash, of one node or of fewer than half, could take back.
class MetadataLog {
 public:
  virtual ~MetadataLog() = default;

  /// The state as of the last entry that stands. Never null.
  [[nodiscard]] virtual const CatalogPtr& catalog() const = 0;

  /// Decides on entries against the newest state and makes them stand, all or none. `plan` gets
  /// that state and returns the entries (none: nothing is done), or an error, which is passed on;
  /// it may be called again if others were faster. What the catalogue refuses is refused with its
  /// reason. Returns a state with them in it, which the observer has seen. kIo, kExhausted,
  /// kUnavailable: they do not stand, or, after kIo, a restart decides; kTimedOut: they may.
  using Plan = std::function<Result<std::vector<catalog::Entry>>(const catalog::Catalog&)>;
  [[nodiscard]] virtual io::Task<Result<CatalogPtr>> propose(Plan plan) = 0;

  /// Called, on shard 0, after changes with the new state, one call at a time, and before the
  /// proposer goes on; it must not propose. When `on_change` returns no call of the one before is
  /// under way.
  using Observer = std::function<io::Task<void>(CatalogPtr)>;
  [[nodiscard]] virtual io::Task<void> on_change(Observer observer) = 0;
};

}  // namespace pyralog::cluster
