#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "io/shard.h"
#include "io/task.h"
#include "obelisk/ceiling_file.h"

namespace pyralog::obelisk {

struct SequencerOptions {
  /// Values per lease (modes lease and relaxed): at least twice what is issued during the slowest
  /// fdatasync. A crash skips at most two leases.
  std::uint64_t lease = 65'536;
  /// Ask for the next lease when half of this one is used; false: only when it is used up, so that
  /// a short-lived process wastes nothing.
  bool renew_early = true;
};

/// A counter that never issues a value twice, whatever crashes: values from `Header::base` upward,
/// each once. Opened and renewed on one shard (its owner); `try_take` may be called by any thread.
/// After a sync error it issues what is durable already and then refuses.
class ObeliskSequencer {
 public:
  /// Opens an existing file on the current shard. Errors of CeilingFile::open.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<ObeliskSequencer>>> open(
      std::string path, SequencerOptions options = {});
  /// Creates the file as `header` says unless it exists, and opens it.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<ObeliskSequencer>>> open_or_create(
      std::string path, Header header, SequencerOptions options = {});

  /// The first of `count` consecutive values (count ≥ 1), from memory. kUnavailable if the lease is
  /// used up (a new one is on its way) and always in strict mode: then ask `take`. Any thread.
  [[nodiscard]] Result<std::uint64_t> try_take(std::uint64_t count = 1);

  /// The same, waiting for the disk where need be; strict callers share one fdatasync. Owner shard.
  /// kIo or kUnavailable once the file has stopped, kTimedOut after 30 s.
  [[nodiscard]] io::Task<Result<std::uint64_t>> take(std::uint64_t count = 1);

  /// After a sync error: goes on with a fresh file above everything that was ever asked of the old
  /// one. Owner shard, no `take` under way.
  [[nodiscard]] io::Task<Result<void>> resume();
  /// Waits for a renewal under way, then lets go of the file. Owner shard. Without it the file is
  /// let go of when a renewal under way has ended.
  [[nodiscard]] io::Task<void> close();

  /// Until `close`. Owner shard.
  [[nodiscard]] const Header& header() const;
  /// Nothing at or above it has been issued. Until `close`. Owner shard.
  [[nodiscard]] std::uint64_t ceiling() const;

 private:
  struct State;
  explicit ObeliskSequencer(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace pyralog::obelisk
