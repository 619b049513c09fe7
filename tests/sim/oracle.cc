#include "oracle.h"

#include <algorithm>
#include <utility>

#include "base/hash.h"

namespace pyralog::simtest {

namespace {
constexpr std::size_t kMaxViolations = 20;
constexpr std::size_t kInflateBound = 1u << 20;

/// What a record below the high watermark survives.
Strength promise_of(Durability durability) {
  switch (durability) {
    case Durability::kMemory:
      return Strength::kNothing;
    case Durability::kOs:
      return Strength::kProcess;
    case Durability::kFsync:
      return Strength::kPower;
  }
  return Strength::kPower;
}
}  // namespace

const char* name(Strength strength) {
  switch (strength) {
    case Strength::kNothing:
      return "nothing";
    case Strength::kProcess:
      return "process end";
    case Strength::kPower:
      return "power loss";
  }
  return "?";
}

void Oracle::violate(std::string what) {
  trace_.add("VIOLATION {}", what);
  if (violations_.size() < kMaxViolations) violations_.push_back(std::move(what));
}

std::uint32_t Oracle::add_partition(std::string topic, std::int32_t index, Durability durability,
                                    Forgets forgets) {
  Partition partition;
  partition.topic = std::move(topic);
  partition.index = index;
  partition.durability = durability;
  partition.forgets = forgets;
  partitions_.push_back(std::move(partition));
  return static_cast<std::uint32_t>(partitions_.size() - 1);
}

std::uint64_t Oracle::new_record(std::uint32_t partition, std::uint32_t producer, bool idempotent,
                                 std::int64_t timestamp) {
  sent_.push_back({partition, producer, 0, idempotent, timestamp, false});
  sent_.back().tombstone = is_tombstone(partition, sent_.size());
  return sent_.size();
}

Bytes Oracle::value_of(std::uint64_t record) {
  const std::uint64_t h = record * 0x9e3779b97f4a7c15U;
  // Mostly short; some as long as a page, so that batches end up on both sides of its edge.
  const std::size_t pad = (h >> 60U) == 0 ? 1000 + (h >> 40U) % 4000 : (h >> 40U) % 200;
  Bytes value(8 + pad);
  store_le(value.data(), record);
  for (std::size_t i = 0; i < pad; ++i) {
    value[8 + i] = static_cast<std::uint8_t>('a' + ((h >> (i % 8 * 6)) + i / 16) % 26);
  }
  return value;
}

void Oracle::note(Partition& partition, std::int64_t offset, std::uint64_t record,
                  std::int32_t epoch, Strength strength, const char* how) {
  const auto at = static_cast<std::size_t>(offset);
  if (partition.known.size() <= at) partition.known.resize(at + 1);
  Partition::Known& known = partition.known[at];
  if (known.record != 0 && known.record != record) {
    violate(fmt::format("{} offset {}: was record {}, is now record {} ({})", partition.name(),
                        offset, known.record, record, how));
  }
  if (known.epoch >= 0 && epoch >= 0 && known.epoch != epoch) {
    violate(fmt::format("{} offset {}: was of epoch {}, is now of epoch {} ({})", partition.name(),
                        offset, known.epoch, epoch, how));
  }
  known.record = record;
  known.epoch = std::max(known.epoch, epoch);
  known.strength = std::max(known.strength, strength);
}

void Oracle::acknowledged(std::uint32_t p, std::int64_t base,
                          const std::vector<std::uint64_t>& records, Acks acks) {
  Partition& partition = partitions_[p];
  Strength strength = promise_of(partition.durability);
  if (acks != Acks::kAll) strength = std::min(strength, Strength::kProcess);
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::int64_t offset = base + static_cast<std::int64_t>(i);
    // A repeated batch gets its old answer, also when a restart has since emptied its topic.
    if (offset >= partition.start) {
      note(partition, offset, records[i], -1, strength, "acknowledged");
    }
  }
  if (base >= partition.start) check_order(partition, base, records.front());
}

/// A plain producer's batches lie in the order of their answers, since each attempt is appended
/// anew; those of an idempotent one in the order in which they were made, whenever the answer came.
void Oracle::check_order(Partition& partition, std::int64_t base, std::uint64_t first) {
  const std::uint32_t producer = sent(first).producer;
  if (!sent(first).idempotent) {
    auto [last, fresh] = partition.last_ack.try_emplace(producer, base);
    if (!fresh && base <= last->second) {
      violate(fmt::format("{}: producer {} was acknowledged at {} and, for a later batch, at {}",
                          partition.name(), producer, last->second, base));
    }
    last->second = base;
    return;
  }
  auto& acked = partition.acked[producer];
  const auto at = acked.emplace(first, base).first;
  const bool below = at != acked.begin() && std::prev(at)->second >= base;
  const bool above = std::next(at) != acked.end() && std::next(at)->second <= base;
  if (below || above) {
    const auto other = below ? std::prev(at) : std::next(at);
    violate(fmt::format("{}: record {} of producer {} was acknowledged at {}, its record {} at {}",
                        partition.name(), first, producer, base, other->first, other->second));
  }
}

void Oracle::sequence_lost(std::uint32_t p, std::uint64_t losses_then, std::int64_t start,
                           std::int64_t last, const std::string& why) {
  const Partition& partition = partitions_[p];
  const bool forgotten = partition.forgets.from_the_front && start > 0 && start > last;
  if (forgotten) stats_.add("rare.sequence_forgotten_with_its_records");
  if (losses_then == partition.losses && !forgotten) {
    violate(fmt::format("{}: a producer's sequence was forgotten though nothing was lost: {}",
                        partition.name(), why));
  }
  stats_.add("client.sequence_lost");
}

void Oracle::shown_high_watermark(std::uint32_t p, std::int64_t now, std::int64_t floor,
                                  std::uint64_t losses_then) {
  Partition& partition = partitions_[p];
  if (losses_then != partition.losses) return;
  if (now < floor) {
    violate(fmt::format("{}: the high watermark went back from {} to {}", partition.name(), floor,
                        now));
  }
  partition.high_watermark = std::max(partition.high_watermark, now);
}

void Oracle::shown_epoch(std::uint32_t p, std::int32_t epoch) {
  Partition& partition = partitions_[p];
  if (epoch < partition.epoch) {
    violate(fmt::format("{}: leader epoch {} after {}", partition.name(), epoch, partition.epoch));
  }
  partition.epoch = std::max(partition.epoch, epoch);
}

std::optional<SeenBatch> Oracle::open_batch(const Partition& partition, std::uint32_t p,
                                            ByteView batch) {
  SeenBatch seen;
  BatchCheck check;
  check.max_bytes = 1u << 26;
  check.open_compressed = true;
  const auto fault = check_batch(batch, check, seen.header);
  // What compaction leaves has fewer records than offsets; its checksum holds all the same.
  const bool sparse = partition.forgets.compacted && fault == BatchFault::kBadCount &&
                      seen.header.count <= seen.header.last_offset_delta &&
                      batch_crc(batch) == seen.header.crc;
  if (fault && !sparse) {
    violate(fmt::format("{} offset {}: a batch was served that is unsound: {}", partition.name(),
                        seen.header.base_offset, describe(*fault)));
    return std::nullopt;
  }
  auto reader = RecordReader::open(batch, kInflateBound);
  while (reader) {
    auto record = reader->next();
    if (!record || !*record) break;
    const auto& headers = (*record)->headers;
    const bool tombstone = !(*record)->value && headers.size() == 1;
    const ByteView value = tombstone ? headers[0].value.value_or(ByteView{})
                                     : (*record)->value.value_or(ByteView{});
    const std::uint64_t number = value.size() >= 8 ? load_le<std::uint64_t>(value.data()) : 0;
    if (number == 0 || number > sent_.size() || sent(number).tombstone != tombstone ||
        !std::ranges::equal(value, value_of(number))) {
      violate(fmt::format("{} offset {}: holds a record that nobody sent", partition.name(),
                          (*record)->offset));
      return std::nullopt;
    }
    const SentRecord& was = sent(number);
    if (was.partition != p || (*record)->timestamp != was.timestamp) {
      violate(fmt::format("{} offset {}: record {} was sent to {} with timestamp {}, not {}",
                          partition.name(), (*record)->offset, number,
                          partitions_[was.partition].name(), was.timestamp, (*record)->timestamp));
    }
    if (partition.forgets.compacted &&
        ((*record)->key ? as_text(*(*record)->key) : std::string_view()) != key_of(number)) {
      violate(fmt::format("{} offset {}: record {} has another key", partition.name(),
                          (*record)->offset, number));
    }
    seen.records.push_back(number);
    seen.offsets.push_back((*record)->offset);
  }
  if (seen.records.size() != static_cast<std::size_t>(seen.header.count)) {
    violate(fmt::format("{} offset {}: the records of a batch do not parse", partition.name(),
                        seen.header.base_offset));
    return std::nullopt;
  }
  return seen;
}

std::optional<std::vector<SeenBatch>> Oracle::served(std::uint32_t p, std::int64_t offset,
                                                     ByteView bytes, std::int64_t high_watermark) {
  Partition& partition = partitions_[p];
  std::vector<SeenBatch> batches;
  std::int64_t next = -1;
  while (bytes.size() >= kBatchHeaderBytes) {
    const auto header = parse_batch_header(bytes);
    if (!header || header->total_bytes() > bytes.size()) break;
    auto batch = open_batch(partition, p, bytes.first(header->total_bytes()));
    if (!batch) return std::nullopt;
    const std::int64_t base = batch->header.base_offset;
    if (next < 0 ? base > offset || batch->header.next_offset() <= offset : base != next) {
      violate(fmt::format("{}: a read from {} continues at {} where {} was due", partition.name(),
                          offset, base, next < 0 ? offset : next));
      return std::nullopt;
    }
    next = batch->header.next_offset();
    if (next > high_watermark) {
      violate(fmt::format("{}: offset {} was served above the high watermark {}", partition.name(),
                          next - 1, high_watermark));
    }
    for (std::size_t i = 0; i < batch->records.size(); ++i) {
      note(partition, batch->offsets[i], batch->records[i], batch->header.leader_epoch, promise_of(partition.durability), "served");
    }
    bytes = bytes.subspan(header->total_bytes());
    batches.push_back(std::move(*batch));
  }
  return batches;
}

void Oracle::found_by_time(std::uint32_t p, std::int64_t timestamp, std::int64_t offset,
                           std::int64_t found_timestamp, std::int64_t floor) {
  Partition& partition = partitions_[p];
  const auto known = static_cast<std::int64_t>(partition.known.size());
  if (offset >= 0 && offset < known) {
    const std::uint64_t record = partition.known[static_cast<std::size_t>(offset)].record;
    if (record != 0 &&
        (sent(record).timestamp < timestamp || sent(record).timestamp != found_timestamp)) {
      violate(fmt::format("{}: a search for time {} found offset {}, whose time is {}",
                          partition.name(), timestamp, offset, sent(record).timestamp));
    }
  }
  // Only what is surely below the high watermark must be found.
  const std::int64_t upto = std::min(floor, offset < 0 ? known : offset);
  for (std::int64_t o = 0; o < std::min(upto, known); ++o) {
    const std::uint64_t record = partition.known[static_cast<std::size_t>(o)].record;
    if (record == 0 || sent(record).timestamp < timestamp) continue;
    if (partition.forgets.compacted || partition.forgets.from_the_front) {
      partition.passed_over.insert_or_assign(o, record);
      continue;
    }
    violate(fmt::format("{}: a search for time {} found offset {}, passing over {}",
                        partition.name(), timestamp, offset, o));
    return;
  }
}

void Oracle::ended_cleanly() {
  for (Partition& partition : partitions_) {
    if (partition.durability == Durability::kMemory) continue;
    for (auto& known : partition.known) known.strength = Strength::kPower;
  }
}

void Oracle::check_producers(const Partition& partition, const std::vector<SeenBatch>& log) {
  std::map<std::uint64_t, std::uint32_t> copies;
  std::map<std::uint32_t, std::uint64_t> last_record;
  std::map<std::int64_t, std::int32_t> next_sequence;
  std::int32_t epoch = 0;
  for (const SeenBatch& batch : log) {
    if (batch.header.leader_epoch < epoch) {
      violate(fmt::format("{} offset {}: epoch {} behind epoch {}", partition.name(),
                          batch.header.base_offset, batch.header.leader_epoch, epoch));
    }
    epoch = batch.header.leader_epoch;
    if (batch.header.idempotent()) {
      const auto due = next_sequence.find(batch.header.producer_id);
      // What came before the first one may have been forgotten.
      const std::int32_t first = partition.start > 0 ? batch.header.base_sequence : 0;
      const std::int32_t expected = due == next_sequence.end() ? first : due->second;
      // Batches that compaction has put together have no producer any more.
      if (partition.forgets.compacted ? batch.header.base_sequence < expected
                              : batch.header.base_sequence != expected) {
        violate(fmt::format("{} offset {}: producer id {} goes on with sequence {}, {} was due",
                            partition.name(), batch.header.base_offset, batch.header.producer_id,
                            batch.header.base_sequence, expected));
      }
      next_sequence[batch.header.producer_id] = batch.header.base_sequence + batch.header.last_offset_delta + 1;
    }
    for (const std::uint64_t record : batch.records) {
      const SentRecord& was = sent(record);
      const std::uint32_t count = ++copies[record];
      if (was.idempotent && count > 1) {
        violate(fmt::format("{}: record {} of an idempotent producer is there twice",
                            partition.name(), record));
      }
      if (count > was.attempts) {
        violate(fmt::format("{}: record {} is there {} times, sent {} times", partition.name(),
                            record, count, was.attempts));
      }
      if (count > 1) stats_.add("rare.duplicate_of_a_plain_producer");
      if (!was.idempotent) continue;
      std::uint64_t& last = last_record[was.producer];
      if (record <= last) {
        violate(fmt::format("{}: record {} of producer {} comes behind its record {}",
                            partition.name(), record, was.producer, last));
      }
      last = record;
    }
  }
}

void Oracle::recovered(std::uint32_t p, const std::vector<Bytes>& batches, std::int64_t start,
                       std::int64_t end, std::int32_t epoch, Strength survives,
                       std::int64_t now_ms) {
  Partition& partition = partitions_[p];
  std::vector<SeenBatch> log;
  for (const Bytes& bytes : batches) {
    auto batch = open_batch(partition, p, bytes);
    if (!batch) return;
    log.push_back(std::move(*batch));
  }
  if (epoch <= partition.epoch) {
    violate(
        fmt::format("{}: epoch {} after a restart, as high as before", partition.name(), epoch));
  }
  partition.epoch = std::max(partition.epoch, epoch);
  const bool memory = partition.durability == Durability::kMemory;
  if (!memory) {
    shown_start(p, start, partition.start);
    if (start > partition.deleted) check_retention(p, log, start, survives, now_ms);
  }
  partition.start = start;
  std::uint64_t lost = 0;
  for (auto offset = static_cast<std::size_t>(memory ? 0 : end); offset < partition.known.size();
       ++offset) {
    const Partition::Known& known = partition.known[offset];
    if (known.record == 0) continue;
    ++lost;
    if (known.strength >= survives) {
      violate(
          fmt::format("{} offset {}: record {} was promised to survive {} and is gone (the log "
                      "ends at {})",
                      partition.name(), offset, known.record, name(known.strength), end));
    }
  }
  const Strength shown = promise_of(partition.durability);
  const bool receded = end < partition.high_watermark;
  if (receded && !memory && shown >= survives) {
    violate(fmt::format("{}: ends at {}, below the high watermark {} that was shown",
                        partition.name(), end, partition.high_watermark));
  }
  if (lost > 0 || receded) {
    ++partition.losses;
    partition.last_ack.clear();
    partition.acked.clear();
    partition.high_watermark = memory ? 0 : std::min(partition.high_watermark, end);
    stats_.add(memory ? "rare.memory_topic_emptied" : "rare.unpromised_records_lost");
  }
  partition.known.resize(
      memory ? 0 : std::min<std::size_t>(partition.known.size(), static_cast<std::size_t>(end)));
  // Whatever recovery keeps it has synced.
  std::uint64_t unseen = 0;
  for (const SeenBatch& batch : log) {
    for (std::size_t i = 0; i < batch.records.size(); ++i) {
      const std::int64_t offset = batch.offsets[i];
      const auto at = static_cast<std::size_t>(offset);
      if (at >= partition.known.size() || partition.known[at].record == 0) ++unseen;
      note(partition, offset, batch.records[i], batch.header.leader_epoch, shown, "recovered");
    }
  }
  if (unseen > 0) stats_.add("rare.unacknowledged_records_kept", unseen);
  check_producers(partition, log);
  check_forgotten(p, log, end, now_ms);
  // Nothing is under way now: what lies above was deleted by nobody.
  partition.deleted = std::min(partition.deleted, partition.start);
}

}  // namespace pyralog::simtest
