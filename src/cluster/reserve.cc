#include "cluster/reserve.h"

#include <memory>

namespace pyralog::cluster {

io::Task<void> Reserve::open() {
  const auto file = co_await disk_->open(path_, io::OpenMode::kRead);
  bytes_ = file ? (*file)->size() : 0;
}

io::Task<Result<void>> Reserve::make(std::uint64_t bytes) {
  PYRALOG_CO_ASSIGN(const std::shared_ptr<io::File> file,
                    co_await disk_->open(path_, io::OpenMode::kOpenOrCreate));
  if (file->size() > bytes) PYRALOG_CO_TRY(co_await file->truncate(bytes));
  // Also where it has its size already: one that was copied may be nothing but a hole.
  PYRALOG_CO_TRY(co_await file->allocate(bytes));
  PYRALOG_CO_TRY(co_await file->sync());
  co_return co_await disk_->sync_dir(dir_);
}

io::Task<Result<void>> Reserve::hold(std::uint64_t bytes) {
  auto made = co_await make(bytes);
  if (!made) {
    // A part of it would only be in the way.
    (void)co_await release();
    co_return made;
  }
  bytes_ = bytes;
  co_return made;
}

io::Task<Result<void>> Reserve::release() {
  auto removed = co_await disk_->remove(path_);
  if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  bytes_ = 0;
  // Some file systems give the blocks back only once that is durable.
  co_return co_await disk_->sync_dir(dir_);
}

}  // namespace pyralog::cluster
