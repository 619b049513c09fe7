#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "catalog/entry.h"
#include "model/fundamental.h"
#include "replica/history.h"

namespace pyralog::replica {

/// Kafka's leader epochs are i32; a greater one is none.
inline constexpr std::uint32_t kMaxEpoch = 2147483647;

/// One life of a process on one disk. `boot` grows with every start, so that nobody takes a word
/// to, or from, an earlier life for a new one.
struct Life {
  catalog::Replica disk;
  std::uint64_t boot = 0;
  friend bool operator==(const Life&, const Life&) = default;
};

/// What a replica keeps durable beside its log.
struct Promise {
  Epoch promised;  ///< nothing below is taken
  /// The newest epoch at whose start this log was the same as its leader's, all of it stable. That
  /// a log has records of an epoch says less: it may have taken a few and lack what came before.
  Epoch joined;
  /// The newest epoch, up to `joined`, that began without some of what was committed; 0: none.
  Epoch lossy;
  bool in_doubt =
      false;  ///< acknowledged records may have gone with the machine; counts in no seal
  /// In doubt, since all that it had was damaged and set aside: nothing begins with what it has.
  bool emptied = false;
  friend bool operator==(const Promise&, const Promise&) = default;
};

/// "Take nothing below `epoch` any more, and say what you have."
struct Seal {
  Epoch epoch;
  NodeId candidate;
};

/// Promise and log are durable before it leaves.
struct SealAnswer {
  Epoch epoch;     ///< of the question
  Epoch promised;  ///< above `epoch`: fenced, and the rest says nothing
  Life from;
  Epoch last_epoch;  ///< Promise::joined, or the last record's if that is newer
  History log;
  Epoch lossy;            ///< Promise::lossy
  Offset high_watermark;  ///< that it knows of; 0 after a start
  bool in_doubt = false;
  bool emptied = false;  ///< Promise::emptied
};

/// Records from the leader of an epoch, or from its candidate before it is active: those below the
/// epoch's start. Without records (base = end) it asks whether the logs are the same below `base`,
/// and tells the high watermark. The records themselves travel beside.
struct Append {
  Epoch epoch;
  Offset start;  ///< of `epoch`; records of other epochs at or above it are void
  NodeId leader;
  std::uint64_t to_boot = 0;  ///< 0: not known; then it only asks
  Epoch previous;             ///< epoch of the record below `base`; 0: the leader has none there
  Offset base;
  Offset end;
  std::vector<EpochStart> runs;  ///< the records' epochs, as History::runs gives them
  Offset high_watermark;
  Offset log_start;
  /// The newest epoch up to this one that began without some of what was committed; 0: none. What
  /// was known to be committed before it may be cut.
  Epoch lossy;
  bool active = false;  ///< the epoch is in the metadata log
  [[nodiscard]] bool may_come_to_nothing() const { return lossy == epoch && !active; }
};

/// One of many that go together: an Append without records.
struct Heartbeat {
  PartitionId id;
  Append message;
};

struct AppendReply {
  enum class Kind : std::uint8_t {
    kHeld,   ///< its log is the leader's up to log_end
    kGap,    ///< the same, and what was sent does not go on there
    kApart,  ///< not known to be the same; `tail` is where it may begin to be
    kFenced,
  };
  Kind kind = Kind::kHeld;
  Epoch epoch;  ///< of the Append; kFenced: what was promised
  Life from;
  Offset log_start;  ///< what was below was committed
  Offset log_end;
  Offset stable_end;
  Epoch joined;    ///< durable
  EpochTail tail;  ///< with kApart
};

/// A candidate reads [from, to) from a sealed replica.
struct ReadRange {
  Epoch epoch;
  Offset from;
  Offset to;
  std::uint32_t max_bytes = 0;
};

}  // namespace pyralog::replica
