#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "io/disk.h"

namespace pyralog::cluster {

/// `<data>/reserve`: a file whose only worth is the space that it takes. It goes when the disk is
/// full, so that deletions, committed offsets and metadata can still be written, and comes back
/// when there is space again. Decides nothing. Lives on shard 0; one call at a time.
class Reserve {
 public:
  Reserve(io::Disk& disk, const std::string& data_dir)
      : disk_(&disk), dir_(data_dir), path_(data_dir + "/reserve") {}

  /// Sees how much an earlier start has left; what cannot be opened counts as nothing.
  [[nodiscard]] io::Task<void> open();
  /// What it takes of the disk; 0 = there is none.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// Makes it take `bytes` (above 0), durably. kExhausted, kIo: there is none now.
  [[nodiscard]] io::Task<Result<void>> hold(std::uint64_t bytes);
  /// Removes it, durably; fine if there is none.
  [[nodiscard]] io::Task<Result<void>> release();

 private:
  [[nodiscard]] io::Task<Result<void>> make(std::uint64_t bytes);

  io::Disk* disk_;
  std::string dir_;
  std::string path_;
  std::uint64_t bytes_ = 0;
};

}  // namespace pyralog::cluster
