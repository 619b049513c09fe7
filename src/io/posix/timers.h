#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"
#include "io/shard.h"

namespace pyralog::io::posix {

/// One shard's timers: a heap by time, in which a cancelled timer stays as a mark until it would be
/// due or until marks are more than half of the heap. Arming and cancelling allocate nothing once
/// the vectors have grown. One thread.
class Timers {
 public:
  Shard::TimerId add(Instant at, Shard::Job job);
  void cancel(Shard::TimerId id);
  /// When the next timer is due; never if there is none.
  [[nodiscard]] Instant next();
  /// The job of the first timer that is due at `now`; empty if there is none.
  [[nodiscard]] Shard::Job take_due(Instant now);
  [[nodiscard]] std::size_t size() const { return live_; }
  void clear();

 private:
  struct Entry {
    std::int64_t at;
    std::uint64_t number;  ///< timers of one instant fire in the order in which they were armed
    std::uint32_t slot;
    std::uint32_t generation;
    // Ordered so that the standard heap has the earliest on top.
    friend bool operator<(const Entry& a, const Entry& b) {
      return a.at != b.at ? a.at > b.at : a.number > b.number;
    }
  };
  struct Slot {
    Shard::Job job;
    std::uint32_t generation = 1;
  };
  [[nodiscard]] bool stale(const Entry& entry) const {
    return slots_[entry.slot].generation != entry.generation;
  }
  void free(std::uint32_t slot);
  void drop_stale_top();
  void compact();

  std::vector<Entry> heap_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  std::uint64_t next_number_ = 0;
  std::size_t live_ = 0;
};

}  // namespace pyralog::io::posix
