#include "producer/producer_table.h"

#include <algorithm>

#include "base/plant.h"
#include "producer/sequence.h"

namespace pyralog::producer {
namespace {

constexpr std::int64_t kScanIntervalMs = 1000;
/// Clients send a batch again for two minutes unless told otherwise; nobody tells them so much more.
constexpr std::int64_t kSilentLongMs = 900'000;

}  // namespace

KafkaError kafka_error(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAppend:
      return KafkaError::kNone;
    case Verdict::kDuplicate:
      return KafkaError::kNone;
    case Verdict::kOutOfOrder:
      return KafkaError::kOutOfOrderSequenceNumber;
    case Verdict::kFenced:
      return KafkaError::kInvalidProducerEpoch;
    case Verdict::kUnknownProducer:
      return KafkaError::kUnknownProducerId;
    case Verdict::kTooManyProducers:
      return KafkaError::kPolicyViolation;
  }
  return KafkaError::kUnknownServerError;
}

std::string describe(const Judgement& judgement, const BatchHeader& header) {
  const std::string who = "producer " + std::to_string(header.producer_id) + ", epoch " +
                          std::to_string(header.producer_epoch) + ", sequence " +
                          std::to_string(header.base_sequence) + ": ";
  switch (judgement.verdict) {
    case Verdict::kAppend:
      return who + "in sequence";
    case Verdict::kDuplicate:
      return who + "already appended at offset " + std::to_string(judgement.base_offset.value);
    case Verdict::kOutOfOrder:
      return who + "out of order, sequence " + std::to_string(judgement.expected_sequence) +
             " comes next";
    case Verdict::kFenced:
      return who + "fenced by epoch " + std::to_string(judgement.known_epoch) +
             "; another instance uses this producer id";
    case Verdict::kUnknownProducer:
      return who +
             "not known here (expired, or its records are deleted); it must begin with "
             "sequence 0";
    case Verdict::kTooManyProducers:
      return who +
             "refused, as many producers are remembered as may be; reuse producers, raise "
             "max.producer.ids or lower producer.id.expiration.ms";
  }
  return who + "unknown verdict";
}

std::size_t ProducerTable::Producer::below(std::int64_t offset) const {
  std::size_t n = 0;
  while (n < count && batches[n].next_offset() <= offset) ++n;
  return n;
}

std::int32_t ProducerTable::Producer::next_sequence() const {
  return sequence_plus(sequence_plus(last().base_sequence, last().last_delta), 1);
}

bool ProducerTable::silent(const Producer& producer, RunningMs now, std::int64_t longer_than_ms) {
  const std::int64_t last = producer.last().appended_ms;
  return now.ms > last && now.ms - last > longer_than_ms;
}

bool ProducerTable::expired(const Producer& producer, RunningMs now) const {
  return silent(producer, now, options_.expiration_ms);
}

bool ProducerTable::may_admit(RunningMs now) {
  const bool full = part_.full() && !PYRALOG_PLANT("producer.remember_all");
  if (producers_.size() < options_.max_producers && !full) return true;
  if (now < next_scan_) return false;
  next_scan_ = RunningMs{now.ms + kScanIntervalMs};
  return expire(now) > 0;
}

Judgement ProducerTable::judge_known(const Producer& producer, const BatchHeader& header) {
  Judgement out;
  out.known_epoch = producer.epoch;
  if (header.producer_epoch < producer.epoch) {
    out.verdict = Verdict::kFenced;
    return out;
  }
  if (header.producer_epoch > producer.epoch) {
    out.expected_sequence = 0;
    out.verdict = header.base_sequence == 0 ? Verdict::kAppend : Verdict::kOutOfOrder;
    return out;
  }
  for (std::size_t i = producer.count; i-- > 0;) {
    const Batch& batch = producer.batches[i];
    if (PYRALOG_PLANT("producer.forget_sequence")) break;
    if (batch.base_sequence != header.base_sequence ||
        batch.last_delta != header.last_offset_delta) {
      continue;
    }
    out.verdict = Verdict::kDuplicate;
    out.base_offset = Offset(batch.base_offset);
    out.last_offset = Offset(batch.next_offset() - 1);
    out.max_timestamp = batch.max_timestamp;
    return out;
  }
  out.expected_sequence = producer.next_sequence();
  const bool next = header.base_sequence == out.expected_sequence;
  out.verdict =
      next || PYRALOG_PLANT("producer.skip_gap_check") ? Verdict::kAppend : Verdict::kOutOfOrder;
  return out;
}

Judgement ProducerTable::judge(const BatchHeader& header, RunningMs now) {
  Judgement out;
  if (!header.idempotent()) return out;
  const auto found = producers_.find(header.producer_id);
  if (found != producers_.end() && !expired(found->second, now)) {
    return judge_known(found->second, header);
  }
  if (header.base_sequence != 0) {
    out.verdict = Verdict::kUnknownProducer;
  } else if (found == producers_.end() && !may_admit(now)) {
    out.verdict = Verdict::kTooManyProducers;
  }
  return out;
}

void ProducerTable::apply(const BatchHeader& header, Offset base_offset, RunningMs appended) {
  const std::int64_t next = base_offset.value + header.last_offset_delta + 1;
  PYRALOG_ASSERT(base_offset >= end_ && header.last_offset_delta >= 0);
  end_ = Offset(next);
  if (!header.idempotent() || header.control()) return;
  Producer& producer = producers_[header.producer_id];
  // A new epoch, or a producer that began anew after it had expired: what was before must not be
  // taken for a duplicate of what comes.
  if (producer.count > 0 && (header.producer_epoch != producer.epoch ||
                             header.base_sequence != producer.next_sequence())) {
    producer.count = 0;
    producer.forgot = true;
  }
  producer.epoch = header.producer_epoch;
  if (producer.count == kRemembered) {
    std::move(producer.batches.begin() + 1, producer.batches.end(), producer.batches.begin());
    --producer.count;
    producer.forgot = true;
  }
  Batch& batch = producer.batches[producer.count++];
  batch.base_offset = base_offset.value;
  batch.last_delta = header.last_offset_delta;
  batch.base_sequence = header.base_sequence;
  batch.max_timestamp = header.max_timestamp;
  batch.appended_ms = appended.ms;
  part_.hold(producers_.size());
}

std::size_t ProducerTable::expire(RunningMs now) {
  const std::int64_t longest =
      part_.full() ? std::min(kSilentLongMs, options_.expiration_ms) : options_.expiration_ms;
  const std::size_t gone = std::erase_if(
      producers_, [&](const auto& entry) { return silent(entry.second, now, longest); });
  part_.hold(producers_.size());
  return gone;
}

bool ProducerTable::truncate_from(Offset end) {
  if (end >= end_) return true;
  for (const auto& [id, producer] : producers_) {
    if (!producer.exact(producer.below(end.value))) return false;
  }
  for (auto& [id, producer] : producers_) {
    producer.count = static_cast<std::uint8_t>(producer.below(end.value));
  }
  std::erase_if(producers_, [](const auto& entry) { return entry.second.count == 0; });
  part_.hold(producers_.size());
  end_ = end;
  return true;
}

std::vector<Offset> ProducerTable::remembered() const {
  std::vector<Offset> out;
  for (const auto& [id, producer] : producers_) {
    for (std::size_t i = 0; i < producer.count; ++i) {
      out.emplace_back(producer.batches[i].base_offset);
    }
  }
  std::ranges::sort(out);
  return out;
}

std::vector<ActiveProducer> ProducerTable::list(RunningMs now) const {
  std::vector<ActiveProducer> out;
  out.reserve(producers_.size());
  for (const auto& [id, producer] : producers_) {
    if (expired(producer, now)) continue;
    const Batch& last = producer.last();
    out.push_back({ProducerId(id), producer.epoch,
                   sequence_plus(last.base_sequence, last.last_delta), last.max_timestamp});
  }
  std::ranges::sort(out, {}, &ActiveProducer::id);
  return out;
}

}  // namespace pyralog::producer
