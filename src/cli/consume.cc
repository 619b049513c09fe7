#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>

#include "cli/handlers.h"
#include "cli/places.h"
#include "cli/record_format.h"
#include "cli/with_client.h"
#include "client/consumer.h"
#include "client/offsets.h"
#include "io/posix/runtime.h"

namespace pyralog::cli {

namespace {

constexpr Duration kCommitEvery = std::chrono::seconds(5);

struct Plan {
  std::string topic;
  std::optional<std::int32_t> partition;
  std::optional<std::string> group;
  StartPoint from;
  std::optional<std::uint64_t> count;
  bool until_end = false;
  bool as_json = false;
  RecordFormat format;
  client::ConsumerOptions consumer;
};

Result<Plan> plan_of(const Args& args) {
  Plan plan;
  plan.topic = args.text("TOPIC");
  if (args.has("partition")) {
    PYRALOG_ASSIGN(const auto partition, args.number("partition", 0, 0, 1'000'000));
    plan.partition = static_cast<std::int32_t>(partition);
  }
  if (args.has("count")) {
    PYRALOG_ASSIGN(const auto count, args.number("count", 0, 0, INT64_MAX));
    plan.count = static_cast<std::uint64_t>(count);
  }
  PYRALOG_ASSIGN(plan.from,
                 parse_start("from", args.text("from", args.has("group") ? "beginning" : "end")));
  PYRALOG_ASSIGN(plan.format, RecordFormat::parse(args.text("format", "%s\\n")));
  plan.until_end = args.flag("until-end");
  plan.as_json = args.flag("json");
  plan.consumer.fetch.read_committed = args.text("isolation", "committed") == "committed";
  if (args.has("rack")) {
    plan.consumer.fetch.read_from = client::ReadFrom::kNearest;
    plan.consumer.fetch.rack = args.text("rack");
    // Members of a group go on where others have been: what was read is there for who reads next.
    plan.consumer.fetch.session = std::make_shared<client::Session>();
  }
  plan.consumer.auto_commit = false;
  if (args.has("group")) {
    plan.group = args.text("group");
    client::MembershipOptions membership;
    membership.group = *plan.group;
    plan.consumer.membership = std::move(membership);
    if (plan.partition) {
      return fail(Code::kInvalidArgument,
                  "consume: --partition and --group exclude each other; drop one");
    }
    if (plan.from.kind == StartPoint::Kind::kOffset || plan.from.kind == StartPoint::Kind::kTime) {
      return fail(Code::kInvalidArgument,
                  "consume: with --group, --from is beginning or end; drop the group or the place");
    }
  }
  plan.consumer.reset = plan.from.kind == StartPoint::Kind::kEnd ? client::OffsetReset::kLatest
                                                                 : client::OffsetReset::kEarliest;
  return plan;
}

io::Task<Result<client::Offsets>> at_time(client::Cluster& cluster, const Plan& plan,
                                          std::vector<client::TopicPartition> partitions,
                                          std::int64_t time, Instant deadline) {
  std::map<client::TopicPartition, std::int64_t> times;
  for (const auto& partition : partitions) times[partition] = time;
  PYRALOG_CO_ASSIGN(const auto found,
                    co_await client::list_offsets(cluster, std::move(times),
                                                  plan.consumer.fetch.read_committed, deadline));
  client::Offsets offsets;
  for (const auto& [partition, at] : found) offsets[partition] = at.offset;
  co_return offsets;
}

/// Where each partition begins that is read without a group.
io::Task<Result<client::Offsets>> start_offsets(client::Cluster& cluster, const Plan& plan,
                                                std::vector<client::TopicPartition> partitions,
                                                client::Offsets ends, Instant deadline) {
  switch (plan.from.kind) {
    case StartPoint::Kind::kBeginning:
      co_return co_await at_time(cluster, plan, partitions, client::kEarliestTime, deadline);
    case StartPoint::Kind::kEnd:
      co_return ends;
    case StartPoint::Kind::kTime: {
      PYRALOG_CO_ASSIGN(auto found,
                        co_await at_time(cluster, plan, partitions, plan.from.number, deadline));
      // Nothing is that young yet: what comes will be.
      for (auto& [partition, offset] : found) {
        if (offset < 0) offset = ends[partition];
      }
      co_return found;
    }
    case StartPoint::Kind::kOffset:
      break;
  }
  // A partition that does not hold the offset begins where it is nearest to it.
  PYRALOG_CO_ASSIGN(auto offsets,
                    co_await at_time(cluster, plan, partitions, client::kEarliestTime, deadline));
  for (auto& [partition, offset] : offsets) {
    offset = std::clamp(plan.from.number, offset, std::max(offset, ends[partition]));
  }
  co_return offsets;
}

/// One run of the command; lives on its shard.
class Reading {
 public:
  Reading(client::Cluster& cluster, const Plan& plan, Console& console)
      : plan_(plan), console_(console), consumer_(cluster, plan.consumer), cluster_(cluster) {}

  io::Task<Result<void>> begin(Instant deadline) {
    PYRALOG_CO_ASSIGN(const auto info, co_await cluster_.topic(plan_.topic, false, deadline));
    std::vector<client::TopicPartition> partitions;
    for (const auto& each : info.partitions) {
      if (!plan_.partition || *plan_.partition == each.index) {
        partitions.push_back({plan_.topic, each.index});
      }
    }
    if (partitions.empty()) {
      co_return fail(Code::kNotFound, "topic \"" + plan_.topic + "\": has no partition " +
                                          std::to_string(plan_.partition.value_or(0)));
    }
    PYRALOG_CO_ASSIGN(ends_,
                      co_await at_time(cluster_, plan_, partitions, client::kLatestTime, deadline));
    if (plan_.group) {
      consumer_.subscribe({plan_.topic});
      co_return Result<void>();
    }
    PYRALOG_CO_ASSIGN(const auto starts,
                      co_await start_offsets(cluster_, plan_, partitions, ends_, deadline));
    consumer_.assign(starts);
    done_ = starts;
    co_return Result<void>();
  }

  io::Task<Result<void>> read() {
    Instant next_commit = io::Shard::current().now() + kCommitEvery;
    while (!interrupted_ && !finished()) {
      const Instant now = io::Shard::current().now();
      // Commits before poll(), which may give partitions away.
      const bool rebalancing = plan_.group && consumer_.membership()->needs_join();
      if (plan_.group && (now >= next_commit || rebalancing)) {
        PYRALOG_CO_TRY(co_await commit());
        next_commit = now + kCommitEvery;
      }
      PYRALOG_CO_ASSIGN(const auto batches, co_await consumer_.poll(now + 1s));
      for (const auto& batch : batches) PYRALOG_CO_TRY(print_batch(batch));
      if (std::fflush(console_.out) != 0) break;  // nobody reads any more
      for (const auto& [partition, offset] : consumer_.positions()) {
        if (!stopped_) done_[partition] = offset;
      }
    }
    co_return Result<void>();
  }

  io::Task<Result<void>> end() {
    const Instant deadline = io::Shard::current().now() + 10s;
    Result<void> stored;
    if (plan_.group) stored = co_await commit();
    const auto closed = co_await consumer_.close(deadline);
    if (!stored) co_return stored;
    co_return closed;
  }

  void interrupt() {
    interrupted_ = true;
    consumer_.wake();
  }

 private:
  Result<void> print_batch(const client::PolledBatch& batch) {
    std::string out;
    PYRALOG_TRY(client::for_each_record(batch, [&](const RecordView& record) {
      if (stopped_) return;
      if (plan_.until_end && record.offset >= ends_[batch.partition]) return;
      if (plan_.as_json) {
        append_record_json(out, batch.partition, record);
      } else {
        plan_.format.append(out, batch.partition, record);
      }
      done_[batch.partition] = record.offset + 1;
      if (plan_.count && ++printed_ >= *plan_.count) stopped_ = true;
    }));
    print(console_.out, out);
    return {};
  }

  [[nodiscard]] bool finished() const {
    if (stopped_ || (plan_.count && *plan_.count == 0)) return true;
    if (!plan_.until_end) return false;
    const auto positions = consumer_.positions();
    if (plan_.group && (positions.empty() || consumer_.membership()->needs_join())) return false;
    for (const auto& [partition, position] : positions) {
      const auto end = ends_.find(partition);
      if (end != ends_.end() && position < end->second) return false;
    }
    return true;
  }

  /// What was printed, of the partitions that are still held.
  io::Task<Result<void>> commit() {
    client::Offsets offsets;
    for (const auto& [partition, position] : consumer_.positions()) {
      const auto done = done_.find(partition);
      if (done != done_.end()) offsets[partition] = std::min(done->second, position);
    }
    const Instant deadline = io::Shard::current().now() + 10s;
    auto stored = co_await consumer_.commit(std::move(offsets), deadline);
    // A group that has moved on has given the partitions to others, who will read them again.
    if (!stored && stored.error().code == Code::kFenced) co_return Result<void>();
    if (!stored && consumer_.membership()->needs_join()) co_return Result<void>();
    co_return stored;
  }

  const Plan& plan_;
  Console& console_;
  client::Consumer consumer_;
  client::Cluster& cluster_;
  client::Offsets ends_;
  client::Offsets done_;  ///< printed up to
  std::uint64_t printed_ = 0;
  bool stopped_ = false;
  bool interrupted_ = false;
};

io::Task<Result<void>> consume_all(client::Cluster& cluster, const Plan& plan, Console& console,
                                   Instant deadline) {
  const auto reading = std::make_shared<Reading>(cluster, plan, console);
  io::spawn_on(io::Shard::current(), [weak = std::weak_ptr(reading)] {
    return on_interrupt([weak] {
      if (const auto alive = weak.lock()) alive->interrupt();
    });
  });
  auto result = co_await reading->begin(deadline);
  if (result) result = co_await reading->read();
  const auto ended = co_await reading->end();
  if (!result) co_return result;
  co_return ended;
}

}  // namespace

Outcome consume(const Args& args, Console& console) {
  const auto plan = plan_of(args);
  if (!plan) return usage(plan.error().message);
  io::posix::block_signals({SIGINT, SIGTERM});
  return with_client(args, [&](client::Cluster& cluster, Instant deadline) {
    return consume_all(cluster, *plan, console, deadline);
  });
}

}  // namespace pyralog::cli
