#include "replica/promises.h"

#include <algorithm>
#include <vector>

#include "base/plant.h"
#include "observe/log.h"
#include "replica/promise.h"

namespace pyralog::replica {

namespace {

constexpr std::uint32_t kJournalKind = 0x4d4f5250;  // "PROM"
}  // namespace

io::Task<Result<std::unique_ptr<Promises>>> Promises::open(io::Disk& disk, std::string data_dir,
                                                           Options options) {
  std::unique_ptr<Promises> self(new Promises(options));
  journal::Options journal;
  journal.kind = kJournalKind;
  journal.owner = options.owner;
  PYRALOG_CO_ASSIGN(self->journal_,
                    co_await journal::Journal::open(disk, data_dir + "/promises.log", journal,
                                                    [&](ByteView frame) -> Result<void> {
                                                      PYRALOG_ASSIGN(const PromiseFrame one,
                                                                     decode_promise(frame));
                                                      self->all_[one.partition] = one.promise;
                                                      return {};
                                                    }));
  co_return self;
}

Promise Promises::of(const PartitionId& id) const {
  const auto found = all_.find(id);
  return found == all_.end() ? Promise{} : found->second;
}

io::Task<Result<void>> Promises::store(PartitionId id, Promise promise) {
  PYRALOG_CO_ASSIGN(const journal::Position at,
                    journal_->append(encode(PromiseFrame{id, promise})));
  all_[id] = promise;
  if (!PYRALOG_PLANT("replica.promise_unsynced")) PYRALOG_CO_TRY(co_await journal_->commit(at));
  if (journal_->size_bytes() > options_.rewrite_bytes && !rewriting_) {
    rewriting_ = true;
    tasks_.spawn(rewrite());
  }
  co_return Result<void>{};
}

io::Task<void> Promises::rewrite() {
  const auto rewritten = co_await journal_->rewrite([this] {
    std::vector<Bytes> frames;
    for (const auto& [id, promise] : all_) frames.push_back(encode(PromiseFrame{id, promise}));
    return frames;
  });
  if (!rewritten) {
    observe::log_warn("replica.promises_not_rewritten", {{"reason", rewritten.error().message}});
  }
  options_.rewrite_bytes = std::max(options_.rewrite_bytes, 2 * journal_->size_bytes());
  rewriting_ = false;
}

}  // namespace pyralog::replica
