#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "model/fundamental.h"

namespace pyralog::log {

/// The newest offset of each key, in a fixed amount of memory: 24 bytes a key, the key itself being
/// its hash of 128 bits under a secret. Pure; any one thread.
class KeyTable {
 public:
  using Secret = SecretHash::Secret;
  /// Takes at most `bytes` of memory, but has room for one key at least.
  KeyTable(std::size_t bytes, const Secret& secret);
  /// What a table for `keys` keys takes, and at most `bytes`.
  [[nodiscard]] static std::size_t bytes_for(std::size_t bytes, std::uint64_t keys);
  /// Notes that `key` has a record at `offset`; offsets rise. False: it is full, and nothing was
  /// noted.
  [[nodiscard]] bool put(ByteView key, Offset offset);
  [[nodiscard]] std::optional<Offset> newest(ByteView key) const;
  [[nodiscard]] std::size_t size() const { return used_; }

 private:
  struct Slot {
    SecretHash::Value hash;
    std::int64_t offset = -1;  ///< −1 = free
  };
  [[nodiscard]] std::size_t find(const SecretHash::Value& hash) const;
  SecretHash hash_;
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
  std::size_t most_;
};

}  // namespace pyralog::log
