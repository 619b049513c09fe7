#include "log/key_table.h"

#include <algorithm>

namespace pyralog::log {

std::size_t KeyTable::bytes_for(std::size_t bytes, std::uint64_t keys) {
  const std::uint64_t slots = std::min<std::uint64_t>(keys, bytes) / 3 * 4 + 4;
  return std::min<std::uint64_t>(bytes, slots * sizeof(Slot));
}

KeyTable::KeyTable(std::size_t bytes, const Secret& secret)
    : hash_(secret), slots_(std::max<std::size_t>(bytes / sizeof(Slot), 2)) {
  // Beyond that, searches for a free slot become long.
  most_ = std::max<std::size_t>(slots_.size() / 4 * 3, 1);
}

std::size_t KeyTable::find(const SecretHash::Value& hash) const {
  std::size_t at =
      static_cast<std::size_t>((static_cast<unsigned __int128>(hash.low) * slots_.size()) >> 64);
  while (slots_[at].offset >= 0 && slots_[at].hash != hash) {
    if (++at == slots_.size()) at = 0;
  }
  return at;
}

bool KeyTable::put(ByteView key, Offset offset) {
  const SecretHash::Value hash = hash_(key);
  Slot& slot = slots_[find(hash)];
  if (slot.offset < 0) {
    if (used_ == most_) return false;
    ++used_;
    slot.hash = hash;
  }
  slot.offset = offset.value;
  return true;
}

std::optional<Offset> KeyTable::newest(ByteView key) const {
  const Slot& slot = slots_[find(hash_(key))];
  if (slot.offset < 0) return std::nullopt;
  return Offset(slot.offset);
}

}  // namespace pyralog::log
