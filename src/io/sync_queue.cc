#include "io/sync_queue.h"

#include "base/plant.h"

namespace pyralog::io {

Task<Result<void>> SyncQueue::sync(std::shared_ptr<File> owner) {
  const std::shared_ptr<File> alive = std::move(owner);
  // A round that is in flight may have begun before our write: only one that starts later counts.
  std::uint64_t needed = started_ + 1;
  if (PYRALOG_PLANT("io.sync_joins_round_in_flight") && finished_ < started_) needed = started_;
  while (finished_ < needed && failed_round_ == UINT64_MAX) {
    if (finished_ < started_) {
      co_await done_.wait(Instant::never());
      continue;
    }
    ++started_;
    Result<void> result = co_await raw_();
    finished_ = started_;
    if (!result) {
      failed_round_ = finished_;
      error_ = std::move(result.error());
    }
    done_.wake_all();
  }
  if (needed >= failed_round_ || finished_ < needed) co_return fail(error_);
  co_return Result<void>{};
}

namespace {
Task<void> sync_into(std::shared_ptr<File> file, Result<void>* result) {
  *result = co_await file->sync();
}
}  // namespace

Task<std::vector<Result<void>>> sync_all(std::vector<std::shared_ptr<File>> files) {
  std::vector<Result<void>> results(files.size());
  if (files.size() == 1) {
    results[0] = co_await files[0]->sync();
    co_return results;
  }
  TaskGroup group;
  for (std::size_t i = 0; i < files.size(); ++i) group.spawn(sync_into(files[i], &results[i]));
  co_await group.join();
  co_return results;
}

}  // namespace pyralog::io
