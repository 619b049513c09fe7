#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "io/shard.h"
#include "io/task.h"
#include "obelisk/ceiling_file.h"
#include "obelisk/scarab.h"

namespace pyralog::obelisk {

/// Issues Scarab ids that no crash and no clock makes repeat: an Obelisk file in lease mode holds a
/// millisecond that no id has reached, raised a second at a time before ids get there. Opened and
/// renewed on one shard (its owner); `try_next` may be called by any thread.
class ScarabGenerator {
 public:
  /// Opens the generator in `path`, or creates it for `machine` (< 1024) on the current shard. A
  /// file of another machine is refused (kInvalidArgument). Errors of CeilingFile::open.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<ScarabGenerator>>> open_or_create(
      std::string path, std::uint16_t machine, Uuid cluster = {}, std::uint16_t name_space = 0);
  [[nodiscard]] static io::Task<Result<std::unique_ptr<ScarabGenerator>>> open(std::string path);

  /// `count` consecutive ids, 1 … kScarabMaxBatch, from memory. kUnavailable: the ceiling is being
  /// raised, or ids have run 10 ms ahead of the clock; then ask `next`. Any thread.
  [[nodiscard]] Result<ScarabRange> try_next(std::uint64_t count = 1);
  /// The same, waiting where need be. Owner shard. kIo or kUnavailable once the file has stopped,
  /// kTimedOut after 30 s.
  [[nodiscard]] io::Task<Result<ScarabRange>> next(std::uint64_t count = 1);

  /// Waits for a renewal under way, then lets go of the file. Owner shard.
  [[nodiscard]] io::Task<void> close();
  [[nodiscard]] std::uint16_t machine() const;

 private:
  struct State;
  explicit ScarabGenerator(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace pyralog::obelisk
