#include "log/file_cache.h"

#include "base/plant.h"

namespace pyralog::log {

void FileCache::touch(Entry& entry) { order_.splice(order_.begin(), order_, entry.place); }

io::Task<Result<std::shared_ptr<io::File>>> FileCache::open(std::string path) {
  if (const auto found = files_.find(path); found != files_.end()) {
    touch(found->second);
    co_return found->second.file;
  }
  const std::uint64_t forgotten = forgotten_;
  auto opened = co_await disk_.open(path, io::OpenMode::kRead);
  if (!opened && io::is_no_descriptors(opened.error()) && !files_.empty() &&
      !PYRALOG_PLANT("log.keep_files_when_short")) {
    // Those that are only kept for the next reader are in the way of this one.
    files_.clear();
    order_.clear();
    opened = co_await disk_.open(path, io::OpenMode::kRead);
  }
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, std::move(opened));
  if (files_.contains(path) || forgotten != forgotten_) co_return file;
  order_.push_front(path);
  files_.emplace(std::move(path), Entry{file, order_.begin()});
  while (files_.size() > max_files_) {
    files_.erase(order_.back());
    order_.pop_back();
  }
  co_return file;
}

void FileCache::forget(const std::string& path) {
  ++forgotten_;
  const auto found = files_.find(path);
  if (found == files_.end()) return;
  order_.erase(found->second.place);
  files_.erase(found);
}

void FileCache::forget_all() {
  ++forgotten_;
  files_.clear();
  order_.clear();
}

}  // namespace pyralog::log
