// Foreign bytes of a log's files: none may crash, hang or take memory beyond what they hold.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/crc32c.h"
#include "log/append_time.h"
#include "log/compaction.h"
#include "log/epoch_table.h"
#include "log/evidence.h"
#include "log/segment.h"
#include "log/write_ahead_format.h"

namespace {

using namespace pyralog;
using namespace pyralog::log;

void require(bool truth) {
  if (!truth) std::abort();
}

void begin(Bytes& file, std::string_view magic) {
  if (file.size() < magic.size() + 2) return;
  std::copy(magic.begin(), magic.end(), file.begin());
  store_le(file.data() + magic.size(), std::uint16_t{1});
}

/// The fuzzer cannot guess checksums, so the four bytes at `at` are set right first; and the magic
/// and version in front, or most inputs would end there.
Bytes sealed(std::string_view magic, ByteView bytes, std::size_t at) {
  Bytes copy(bytes.begin(), bytes.end());
  begin(copy, magic);
  if (copy.size() >= at + 4) store_le(copy.data() + at, crc32c(ByteView(copy).first(at)));
  return copy;
}

void judge_header(ByteView bytes) {
  const Bytes file = sealed("PYRALOG1", bytes, kSegmentHeaderBytes - 4);
  const auto header = decode_segment_header(file, "x");
  if (!header) return;
  const auto again = decode_segment_header(encode(*header), "x");
  require(again && again->base == header->base && again->partition == header->partition &&
          again->epoch == header->epoch && again->created_ms == header->created_ms);
}

/// Both files in one input: the first two bytes say where the second begins.
void judge_index(ByteView bytes) {
  if (bytes.size() < 2 + 64) return;
  const std::size_t split = 32 + load_le<std::uint16_t>(bytes.data()) % (bytes.size() - 2 - 63);
  Bytes offsets(bytes.begin() + 2, bytes.begin() + 2 + static_cast<std::ptrdiff_t>(split));
  Bytes times(bytes.begin() + 2 + static_cast<std::ptrdiff_t>(split), bytes.end());
  std::copy_n(offsets.begin() + 16, 12, times.begin() + 16);  // of the same segment and interval
  const auto seal = [](Bytes& file, std::string_view magic, std::size_t entry_bytes) {
    begin(file, magic);
    file.resize(file.size() - (file.size() - 32) % entry_bytes);
    store_le(file.data() + 12, static_cast<std::uint32_t>((file.size() - 32) / entry_bytes));
    const ByteView view(file);
    store_le(file.data() + 28, crc32c(view.subspan(32), crc32c(view.first(28))));
  };
  seal(offsets, "PYRAOFFX", 8);
  seal(times, "PYRATIMX", 12);
  const auto size = load_le<std::uint64_t>(offsets.data() + 16);
  const std::uint32_t interval = SegmentIndex::interval_of(offsets).value();
  const auto index = SegmentIndex::decode(Offset(0), interval, size, offsets, times);
  if (!index) return;
  for (const std::int64_t o : {std::int64_t{0}, std::int64_t{77}, std::int64_t{UINT32_MAX}}) {
    require(index->floor(Offset(o)).relative_offset <= o);
    require(index->floor_timestamp(o).position >= kSegmentHeaderBytes);
  }
  const auto again = SegmentIndex::decode(Offset(0), interval, size, index->encode_offsets(size),
                                          index->encode_times(size));
  require(again && again->offset_entries() == index->offset_entries());
}

void judge_append_times(ByteView bytes) {
  const AppendTimes times = decode_append_times(bytes, Offset(0), Offset(INT64_MAX));
  require(times.entries.size() + times.bad_entries <= bytes.size() / kAppendTimeEntryBytes);
}

/// A frame's body as it is, and a header whose checksum is right.
void judge_write_ahead(ByteView bytes) {
  if (const auto body = decode_write_ahead_body(bytes)) {
    std::size_t held = 0;
    for (const WriteAheadData& item : body->data) held += item.bytes.size();
    require(held <= bytes.size());
    Bytes again(kWriteAheadFrameHeaderBytes);
    for (const SyncedEntry& entry : body->evidence) put_evidence(again, entry);
    for (const WriteAheadData& item : body->data) {
      put_data_header(again, item, static_cast<std::uint32_t>(item.bytes.size()));
      again.insert(again.end(), item.bytes.begin(), item.bytes.end());
    }
    const auto same = decode_write_ahead_body(ByteView(again).subspan(kWriteAheadFrameHeaderBytes));
    require(same && same->data.size() == body->data.size() &&
            same->evidence == body->evidence);
  }
  const Bytes block = sealed("PYRAWAHD", bytes, 60);
  if (const auto header = decode_write_ahead_header(block, "x")) {
    require(decode_write_ahead_header(encode(*header), "x")->salt == header->salt);
  }
  if (bytes.size() < 12) return;
  // Whoever does not know the salt makes no frame.
  require(!write_ahead_body_length(bytes, 4096, 0x9e3779b97f4a7c15U));
}

void judge_evidence(ByteView bytes) {
  judge_write_ahead(bytes);
  if (const auto entry = decode_synced_entry(bytes)) {
    // Entries of the first version are shorter; what they say is kept.
    const auto again = decode_synced_entry(encode(*entry));
    require(again && *again == *entry);
  }
  if (bytes.size() < 4) return;
  const std::size_t end = bytes.size() - 4;
  if (const auto state = decode_clean_state(sealed("PYRACLN1", bytes, end), "x")) {
    require(decode_clean_state(encode(*state), "x").has_value());
  }
  if (const auto table = EpochTable::decode(sealed("PYRAEPOC", bytes, end), "x")) {
    require(EpochTable::decode(table->encode(), "x")->entries() == table->entries());
  }
  if (const auto state = CompactionState::decode(sealed("PYRACLND", bytes, end), "x")) {
    require(state->horizon(WallMs{INT64_MAX}, 0) <= std::max(state->upto(), Offset(0)));
    require(CompactionState::decode(state->encode(), "x")->marks() == state->marks());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView rest(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      judge_header(rest);
      break;
    case 1:
      judge_index(rest);
      break;
    case 2:
      judge_append_times(rest);
      break;
    default:
      judge_evidence(rest);
      break;
  }
  return 0;
}
