#include <algorithm>

#include "base/crc32c.h"
#include "base/plant.h"
#include "producer/producer_table.h"

// Little-endian: magic "PYPRSNAP", u16 version, i64 covered end, u32 producers, the producers by
// ascending id, u32 CRC-32C of everything before it. A producer: i64 id, i16 epoch, u8 flags (bit
// 0: forgot), u8 batches (1–5), each i64 base offset, i32 last delta, i32 base sequence, i64 max
// timestamp, i64 append ms, by the node's ProducerClock (in version 1 by the wall clock).

namespace pyralog::producer {
namespace {

constexpr std::string_view kMagic = "PYPRSNAP";
constexpr std::uint16_t kVersion = 2;
constexpr std::uint16_t kOnWallClock = 1;
constexpr std::size_t kMinProducerBytes = 12 + 32;

std::unexpected<Error> damaged(const char* what) {
  return fail(Code::kCorrupt,
              std::string("producer snapshot: ") + what + "; it will be rebuilt from the log");
}

}  // namespace

Result<Bytes> ProducerTable::snapshot(Offset upto) const {
  PYRALOG_ASSERT(upto <= end_);
  struct Row {
    std::int64_t id;
    const Producer* producer;
    std::size_t keep;
  };
  std::vector<Row> rows;
  rows.reserve(producers_.size());
  for (const auto& [id, producer] : producers_) {
    std::size_t keep = producer.below(upto.value);
    if (PYRALOG_PLANT("producer.snapshot_unsynced")) keep = producer.count;
    if (!producer.exact(keep)) {
      return fail(Code::kUnavailable, "producer snapshot at offset " + std::to_string(upto.value) +
                                          ": the log has moved on to " +
                                          std::to_string(end_.value) +
                                          "; take the snapshot before the sync and write it after");
    }
    if (keep > 0) rows.push_back({id, &producer, keep});
  }
  std::ranges::sort(rows, {}, &Row::id);
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(upto.value).le(static_cast<std::uint32_t>(rows.size()));
  for (const Row& row : rows) {
    out.le(row.id).le(row.producer->epoch);
    out.le(static_cast<std::uint8_t>(row.producer->forgot ? 1 : 0));
    out.le(static_cast<std::uint8_t>(row.keep));
    for (std::size_t i = 0; i < row.keep; ++i) {
      const Batch& batch = row.producer->batches[i];
      out.le(batch.base_offset).le(batch.last_delta).le(batch.base_sequence);
      out.le(batch.max_timestamp).le(batch.appended_ms);
    }
  }
  out.le(crc32c(out.view()));
  return out.take();
}

Result<void> ProducerTable::restore_producer(Reader& in, std::int64_t covers,
                                             ProducerTable& table) {
  const auto id = in.le<std::int64_t>();
  Producer producer;
  producer.epoch = in.le<std::int16_t>();
  producer.forgot = (in.le<std::uint8_t>() & 1) != 0;
  producer.count = in.le<std::uint8_t>();
  if (id < 0 || producer.epoch < 0 || producer.count == 0 || producer.count > kRemembered) {
    return damaged("an impossible producer");
  }
  std::int64_t floor = 0;
  for (std::size_t i = 0; i < producer.count; ++i) {
    Batch& batch = producer.batches[i];
    batch.base_offset = in.le<std::int64_t>();
    batch.last_delta = in.le<std::int32_t>();
    batch.base_sequence = in.le<std::int32_t>();
    batch.max_timestamp = in.le<std::int64_t>();
    batch.appended_ms = in.le<std::int64_t>();
    if (batch.base_offset < floor || batch.last_delta < 0 || batch.base_sequence < 0 ||
        batch.base_offset > covers - batch.last_delta - 1) {
      return damaged("an impossible batch");
    }
    floor = batch.next_offset();
  }
  if (!table.producers_.emplace(id, producer).second) return damaged("a producer twice");
  return {};
}

bool ProducerTable::is_current(ByteView snapshot) {
  return snapshot.size() >= kMagic.size() + 2 &&
         load_le<std::uint16_t>(snapshot.data() + kMagic.size()) == kVersion;
}

void ProducerTable::cap_times(RunningMs now, bool foreign) {
  for (auto& [id, producer] : producers_) {
    for (std::size_t i = 0; i < producer.count; ++i) {
      std::int64_t& at = producer.batches[i].appended_ms;
      at = foreign ? now.ms : std::min(at, now.ms);
    }
  }
}

Result<ProducerTable> ProducerTable::restore(ByteView snapshot, RunningMs now, Options options) {
  constexpr std::size_t kFixed = 8 + 2 + 8 + 4 + 4;
  if (snapshot.size() < kFixed) return damaged("cut short");
  const ByteView body = snapshot.first(snapshot.size() - 4);
  Reader in(body);
  if (as_text(in.raw(kMagic.size())) != kMagic) return damaged("not a producer snapshot");
  const auto version = in.le<std::uint16_t>();
  if (version > kVersion) {
    return fail(Code::kUnsupported, "producer snapshot: version " + std::to_string(version) +
                                        " is newer than this program; use the newer one");
  }
  if (crc32c(body) != load_le<std::uint32_t>(snapshot.data() + body.size())) {
    return damaged("checksum mismatch");
  }
  ProducerTable table(options);
  const auto covers = in.le<std::int64_t>();
  const auto count = in.le<std::uint32_t>();
  if (version < kOnWallClock || covers < 0 || count > in.left() / kMinProducerBytes) {
    return damaged("an impossible header");
  }
  table.end_ = Offset(covers);
  table.producers_.reserve(count);
  for (std::uint32_t i = 0; i < count; ++i) PYRALOG_TRY(restore_producer(in, covers, table));
  if (!in.done()) return damaged("length mismatch");
  table.cap_times(now, version == kOnWallClock && !PYRALOG_PLANT("producer.believe_old_times"));
  table.part_.hold(table.producers_.size());
  return table;
}

}  // namespace pyralog::producer
