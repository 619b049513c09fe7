#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "base/result.h"
#include "client/cluster.h"
#include "io/task.h"
#include "obelisk/scarab.h"

namespace pyralog::client {

/// Ids and counters of a cluster. Stays with one node while that answers; when it does not within
/// `patience`, its connection breaks or it says that it cannot, the next call goes to another. What
/// a node took for an answer that nobody heard is given to nobody: there are gaps, no duplicates.
/// Lives on the shard of `cluster`, which outlives it; calls may run at the same time.
class Ids {
 public:
  struct Options {
    Duration patience = 300ms;  ///< with one node
  };
  explicit Ids(Cluster& cluster) : Ids(cluster, Options()) {}
  Ids(Cluster& cluster, Options options) : cluster_(cluster), options_(options) {}

  /// `count` consecutive Scarab ids of one generator, 1 to obelisk::kScarabMaxBatch. Ids of one
  /// node ascend. kInvalidArgument; kTimedOut or why the last node refused, at the deadline.
  [[nodiscard]] io::Task<Result<obelisk::ScarabRange>> next_ids(std::uint64_t count,
                                                                Instant deadline);
  /// The first of `count` consecutive values of a counter, 1 to 1,000,000; of one node they ascend.
  /// `strict`: the cluster agrees on every call, so that values have the order of calls and no gaps
  /// but where an answer was not heard. Errors as above; kExhausted for one counter too many.
  [[nodiscard]] io::Task<Result<std::int64_t>> next_counter(std::string name, std::int32_t count,
                                                            bool strict, Instant deadline);

 private:
  template <typename Response, typename Request>
  io::Task<Result<Response>> ask(std::string thing, Request request, Instant deadline);
  [[nodiscard]] std::optional<std::int32_t> another(std::int32_t than) const;
  /// Goes on to another node, unless somebody has meanwhile.
  void leave(std::int32_t node);

  Cluster& cluster_;
  Options options_;
  std::optional<std::int32_t> node_;  ///< that is asked
};

}  // namespace pyralog::client
