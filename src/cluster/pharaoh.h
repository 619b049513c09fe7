#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "catalog/catalog.h"
#include "cluster/machine_ids.h"
#include "cluster/metadata_log.h"
#include "io/shard.h"
#include "io/task.h"
#include "obelisk/scarab.h"

namespace pyralog::cluster {

/// Ids and counters as a service of the cluster; each node that has the role has one. Lives on
/// shard 0.
///
/// Scarab ids come from memory, under a machine id that the metadata log lends for 10 s at a time
/// and that is renewed at half while ids are asked for: a node that was frozen past its grant
/// issues nothing of it any more, and nobody else has ever been given those milliseconds.
///
/// A counter's values come from blocks that the metadata log hands out, each to one node: unique,
/// and ascending per node. With `strict` every call is a block of its own, so that the values of
/// all nodes are in the order in which they were asked for, without gaps but those of callers that
/// went away.
class Pharaoh {
 public:
  Pharaoh(MetadataLog& log, NodeId node) : log_(log), node_(node) {}

  /// `count` consecutive ids, 1 to obelisk::kScarabMaxBatch. kTimedOut, kInvalidArgument;
  /// kExhausted if there is no machine id; errors of MetadataLog::propose.
  [[nodiscard]] io::Task<Result<obelisk::ScarabRange>> next_ids(std::uint64_t count,
                                                                Instant deadline);
  /// The first of `count` consecutive values, 1 to catalog::kMaxCounterBlock, of a counter that is
  /// made by its first use and starts at 1. kTimedOut: nobody gets those values, if any were taken.
  /// kInvalidArgument, kExhausted for one counter too many, errors of MetadataLog::propose.
  [[nodiscard]] io::Task<Result<std::int64_t>> next_counter(std::string name, std::int64_t count,
                                                            bool strict, Instant deadline);
  /// The catalogue has changed. While others issue ids this node keeps a machine id too, so that it
  /// can go on for one of them at once.
  void follow(const catalog::Catalog& state);
  /// Refuses all calls from now on and waits for what is under way.
  [[nodiscard]] io::Task<void> stop();

 private:
  struct Range {
    std::int64_t next = 0;
    std::int64_t end = 0;
  };
  struct Counter {
    std::deque<Range> ranges;  ///< at most two
    std::int64_t size = 100;   ///< of the next block
    Instant granted{};
    bool fetching = false;
    std::optional<Error> failed;  ///< why the last block did not come
    std::uint64_t fetches = 0;    ///< that have ended
    io::WaitList came;
    [[nodiscard]] std::optional<std::int64_t> take(std::int64_t count);
    [[nodiscard]] std::int64_t left() const;
  };
  [[nodiscard]] std::uint64_t left_ms();
  void renew_soon();
  io::Task<void> renew();
  io::Task<Result<MachineLease>> ask();
  void fetch_soon(std::string name, std::shared_ptr<Counter> counter, std::int64_t least);
  io::Task<void> fetch(std::string name, std::shared_ptr<Counter> counter, std::int64_t size);
  io::Task<Result<std::int64_t>> take_block(std::string name, std::int64_t size);

  MetadataLog& log_;
  const NodeId node_;
  std::optional<MachineLease> lease_;
  bool renewable_ = false;  ///< false: nobody knows what became of the last renewal
  std::unique_ptr<obelisk::ScarabClock> clock_;
  bool renewing_ = false;
  std::optional<Error> failed_;  ///< why the last renewal did
  std::uint64_t renewals_ = 0;   ///< that have ended
  io::WaitList renewed_;
  std::map<std::string, std::shared_ptr<Counter>, std::less<>> counters_;
  std::size_t calls_ = 0;
  io::WaitList idle_;
  io::TaskGroup tasks_;
  bool stopping_ = false;
};

}  // namespace pyralog::cluster
