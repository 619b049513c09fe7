#pragma once

#include <cstdint>
#include <utility>

#include "io/shard.h"
#include "replica/messages.h"

// What both halves of PeerWire use to write and read messages between nodes.
namespace pyralog::replica {

inline std::int32_t number(Epoch epoch) {
  return static_cast<std::int32_t>(epoch.value);
}
/// A negative one is none; what is not sound then, the state machines refuse.
inline Epoch epoch_of(std::int32_t number) {
  return Epoch(number < 0 ? 0 : static_cast<std::uint32_t>(number));
}

/// Runs `job` on `shard`: at once if that is this one.
inline void run_on(io::Shard& shard, io::Shard::Job job) {
  if (&shard == &io::Shard::current()) return job();
  shard.post(std::move(job));
}

}  // namespace pyralog::replica
