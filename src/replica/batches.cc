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

}  // namespace pyralog::replica
