#include "log/append_time.h"

#include "base/crc32c.h"

namespace pyralog::log {

namespace {
std::uint32_t entry_crc(Offset segment, std::uint64_t index, const std::uint8_t* fields) {
  std::uint8_t place[16];
  store_le(place, segment.value);
  store_le(place + 8, index);
  return crc32c(ByteView(fields, 16), crc32c(place));
}
}  // namespace

void encode_append_time(Bytes& out, Offset segment, std::uint64_t index, const AppendTime& entry) {
  const std::size_t at = out.size();
  out.resize(at + kAppendTimeEntryBytes);
  store_le(out.data() + at, entry.append_ms);
  store_le(out.data() + at + 8, entry.base.value);
  store_le(out.data() + at + 16, entry_crc(segment, index, out.data() + at));
}

AppendTimes decode_append_times(ByteView bytes, Offset segment, Offset end,
                                std::uint64_t first_index) {
  AppendTimes result;
  const std::uint64_t count = bytes.size() / kAppendTimeEntryBytes;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint8_t* p = bytes.data() + i * kAppendTimeEntryBytes;
    const AppendTime entry{load_le<std::int64_t>(p), Offset(load_le<std::int64_t>(p + 8))};
    const bool sound = load_le<std::uint32_t>(p + 16) == entry_crc(segment, first_index + i, p);
    const bool rises = result.entries.empty() ||
                       (entry.append_ms >= result.entries.back().append_ms &&
                        entry.base > result.entries.back().base);
    if (!sound || !rises || entry.base < segment) {
      ++result.bad_entries;
      continue;
    }
    if (entry.base >= end) break;
    result.entries.push_back(entry);
    result.next_index = first_index + i + 1;
  }
  return result;
}

}  // namespace pyralog::log
