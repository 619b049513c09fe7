#include "cluster/machine_ids.h"

#include <algorithm>

#include "base/plant.h"
#include "obelisk/scarab.h"

namespace pyralog::cluster {
namespace {

std::uint64_t ceiling_after(std::uint64_t time_ms) {
  return std::min(time_ms + kMachineGrantMs, obelisk::kScarabEndMs);
}

}  // namespace

Result<MachineLease> take_machine(const catalog::Catalog& state, WallMs now) {
  const std::int64_t since = std::max<std::int64_t>(now.ms - obelisk::kScarabEpochMs, 0);
  const auto time_ms = static_cast<std::uint64_t>(since);
  const auto& grants = state.machine_grants();
  for (std::uint16_t machine = 0; machine < obelisk::kScarabMachines; ++machine) {
    const auto held = grants.find(machine);
    if (held == grants.end()) return MachineLease{machine, 0, ceiling_after(time_ms)};
    const std::uint64_t before = held->second.ceiling_ms;
    if (PYRALOG_PLANT("cluster.machine_starts_now")) {
      return MachineLease{machine, time_ms, std::max(before + 1, ceiling_after(time_ms))};
    }
    if (time_ms < kMachineSkewMs || before > time_ms - kMachineSkewMs) continue;
    return MachineLease{machine, before, ceiling_after(time_ms)};
  }
  return fail(
      Code::kExhausted,
      "Scarab ids: all 1024 machine ids are held; those of nodes that are gone are free 20 s "
      "later, try again then");
}

Result<MachineLease> renew_machine(const catalog::Catalog& state, NodeId node,
                                   const MachineLease& held, std::uint64_t time_ms) {
  const auto known = state.machine_grants().find(held.machine);
  const bool ours = known != state.machine_grants().end() && known->second.node == node &&
                    known->second.ceiling_ms == held.ceiling_ms;
  if (!ours && !PYRALOG_PLANT("cluster.renew_lost_machine")) {
    return fail(Code::kFenced, "Scarab machine id " + std::to_string(held.machine) +
                                   ": is no longer node " + std::to_string(node.value) +
                                   "'s; take another");
  }
  const std::uint64_t above = ours ? held.ceiling_ms : known->second.ceiling_ms;
  return MachineLease{held.machine, held.from_ms, std::max(ceiling_after(time_ms), above + 1)};
}

}  // namespace pyralog::cluster
