#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "io/disk.h"
#include "io/task.h"

namespace pyralog::log {

/// Files of closed segments, open for reading, the least recently used let go first, and all when the
/// process can open no more. A file that a reader still holds stays open until it is done. One shard only.
class FileCache {
 public:
  FileCache(io::Disk& disk, std::size_t max_files) : disk_(disk), max_files_(max_files) {}
  [[nodiscard]] io::Task<Result<std::shared_ptr<io::File>>> open(std::string path);
  /// Before a file is removed, renamed or cut.
  void forget(const std::string& path);
  void forget_all();
  [[nodiscard]] std::size_t open_files() const { return files_.size(); }

 private:
  struct Entry {
    std::shared_ptr<io::File> file;
    std::list<std::string>::iterator place;
  };
  void touch(Entry& entry);
  io::Disk& disk_;
  std::size_t max_files_;
  std::map<std::string, Entry, std::less<>> files_;
  std::list<std::string> order_;  ///< most recently used first
  std::uint64_t forgotten_ = 0;   ///< an open that was under way meanwhile is not kept
};

}  // namespace pyralog::log
