#include "replica/batches.h"

#include <string>

#include "base/plant.h"

namespace pyralog::replica {

namespace {

std::unexpected<Error> corrupt(const BatchHeader& header, const char* what) {
  return fail(Code::kCorrupt, "batch at offset " + std::to_string(header.base_offset) +
                                  " from another replica: " + what + "; it is refused");
}

}  // namespace

Result<Batches> parse_batches(ByteView bytes) {
  Batches out;
  while (!bytes.empty()) {
    PYRALOG_ASSIGN(const BatchHeader header, parse_batch_header(bytes));
    if (header.magic != 2) return corrupt(header, "of another format");
    if (header.total_bytes() > bytes.size()) return corrupt(header, "cut short");
    const ByteView batch = bytes.first(header.total_bytes());
    if (header.base_offset < 0 || header.last_offset_delta < 0 || header.leader_epoch < 1 ||
        header.base_offset > INT64_MAX - header.last_offset_delta - 1) {
      return corrupt(header, "its offsets or its epoch cannot be");
    }
    if (batch_crc(batch) != header.crc && !PYRALOG_PLANT("replica.trust_the_sender")) {
      return corrupt(header, "its checksum is wrong");
    }
    const Offset base(header.base_offset);
    if (out.views.empty()) {
      out.base = base;
    } else if (base != out.end) {
      return corrupt(header, "it does not follow on the one before");
    }
    const Epoch epoch(static_cast<std::uint32_t>(header.leader_epoch));
    if (out.runs.empty() || out.runs.back().epoch != epoch) {
      if (!out.runs.empty() && epoch < out.runs.back().epoch)
        return corrupt(header, "its epoch goes back");
      out.runs.push_back({epoch, base});
    }
    out.end = Offset(header.next_offset());
    out.views.push_back(batch);
    out.headers.push_back(header);
    bytes = bytes.subspan(batch.size());
  }
  return out;
}

Result<Bytes> beginning_at(Bytes batches, Offset from) {
  PYRALOG_ASSIGN(const BatchHeader header, parse_batch_header(batches));
  if (header.base_offset == from.value) return batches;
  if (header.base_offset > from.value || header.next_offset() <= from.value ||
      header.total_bytes() > batches.size()) {
    return fail(Code::kOutOfRange, "offset " + std::to_string(from.value) +
                                       " is not in the batch at offset " +
                                       std::to_string(header.base_offset));
  }
  if (header.idempotent() || header.control() || header.transactional()) {
    return fail(Code::kUnsupported,
                "the batch at offset " + std::to_string(header.base_offset) +
                    " is one that its producer has sent: nobody's log ends within it");
  }
  constexpr std::int16_t kCodecBits = 7;
  constexpr std::size_t kMaxInflatedBytes = 100u << 20;
  BatchBuilder builder(header.codec());
  builder.attributes(static_cast<std::int16_t>(header.attributes & ~kCodecBits));
  const ByteView whole = ByteView(batches).first(header.total_bytes());
  PYRALOG_ASSIGN(RecordReader reader,
                 RecordReader::open(whole, kMaxInflatedBytes, RecordReader::Headers::kRaw));
  while (true) {
    PYRALOG_ASSIGN(const std::optional<RecordView> record, reader.next());
    if (!record) break;
    if (record->offset < from.value) continue;
    builder.add_at(static_cast<std::int32_t>(record->offset - from.value), *record);
  }
  std::optional<std::int64_t> timestamp;
  if (header.log_append_time()) timestamp = header.max_timestamp;
  PYRALOG_ASSIGN(Bytes out, builder.build_sparse(
                                from, static_cast<std::int32_t>(header.last_offset() - from.value),
                                timestamp));
  assign_offset_and_epoch(out, from, Epoch(static_cast<std::uint32_t>(header.leader_epoch)));
  out.insert(out.end(), batches.begin() + static_cast<std::ptrdiff_t>(whole.size()), batches.end());
  return out;
}

}  // namespace pyralog::replica
