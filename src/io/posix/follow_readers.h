#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/time.h"
#include "io/shard.h"

namespace pyralog::io::posix {

/// Decides on which processor a shard should stay that does little else than send files to readers on
/// this machine. Nobody touches such bytes on the way; what costs time are the kernel's notes about them
/// (pages, packets, sockets), which both sides write, and waking each other. On the reader's own processor
/// both together take less time than the reader alone takes if they work side by side, and the other
/// processors stay free. Looked at period by period. Pure.
class FollowReaders {
 public:
  static constexpr Duration kPeriod = std::chrono::milliseconds(20);

  /// `bytes` of files were sent to a reader whose packets this processor handles.
  void sent(int processor, std::uint64_t bytes);
  /// Ends a period that has lasted so long, in which the shard's thread `used` so much processor time.
  /// Where the thread is to stay; nullopt = wherever the system puts it.
  [[nodiscard]] std::optional<int> end_period(Duration lasted, Duration used);
  /// Nothing was sent of late: the next period may begin with the next bytes.
  [[nodiscard]] bool at_rest() const { return at_rest_; }

 private:
  static constexpr unsigned kFirstPeriods = 2;   ///< alike, before the shard follows
  static constexpr unsigned kMostPeriods = 512;  ///< as many once readers have not stayed
  static constexpr unsigned kStayed = 50;        ///< periods after which they have

  [[nodiscard]] std::optional<int> place_of_readers(Duration lasted, Duration used) const;

  std::vector<std::pair<int, std::uint64_t>> sent_;  ///< by processor, in this period
  std::optional<int> following_;
  unsigned followed_ = 0;  ///< periods
  std::optional<int> candidate_;
  unsigned alike_ = 0;  ///< periods in which it was the same
  unsigned needed_ = kFirstPeriods;
  bool at_rest_ = true;
};

/// At which processors a shard stays for its readers: one at each. One is enough to keep a processor busy
/// together with the reader; a second would wait for the first while another processor does nothing. Any
/// thread.
class FollowedProcessors {
 public:
  static constexpr int kMost = 1024;
  /// False if another is there already. `processor` from 0, below kMost.
  [[nodiscard]] bool join(int processor);
  void leave(int processor);

 private:
  std::array<std::atomic<bool>, kMost> taken_{};
};

}  // namespace pyralog::io::posix
