#pragma once

#include <atomic>
#include <memory>

#include "base/plant.h"
#include "base/result.h"

namespace pyralog::log {

/// Set once whoever starts a node is to end the start; null = never. Set and read on any thread.
using GiveUp = std::shared_ptr<const std::atomic<bool>>;

/// kCancelled once `give_up` is set: what reads much of a data directory asks between its steps. What is
/// there then is what a killed process leaves.
[[nodiscard]] inline Result<void> go_on(const GiveUp& give_up) {
  if (give_up == nullptr || !*give_up || PYRALOG_PLANT("log.recovers_to_the_end")) return {};
  return fail(Code::kCancelled, "the start was ended before clients were accepted");
}

}  // namespace pyralog::log
