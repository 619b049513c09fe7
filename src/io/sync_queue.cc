#include "io/sync_queue.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::io {

namespace {
/// Under way and lined up.
constexpr std::uint64_t kAtOnce = 2;
}  // namespace

void SyncQueue::Sync::begin() {
  // In this order, and `on_its_way` in the other: who finds that this has not begun is covered.
  queue_.begun_.fetch_add(1);
  covers_ = queue_.requests_.load();
  queue_.promised_.store(covers_);
}

bool SyncQueue::on_its_way(std::uint64_t request) const {
  const bool lined_up = begun_.load() < submitted_;
  return lined_up || (in_flight_ > 0 && promised_.load() >= request);
}

Task<Result<void>> SyncQueue::sync(std::shared_ptr<File> owner) {
  const std::shared_ptr<File> alive = std::move(owner);
  // One that is under way may have begun before our write: only one that begins later counts.
  std::uint64_t mine = requests_.fetch_add(1) + 1;
  if (PYRALOG_PLANT("io.sync_joins_round_in_flight") && in_flight_ > 0) mine = promised_.load();
  while (covered_ < mine && !error_) {
    if (in_flight_ == kAtOnce || on_its_way(mine)) {
      co_await done_.wait(Instant::never());
      continue;
    }
    ++in_flight_;
    ++submitted_;
    Sync raw(*this);
    Result<void> result = co_await raw_(raw);
    --in_flight_;
    if (result) {
      covered_ = std::max(covered_, raw.covers_);
      ++syncs_;
    } else if (!error_) {
      error_ = std::move(result.error());
    }
    done_.wake_all();
  }
  if (covered_ < mine) co_return fail(*error_);
  co_return Result<void>{};
}

void SyncQueue::count(const Result<void>& other) {
  if (other) {
    ++syncs_;
  } else if (!error_) {
    error_ = other.error();
    done_.wake_all();
  }
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
