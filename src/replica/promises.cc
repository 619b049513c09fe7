#include "replica/promises.h"

#include <algorithm>
#include <vector>

#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::replica {

namespace {

constexpr std::uint32_t kJournalKind = 0x4d4f5250;  // "PROM"
// First byte of a frame.
constexpr std::uint8_t kPromised = 1;
constexpr std::uint8_t kForgotten = 2;

void write_partition(Writer& out, const PartitionId& id) {
  out.raw(id.topic.uuid.bytes).le(id.partition.value);
}

Bytes frame_of(const PartitionId& id, const Promise& promise) {
  Writer out;
  out.le(kPromised);
  write_partition(out, id);
  out.le(promise.promised.value).le(promise.joined.value);
  out.le(static_cast<std::uint8_t>(promise.in_doubt ? 1 : 0));
  return out.take();
}

Result<void> replay(ByteView frame, std::unordered_map<PartitionId, Promise>& all) {
  Reader in(frame);
  const auto kind = in.le<std::uint8_t>();
  PartitionId id;
  const ByteView topic = in.raw(id.topic.uuid.bytes.size());
  std::ranges::copy(topic, id.topic.uuid.bytes.begin());
  id.partition = PartitionIndex(in.le<std::int32_t>());
  if (in.ok() && kind == kForgotten && in.done()) {
    all.erase(id);
    return {};
  }
  Promise promise;
  promise.promised = Epoch(in.le<std::uint32_t>());
  promise.joined = Epoch(in.le<std::uint32_t>());
  const auto doubt = in.le<std::uint8_t>();
  if (kind > kForgotten) {
    return fail(Code::kUnsupported, "promises.log has frames of kind " + std::to_string(kind) +
                                        ", newer than this pyralog; start the version that wrote them");
  }
  if (kind != kPromised || !in.done() || doubt > 1) {
    return fail(Code::kCorrupt, "promises.log: a frame is none; the replicas of this node must be replaced "
                                "(cluster replace-disk)");
  }
  promise.in_doubt = doubt == 1;
  all[id] = promise;
  return {};
}

}  // namespace

io::Task<Result<std::unique_ptr<Promises>>> Promises::open(io::Disk& disk, std::string data_dir,
                                                           Options options) {
  std::unique_ptr<Promises> self(new Promises(options));
  journal::Options journal;
  journal.kind = kJournalKind;
  journal.owner = options.owner;
  PYRALOG_CO_ASSIGN(self->journal_,
                    co_await journal::Journal::open(disk, data_dir + "/promises.log", journal,
                                                    [&](ByteView frame) { return replay(frame, self->all_); }));
  co_return self;
}

Promise Promises::of(const PartitionId& id) const {
  const auto found = all_.find(id);
  return found == all_.end() ? Promise{} : found->second;
}

io::Task<Result<void>> Promises::store(PartitionId id, Promise promise) {
  PYRALOG_CO_ASSIGN(const journal::Position at, journal_->append(frame_of(id, promise)));
  all_[id] = promise;
  if (!PYRALOG_PLANT("replica.promise_unsynced")) PYRALOG_CO_TRY(co_await journal_->commit(at));
  if (journal_->size_bytes() > options_.rewrite_bytes && !rewriting_) {
    rewriting_ = true;
    tasks_.spawn(rewrite());
  }
  co_return Result<void>{};
}

Result<void> Promises::forget(const PartitionId& id) {
  if (all_.erase(id) == 0) return {};
  Writer out;
  out.le(kForgotten);
  write_partition(out, id);
  PYRALOG_TRY(journal_->append(out.view()));
  return {};
}

io::Task<void> Promises::rewrite() {
  const auto rewritten = co_await journal_->rewrite([this] {
    std::vector<Bytes> frames;
    for (const auto& [id, promise] : all_) frames.push_back(frame_of(id, promise));
    return frames;
  });
  if (!rewritten) {
    observe::log_warn("replica.promises_not_rewritten", {{"reason", rewritten.error().message}});
  }
  options_.rewrite_bytes = std::max(options_.rewrite_bytes, 2 * journal_->size_bytes());
  rewriting_ = false;
}

}  // namespace pyralog::replica
