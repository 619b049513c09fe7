#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/cluster.h"
#include "client/fetcher.h"
#include "client/membership.h"

namespace pyralog::client {

/// Where to begin where there is no offset, or one that the log does not have any more.
enum class OffsetReset : std::uint8_t { kEarliest, kLatest, kFail };

struct ConsumerOptions {
  std::optional<MembershipOptions> membership;  ///< needed for subscribe()
  FetchOptions fetch;
  OffsetReset reset = OffsetReset::kLatest;
  bool auto_commit = true;  ///< what poll() has handed out before is committed by a later poll()
  Duration auto_commit_interval = 5s;
};

/// Reads partitions that were assigned to it, or that it gets as a member of a group. Lives on one
/// shard, on top of a Cluster; one call at a time; close() before destroying, and before the
/// cluster.
class Consumer {
 public:
  Consumer(Cluster& cluster, ConsumerOptions options);
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;
  ~Consumer();

  /// Reads these partitions, each from its offset; no group is asked.
  void assign(const Offsets& positions);
  /// Reads these topics' partitions as a member of the group, which the next poll() joins.
  void subscribe(std::vector<std::string> topics);
  void seek(const TopicPartition& partition, std::int64_t offset);

  /// What has arrived, empty at `deadline` or when wake() is called. Joins and rejoins the group
  /// when it must, which may outlast `deadline` by a rebalance.
  [[nodiscard]] io::Task<Result<std::vector<PolledBatch>>> poll(Instant deadline);
  void wake() { fetcher_.wake(); }

  /// Commits these offsets: for each partition the next one to be read.
  [[nodiscard]] io::Task<Result<void>> commit(Offsets offsets, Instant deadline);
  /// Commits what poll() has handed out.
  [[nodiscard]] io::Task<Result<void>> commit(Instant deadline);
  /// What is held now and where it stands.
  [[nodiscard]] Offsets positions() const;
  [[nodiscard]] const Fetcher& fetcher() const { return fetcher_; }
  [[nodiscard]] const Membership* membership() const { return membership_.get(); }

  /// Commits (with auto_commit), leaves the group, ends everything.
  [[nodiscard]] io::Task<Result<void>> close(Instant deadline);

 private:
  [[nodiscard]] io::Task<Result<void>> rebalance(Instant deadline);
  [[nodiscard]] io::Task<Result<void>> begin_reading(std::vector<TopicPartition> partitions,
                                                     Instant deadline);
  [[nodiscard]] io::Task<Result<void>> reset(std::vector<TopicPartition> partitions,
                                             Instant deadline);

  Cluster& cluster_;
  ConsumerOptions options_;
  Fetcher fetcher_;
  std::unique_ptr<Membership> membership_;
  std::vector<std::string> topics_;
  Offsets last_committed_;
  Instant next_commit_{};
};

}  // namespace pyralog::client
