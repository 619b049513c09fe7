#pragma once

#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "model/record_batch.h"

namespace pyralog::replica {

/// Whole record batches, back to back, as another replica has sent them; views into its bytes.
/// Pure.
struct Batches {
  std::vector<ByteView> views;
  std::vector<BatchHeader> headers;
  std::vector<EpochStart> runs;  ///< of the records, each epoch from its first
  Offset base;
  Offset end;
};

/// kCorrupt: not whole, a checksum that is wrong, offsets with a gap, epochs that go back.
[[nodiscard]] Result<Batches> parse_batches(ByteView bytes);

/// Whole batches so that they begin at `from`: where the first one, put together by compaction,
/// begins below, another is made of its records from there on. kOutOfRange: they do not hold
/// `from`; kUnsupported: a batch that compaction never puts together; kCorrupt: its records do not
/// parse.
[[nodiscard]] Result<Bytes> beginning_at(Bytes batches, Offset from);

}  // namespace pyralog::replica
