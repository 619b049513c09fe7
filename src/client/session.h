#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "client/cluster.h"

namespace pyralog::client {

/// How far one application has written and read each partition. Producers and consumers that share
/// it read what they wrote, and nothing older than what they have read, from any replica: one that
/// is not there yet is waited for, or the leader is asked. Lives on one shard, and outlives who
/// uses it.
class Session {
 public:
  struct Position {
    TopicId topic;                   ///< a topic that is made again is another
    std::int32_t leader_epoch = -1;  ///< the newest that was met; −1 = not known
    std::int64_t next = 0;           ///< the offset after the last that was written or read
    friend bool operator==(const Position&, const Position&) = default;
  };

  /// Everything below `met.next` was there in its epoch.
  void reached(const TopicPartition& partition, const Position& met);
  /// Nullopt if nothing of this topic was written or read there.
  [[nodiscard]] std::optional<Position> position(const TopicPartition& partition,
                                                 const TopicId& topic) const;
  /// To be carried elsewhere: `reached` takes each up there.
  [[nodiscard]] const std::map<TopicPartition, Position>& positions() const { return positions_; }

 private:
  std::map<TopicPartition, Position> positions_;
};

}  // namespace pyralog::client
