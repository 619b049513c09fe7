#include "client/consumer.h"

#include <algorithm>

#include "base/plant.h"
#include "client/offsets.h"

namespace pyralog::client {

Consumer::Consumer(Cluster& cluster, ConsumerOptions options)
    : cluster_(cluster), options_(std::move(options)), fetcher_(cluster, options_.fetch) {
  if (options_.membership) {
    membership_ =
        std::make_unique<Membership>(cluster, *options_.membership, [this] { fetcher_.wake(); });
  }
}

Consumer::~Consumer() = default;

void Consumer::assign(const Offsets& positions) {
  fetcher_.clear();
  for (const auto& [partition, offset] : positions) fetcher_.add(partition, offset);
}

void Consumer::subscribe(std::vector<std::string> topics) {
  PYRALOG_ASSERT(membership_ != nullptr);
  topics_ = std::move(topics);
  membership_->ask_to_rejoin();
}

void Consumer::seek(const TopicPartition& partition, std::int64_t offset) {
  fetcher_.add(partition, offset);
}

Offsets Consumer::positions() const {
  Offsets found;
  for (const TopicPartition& partition : fetcher_.partitions()) {
    found[partition] = *fetcher_.position(partition);
  }
  return found;
}

io::Task<Result<void>> Consumer::commit(Offsets offsets, Instant deadline) {
  std::erase_if(offsets, [&](const auto& each) {
    const auto last = last_committed_.find(each.first);
    return last != last_committed_.end() && last->second == each.second;
  });
  if (offsets.empty()) co_return Result<void>();
  PYRALOG_CO_TRY(co_await membership_->commit(offsets, deadline));
  for (const auto& [partition, offset] : offsets) last_committed_[partition] = offset;
  co_return Result<void>();
}

io::Task<Result<void>> Consumer::commit(Instant deadline) {
  co_return co_await commit(positions(), deadline);
}

io::Task<Result<void>> Consumer::reset(std::vector<TopicPartition> partitions, Instant deadline) {
  if (partitions.empty()) co_return Result<void>();
  if (options_.reset == OffsetReset::kFail) {
    co_return fail(Code::kOutOfRange, to_string(partitions.front()) +
                                          ": there is no offset to begin at; name one with --from");
  }
  std::map<TopicPartition, std::int64_t> times;
  for (const TopicPartition& partition : partitions) {
    times[partition] = options_.reset == OffsetReset::kEarliest ? kEarliestTime : kLatestTime;
  }
  PYRALOG_CO_ASSIGN(
      const auto found,
      co_await list_offsets(cluster_, std::move(times), options_.fetch.read_committed, deadline));
  for (const auto& [partition, at] : found) fetcher_.add(partition, at.offset);
  co_return Result<void>();
}

io::Task<Result<void>> Consumer::begin_reading(std::vector<TopicPartition> partitions,
                                               Instant deadline) {
  if (partitions.empty()) co_return Result<void>();
  PYRALOG_CO_ASSIGN(const Offsets stored, co_await membership_->committed(partitions, deadline));
  std::vector<TopicPartition> without;
  for (const TopicPartition& partition : partitions) {
    const auto offset = stored.find(partition);
    if (offset == stored.end()) {
      without.push_back(partition);
    } else {
      fetcher_.add(partition, offset->second);
      last_committed_[partition] = offset->second;
    }
  }
  co_return co_await reset(std::move(without), deadline);
}

io::Task<Result<void>> Consumer::rebalance(Instant deadline) {
  while (membership_->needs_join()) {
    // Before another may get a partition, what was read of it is committed.
    if (options_.auto_commit && !membership_->lost() &&
        !PYRALOG_PLANT("client.no_commit_on_revoke")) {
      (void)co_await commit(cluster_.attempt_end(deadline));
    }
    if (membership_->lost() || !membership_->cooperative()) fetcher_.clear();
    const std::vector<TopicPartition> owned = fetcher_.partitions();
    PYRALOG_CO_ASSIGN(auto got, co_await membership_->join(topics_, owned, deadline));
    std::ranges::sort(got);
    last_committed_.clear();
    bool gave_up = false;
    for (const TopicPartition& partition : owned) {
      if (std::ranges::binary_search(got, partition)) continue;
      fetcher_.remove(partition);
      gave_up = true;
    }
    std::vector<TopicPartition> added;
    for (const TopicPartition& partition : got) {
      if (!fetcher_.position(partition)) added.push_back(partition);
    }
    PYRALOG_CO_TRY(co_await begin_reading(std::move(added), deadline));
    // What was given up is another's only after one more round.
    if (gave_up && membership_->cooperative()) membership_->ask_to_rejoin();
  }
  co_return Result<void>();
}

io::Task<Result<std::vector<PolledBatch>>> Consumer::poll(Instant deadline) {
  for (;;) {
    const Instant now = io::Shard::current().now();
    if (membership_ && !topics_.empty()) {
      if (membership_->needs_join()) {
        const Instant patience =
            std::max(deadline, now + options_.membership->rebalance_timeout + 30s);
        PYRALOG_CO_TRY(co_await rebalance(patience));
      }
      if (options_.auto_commit && now >= next_commit_) {
        next_commit_ = now + options_.auto_commit_interval;
        const auto stored = co_await commit(cluster_.attempt_end(Instant::never()));
        if (!stored && !membership_->needs_join()) co_return fail(stored.error());
      }
    }
    auto batches = co_await fetcher_.poll(deadline);
    if (!batches && batches.error().code == Code::kOutOfRange && !fetcher_.out_of_range().empty()) {
      if (options_.reset == OffsetReset::kFail) co_return batches;
      PYRALOG_CO_TRY(
          co_await reset(fetcher_.out_of_range(), cluster_.attempt_end(Instant::never())));
      continue;
    }
    const bool again = batches && batches->empty() && membership_ && membership_->needs_join() &&
                       io::Shard::current().now() < deadline;
    if (!again) co_return batches;
  }
}

io::Task<Result<void>> Consumer::close(Instant deadline) {
  Result<void> stored;
  if (membership_ && options_.auto_commit && !membership_->lost() && !topics_.empty()) {
    stored = co_await commit(deadline);
  }
  if (membership_) co_await membership_->leave(deadline);
  co_await fetcher_.close();
  co_return stored;
}

}  // namespace pyralog::client
