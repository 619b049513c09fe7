#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "io/disk.h"
#include "io/shard.h"
#include "journal/journal.h"
#include "model/fundamental.h"
#include "replica/messages.h"

namespace pyralog::replica {

/// What the replicas of a node have promised, durably: a journal `<data>/promises.log`. Lives on
/// the shard that opened it.
class Promises {
 public:
  struct Options {
    Uuid owner;  ///< the disk's incarnation: another's promises are none
    std::uint64_t rewrite_bytes = 4u << 20;  ///< a longer journal is replaced by what stands
  };
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Promises>>> open(io::Disk& disk,
                                                                        std::string data_dir,
                                                                        Options options);
  /// Nothing promised yet: all zero.
  [[nodiscard]] Promise of(const PartitionId& id) const;
  /// Durable when it returns; those of one turn of the loop share a sync. After an error of the
  /// device every call fails until a restart.
  [[nodiscard]] io::Task<Result<void>> store(PartitionId id, Promise promise);
  /// The partition is gone for good; the file forgets it when it is rewritten.
  void forget(const PartitionId& id) { all_.erase(id); }
  /// Waits for a rewrite that is under way; no call may follow.
  [[nodiscard]] io::Task<void> stop() { return tasks_.join(); }
  [[nodiscard]] const std::unordered_map<PartitionId, Promise>& all() const { return all_; }
  [[nodiscard]] std::size_t size() const { return all_.size(); }

 private:
  explicit Promises(Options options) : options_(options) {}
  io::Task<void> rewrite();

  Options options_;
  std::unique_ptr<journal::Journal> journal_;
  std::unordered_map<PartitionId, Promise> all_;
  bool rewriting_ = false;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::replica
