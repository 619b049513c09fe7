#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/time.h"
#include "catalog/catalog.h"
#include "catalog/entry.h"

namespace pyralog::cluster {

/// How long a Scarab machine id is lent for, and how far clocks of nodes may differ.
inline constexpr std::uint64_t kMachineGrantMs = 10'000;
inline constexpr std::uint64_t kMachineSkewMs = 10'000;

/// A machine id as its holder has it: it may issue ids of milliseconds in [from_ms, ceiling_ms),
/// since the Scarab epoch. The grants of one id are disjoint ranges whoever holds them and whatever
/// the clocks say: each begins where the one before ended.
struct MachineLease {
  std::uint16_t machine = 0;
  std::uint64_t from_ms = 0;
  std::uint64_t ceiling_ms = 0;
  [[nodiscard]] catalog::MachineIdGranted entry(NodeId node) const {
    return {machine, node, ceiling_ms};
  }
  friend bool operator==(const MachineLease&, const MachineLease&) = default;
};

/// The lowest machine id that nobody holds: never granted, or its ceiling has passed, with the
/// skew, by the clock of who asks. Pure. kExhausted if all 1,024 are held.
[[nodiscard]] Result<MachineLease> take_machine(const catalog::Catalog& state, WallMs now);

/// `held` until kMachineGrantMs after `time_ms`, the holder's own time since the Scarab epoch.
/// Pure. kFenced if the newest grant of that id is not `held`: then another one is to be taken.
[[nodiscard]] Result<MachineLease> renew_machine(const catalog::Catalog& state, NodeId node,
                                                 const MachineLease& held, std::uint64_t time_ms);

}  // namespace pyralog::cluster
