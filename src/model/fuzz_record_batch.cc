#include <cstdlib>

#include "model/record_batch.h"

namespace {

/// Whatever check_batch lets pass must be readable to its last record; the other way round holds
/// for no batch, as compaction may leave gaps that a client may not send.
void judge_and_read(pyralog::base::ByteView batch) {
  using namespace pyralog::model;
  constexpr std::size_t kBound = 1u << 16;
  BatchCheck check;
  check.open_compressed = true;
  check.max_inflated_bytes = kBound;
  BatchHeader header;
  const bool sound = !check_batch(batch, check, header);
  auto reader = RecordReader::open(batch, kBound);
  if (!reader) {
    if (sound && header.base_offset >= 0 && header.base_offset < INT64_MAX / 2) std::abort();
    return;
  }
  std::int32_t count = 0;
  while (true) {
    const auto record = reader->next();
    if (!record) {
      if (sound) std::abort();
      return;
    }
    if (!*record) break;
    ++count;
  }
  if (count != reader->header().count) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pyralog::model;
  judge_and_read({data, size});
  if (size < kBatchHeaderBytes) return 0;
  // The same bytes with length, magic and checksum made right, so that the records are reached.
  pyralog::base::Bytes batch(data, data + size);
  pyralog::base::store_be(batch.data() + 8, static_cast<std::int32_t>(size - kBatchPrefixBytes));
  batch[16] = 2;
  pyralog::base::store_be(batch.data() + 17, batch_crc(batch));
  judge_and_read(batch);
  return 0;
}
