#pragma once

#include <cstddef>
#include <cstdint>

namespace pyralog::group {

/// Longer group ids do not fit Kafka's strings.
inline constexpr std::size_t kMaxGroupIdBytes = 32'767;

/// Named as Kafka's broker settings are; times in milliseconds.
struct Options {
  std::int32_t min_session_timeout_ms = 6'000;
  std::int32_t max_session_timeout_ms = 1'800'000;
  std::int32_t initial_rebalance_delay_ms = 3'000;
  std::int32_t new_member_join_timeout_ms = 300'000;
  std::size_t max_group_size = 10'000;            ///< members, pending ones included
  std::size_t offset_metadata_max_bytes = 4'096;  ///< at most 32,767
  std::size_t max_groups = 100'000;               ///< per coordinator partition
  std::size_t max_offsets_per_group = 200'000;
  std::size_t max_protocols = 100;          ///< that a member offers
  std::size_t max_member_bytes = 4u << 20;  ///< a member's protocols, and its assignment
  /// What a group keeps in memory of its members: all that they say, what they read, assignments.
  std::size_t max_group_bytes = 32u << 20;
  /// The same for all groups that share a Tally; a quarter is for assignments alone.
  std::size_t max_members_bytes = 128u << 20;
  /// A group's record: of each member one protocol's metadata, and its assignment. Every rebalance
  /// and every restart of a static member writes one.
  std::size_t max_record_bytes = 32u << 20;
  std::size_t max_group_offset_bytes = 128u << 20;  ///< in memory
  std::size_t max_offsets_bytes = 256u << 20;  ///< of all that share a Tally, names included
  std::size_t max_commit_bytes = 64u << 20;    ///< records of one request
  /// Records on their way to the log, of all that share a Tally; one alone may be of any size.
  std::size_t max_storing_bytes = 128u << 20;
  /// offsets.retention.minutes: how long offsets stay that nobody uses; −1 = for ever.
  std::int64_t offsets_retention_ms = 7LL * 24 * 3'600'000;
  std::size_t max_expired_at_once = 500;               ///< tombstones of one step of expiry, and
  std::size_t max_expired_bytes_at_once = 256u << 10;  ///< their keys (one of any size goes)
  std::size_t max_looked_at_at_once = 20'000;          ///< groups and offsets in one step of expiry

  /// These, with all that groups keep together within `bytes`: a half for offsets, the rest for members
  /// and for records on their way. What is let in by a bound of one group or commit fits there.
  [[nodiscard]] Options within(std::size_t bytes) const;
};

}  // namespace pyralog::group
