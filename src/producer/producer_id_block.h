#pragma once

#include <cstdint>
#include <optional>

#include "base/assert.h"
#include "model/fundamental.h"

namespace pyralog::producer {

/// Producer ids that the metadata log has granted to this node; each is handed out once, and what
/// is left at a restart is dropped. Pure; one shard.
class ProducerIdBlock {
 public:
  ProducerIdBlock() = default;
  /// Ids [first, first + count).
  ProducerIdBlock(ProducerId first, std::int64_t count)
      : next_(first.value), end_(first.value + count), count_(count) {
    PYRALOG_ASSERT(first.value >= 0 && count >= 0 && count <= INT64_MAX - first.value);
  }
  /// nullopt if the block is used up: ask for another one.
  [[nodiscard]] std::optional<ProducerId> next() {
    if (next_ == end_) return std::nullopt;
    return ProducerId(next_++);
  }
  [[nodiscard]] std::int64_t left() const { return end_ - next_; }
  /// Less than half is left: time to ask for the next block in the background.
  [[nodiscard]] bool low() const { return left() * 2 < count_ || count_ == 0; }

 private:
  std::int64_t next_ = 0;
  std::int64_t end_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace pyralog::producer
