#include <algorithm>
#include <set>

#include "base/plant.h"
#include "protocol/kafka/service.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/offset_for_leader_epoch.h"

namespace pyralog::protocol::kafka {

namespace {

using Outcomes = std::vector<broker::FetchOutcome>;

Result<std::vector<broker::FetchItem>> items_of(const Request& request,
                                                const wire::FetchRequest& fetch) {
  std::vector<broker::FetchItem> items;
  for (const auto& topic : fetch.topics) {
    for (const auto& partition : topic.partitions) {
      // Two copies of each item while it is served, and its outcome.
      PYRALOG_TRY(request.take_room(2 * (sizeof(broker::FetchItem) + topic.topic.size()) +
                                     sizeof(broker::FetchOutcome)));
      broker::FetchItem item;
      item.target = {topic.topic, partition.partition};
      item.leader_epoch = partition.current_leader_epoch;
      item.offset = partition.fetch_offset;
      item.last_fetched_epoch = partition.last_fetched_epoch;
      item.max_bytes = partition.partition_max_bytes;
      items.push_back(std::move(item));
    }
  }
  return items;
}

/// What one fetch holds of records in memory, until its answer has it.
class FetchRoom final : public broker::FetchMemory {
 public:
  explicit FetchRoom(AnswerMemory::Holder* holder) : holder_(holder) {}
  /// What a fetch goes by; nothing where answers are not bounded.
  [[nodiscard]] broker::FetchMemory* bound() { return holder_ == nullptr ? nullptr : this; }

  std::uint64_t take(std::uint64_t wanted) override {
    if (!holder_->reads_memory()) return 0;  // the first time the broker says so, and asks again
    hold_ = holder_->memory().take_some(*holder_, wanted);
    return hold_.bytes();
  }
  io::Task<std::uint64_t> wait_for(std::uint64_t least, std::uint64_t wanted,
                                   Instant deadline) override {
    holder_->reads_memory() = true;
    hold_ = holder_->memory().take_some(*holder_, std::max(least, wanted));
    if (hold_.bytes() >= least) co_return hold_.bytes();
    hold_.release();
    hold_ = co_await holder_->memory().take(*holder_, least, deadline);
    // A batch that is larger than all there is has all of it.
    co_return hold_ ? std::max<std::uint64_t>(least, hold_.bytes()) : 0;
  }
  void keep(std::uint64_t bytes) override {
    if (hold_) hold_.resize(bytes);
  }
  Result<Reply> answer(Result<Reply> reply) {
    if (reply) reply->memory = std::move(hold_);
    return reply;
  }

 private:
  AnswerMemory::Holder* holder_;
  AnswerMemory::Hold hold_;
};

broker::FetchBounds bounds_of(FetchRoom& room, const Request& request, const wire::FetchRequest& fetch,
                              const Service::Options& options) {
  broker::FetchBounds bounds;
  bounds.min_bytes = static_cast<std::uint64_t>(std::max(fetch.min_bytes, 0));
  bounds.max_bytes = std::min(static_cast<std::uint64_t>(std::max(fetch.max_bytes, 0)),
                              static_cast<std::uint64_t>(options.fetch_max_bytes));
  const Duration wait = std::chrono::milliseconds(std::max(fetch.max_wait_ms, 0));
  bounds.deadline = io::Shard::current().now() + std::min(wait, options.max_fetch_wait);
  bounds.memory = room.bound();
  bounds.end = request.fetch_end;
  return bounds;
}

/// Partitions that the fetches of a shard may wait for; each takes some 400 bytes for as long. Beyond, a
/// fetch answers with what there is.
constexpr std::size_t kMaxFetching = 1'000'000;

/// Counts a fetch's partitions while it is under way, and says how long it may wait.
class Fetching {
 public:
  Fetching(Service& service, std::size_t partitions) : service_(service), partitions_(partitions) {
    service_.fetching() += partitions_;
  }
  Fetching(const Fetching&) = delete;
  Fetching& operator=(const Fetching&) = delete;
  ~Fetching() {
    if (!io::Shard::tearing_down()) service_.fetching() -= partitions_;
  }
  [[nodiscard]] broker::FetchBounds bound(broker::FetchBounds bounds) const {
    if (service_.fetching() > kMaxFetching) bounds.deadline = io::Shard::current().now();
    return bounds;
  }

 private:
  Service& service_;
  std::size_t partitions_;
};

/// Collects the answers by topic, in the order in which they come.
class ResponseBuilder {
 public:
  explicit ResponseBuilder(RequestCounts& counts) : counts_(counts) {}
  void add(const broker::PartitionRef& target, broker::FetchOutcome outcome) {
    if (outcome.bytes > 0) counts_.fetched(target.topic, outcome.offsets, outcome.bytes);
    auto& topics = response_.responses;
    if (topics.empty() || topics.back().topic != target.topic) {
      topics.push_back({});
      topics.back().topic = target.topic;
    }
    wire::FetchResponse::Partition out;
    out.partition_index = target.partition;
    out.error_code = code(outcome.error);
    out.high_watermark = outcome.high_watermark;
    out.last_stable_offset = outcome.last_stable;
    out.log_start_offset = outcome.log_start;
    if (outcome.diverging) {
      out.diverging_epoch.epoch = static_cast<std::int32_t>(outcome.diverging->epoch.value);
      out.diverging_epoch.end_offset = outcome.diverging->start.value;
    }
    out.records = wire::Records::external(static_cast<std::uint32_t>(external_.size()),
                                          outcome.bytes);
    external_.push_back(std::move(outcome.records));
    topics.back().partitions.push_back(std::move(out));
  }
  [[nodiscard]] Result<Reply> finish(const Request& request, std::int32_t session,
                                     KafkaError error = KafkaError::kNone) {
    response_.session_id = session;
    response_.error_code = code(error);
    return reply(request, response_, std::move(external_));
  }

 private:
  RequestCounts& counts_;
  wire::FetchResponse response_;
  std::vector<std::vector<io::Piece>> external_;
};

void note_times(const Service& service, const Request& request,
                const std::vector<broker::FetchItem>& items, const Outcomes& outcomes,
                Instant began) {
  if (outcomes.empty()) return;
  request.times->meant = outcomes.front().waited;
  request.times->disk = io::Shard::current().now() - began - request.times->meant;
  if (outcomes.size() > 1 || !service.is_slow(request.times->disk)) return;
  request.times->partition =
      items.front().target.topic + "-" + std::to_string(items.front().target.partition);
}

Handled fetch_all(Service& service, Request request, wire::FetchRequest fetch, bool open_session) {
  PYRALOG_CO_ASSIGN(std::vector<broker::FetchItem> items, items_of(request, fetch));
  FetchRoom room(request.answers);
  const broker::FetchBounds bounds = bounds_of(room, request, fetch, service.options());
  const Instant began = io::Shard::current().now();
  const Fetching fetching(service, items.size());
  Outcomes outcomes = co_await service.broker().fetch(items, fetching.bound(bounds));
  note_times(service, request, items, outcomes, began);
  std::int32_t session = 0;
  if (open_session && !items.empty()) {
    io::Shard& shard = io::Shard::current();
    session = service.sessions().open(items, service.shard_count(), shard.rng().next(), shard.now());
    if (session != 0) {
      FetchSessions::Session& opened = *service.sessions().find(session);
      for (std::size_t i = 0; i < outcomes.size(); ++i) {
        (void)FetchSessions::is_news(opened.partitions[i], outcomes[i]);
      }
    }
  }
  ResponseBuilder response(service.counts());
  for (std::size_t i = 0; i < items.size(); ++i) {
    response.add(items[i].target, std::move(outcomes[i]));
  }
  co_return room.answer(response.finish(request, session));
}

struct Turn {
  KafkaError error = KafkaError::kNone;
  std::vector<broker::FetchItem> items;
};

// On the session's shard: takes the request's changes and returns what is to be read.
Turn begin_turn(Service& owner, const wire::FetchRequest& fetch,
                std::vector<broker::FetchItem> changed) {
  Turn turn;
  auto session =
      owner.sessions().use(fetch.session_id, fetch.session_epoch, io::Shard::current().now());
  if (!session) {
    turn.error = session.error();
    return turn;
  }
  std::vector<FetchSessions::Key> forgotten;
  for (const auto& topic : fetch.forgotten_topics_data) {
    for (const std::int32_t partition : topic.partitions) {
      forgotten.emplace_back(topic.topic, partition);
    }
  }
  if (!owner.sessions().update(**session, std::move(changed), forgotten)) {
    owner.sessions().close(fetch.session_id);
    turn.error = KafkaError::kFetchSessionIdNotFound;
    return turn;
  }
  for (const auto& partition : (*session)->partitions) turn.items.push_back(partition.item);
  return turn;
}

// On the session's shard: which of the outcomes the client is told.
std::vector<bool> end_turn(Service& owner, std::int32_t id, std::int32_t epoch,
                           const std::vector<broker::FetchItem>& items, const Outcomes& outcomes) {
  std::vector<bool> told(items.size(), true);
  // The session may have been closed or used anew while the fetch waited; then all is told.
  auto session = owner.sessions().find(id);
  if (session == nullptr || session->next_epoch != (epoch == INT32_MAX ? 1 : epoch + 1) ||
      session->partitions.size() != items.size()) {
    return told;
  }
  std::vector<bool> served(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    told[i] = FetchSessions::is_news(session->partitions[i], outcomes[i]);
    served[i] = outcomes[i].bytes > 0;
  }
  owner.sessions().rotate(*session, served);
  return told;
}

Handled fetch_in_session(Service& service, Request request, wire::FetchRequest fetch) {
  const unsigned shard = FetchSessions::shard_of(fetch.session_id, service.shard_count());
  Service* owner = service.peer(shard);
  PYRALOG_CO_ASSIGN(auto changed, items_of(request, fetch));
  Turn turn = co_await io::on(service.shard(shard), [&]() -> io::Task<Turn> {
    co_return begin_turn(*owner, fetch, std::move(changed));
  });
  ResponseBuilder response(service.counts());
  if (turn.error != KafkaError::kNone) co_return response.finish(request, 0, turn.error);
  FetchRoom room(request.answers);
  const Instant began = io::Shard::current().now();
  const Fetching fetching(service, turn.items.size());
  Outcomes outcomes = co_await service.broker().fetch(
      turn.items, fetching.bound(bounds_of(room, request, fetch, service.options())));
  note_times(service, request, turn.items, outcomes, began);
  const auto told = co_await io::on(service.shard(shard), [&]() -> io::Task<std::vector<bool>> {
    co_return end_turn(*owner, fetch.session_id, fetch.session_epoch, turn.items, outcomes);
  });
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (told[i]) response.add(turn.items[i].target, std::move(outcomes[i]));
  }
  co_return room.answer(response.finish(request, fetch.session_id));
}

}  // namespace

Handled handle_fetch(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(wire::FetchRequest fetch, decode<wire::FetchRequest>(request));
  if (request.version() < 4) {
    // Clients of message format v0 and v1, whose records are not kept.
    ResponseBuilder response(service.counts());
    PYRALOG_CO_ASSIGN(const auto items, items_of(request, fetch));
    for (const auto& item : items) {
      broker::FetchOutcome refused;
      refused.error = KafkaError::kUnsupportedVersion;
      response.add(item.target, std::move(refused));
    }
    co_return response.finish(request, 0);
  }
  constexpr std::int32_t kFinalEpoch = -1;
  constexpr std::int32_t kInitialEpoch = 0;
  if (fetch.session_epoch == kFinalEpoch || fetch.session_epoch == kInitialEpoch) {
    if (fetch.session_id != 0) {
      const unsigned shard = FetchSessions::shard_of(fetch.session_id, service.shard_count());
      co_await io::on(service.shard(shard), [&service, shard, id = fetch.session_id]() -> io::Task<void> {
        service.peer(shard)->sessions().close(id);
        co_return;
      });
    }
    const bool open = fetch.session_epoch == kInitialEpoch && request.version() >= 7;
    co_return co_await fetch_all(service, std::move(request), std::move(fetch), open);
  }
  co_return co_await fetch_in_session(service, std::move(request), std::move(fetch));
}

namespace {

/// Whether this version of ListOffsets has such a timestamp. Each that stands for a place came with a
/// version: −3, the greatest timestamp, with 7; those of tiered storage with versions above ours.
bool has_timestamp(std::int16_t version, std::int64_t timestamp) {
  constexpr std::int64_t kLatest = -1, kEarliest = -2, kMaxTimestamp = -3;
  if (PYRALOG_PLANT("kafka.timestamps_of_other_versions")) return true;
  return timestamp >= 0 || timestamp == kLatest || timestamp == kEarliest ||
         (timestamp == kMaxTimestamp && version >= 7);
}

/// The partitions that a request names more than once.
std::set<broker::PartitionRef> named_twice(const wire::ListOffsetsRequest& in) {
  std::set<broker::PartitionRef> seen;
  std::set<broker::PartitionRef> twice;
  if (PYRALOG_PLANT("kafka.partitions_named_twice")) return twice;
  for (const auto& topic : in.topics) {
    for (const auto& partition : topic.partitions) {
      broker::PartitionRef each{topic.name, partition.partition_index};
      if (!seen.insert(each).second) twice.insert(std::move(each));
    }
  }
  return twice;
}

}  // namespace

Handled handle_list_offsets(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::ListOffsetsRequest>(request));
  for (const auto& topic : in.topics) {
    const std::size_t each = 2 * sizeof(broker::OffsetQuery) + 2 * topic.name.size();
    PYRALOG_CO_TRY(request.take_room(topic.partitions.size() * each));
  }
  const auto twice = named_twice(in);
  std::vector<broker::OffsetQuery> queries;
  std::vector<KafkaError> refused;  // by partition, in the order of the request
  for (const auto& topic : in.topics) {
    for (const auto& partition : topic.partitions) {
      const broker::PartitionRef target{topic.name, partition.partition_index};
      refused.push_back(twice.contains(target) ? KafkaError::kInvalidRequest
                        : has_timestamp(request.version(), partition.timestamp)
                            ? KafkaError::kNone
                            : KafkaError::kUnsupportedVersion);
      if (refused.back() != KafkaError::kNone) continue;
      queries.push_back({target, partition.current_leader_epoch, partition.timestamp});
    }
  }
  const auto answers = co_await service.broker().list_offsets(std::move(queries));
  wire::ListOffsetsResponse out;
  std::size_t at = 0;
  std::size_t next = 0;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    for (const auto& partition : topic.partitions) {
      auto& each = to.partitions.emplace_back();
      each.partition_index = partition.partition_index;
      if (const KafkaError why = refused[at++]; why != KafkaError::kNone) {
        each.error_code = code(why);
        continue;
      }
      const broker::OffsetAnswer& answer = answers[next++];
      each.error_code = code(answer.error);
      each.timestamp = answer.timestamp;
      each.offset = answer.offset;
      each.leader_epoch = answer.leader_epoch;
    }
  }
  co_return reply(request, out);
}

Handled handle_offset_for_leader_epoch(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::OffsetForLeaderEpochRequest>(request));
  std::vector<broker::EpochQuery> queries;
  for (const auto& topic : in.topics) {
    for (const auto& partition : topic.partitions) {
      PYRALOG_CO_TRY(request.take_room(sizeof(broker::EpochQuery) + topic.topic.size()));
      queries.push_back({{topic.topic, partition.partition},
                         partition.current_leader_epoch,
                         partition.leader_epoch});
    }
  }
  const auto answers = co_await service.broker().epoch_ends(std::move(queries));
  wire::OffsetForLeaderEpochResponse out;
  std::size_t next = 0;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.topic = topic.topic;
    for (const auto& partition : topic.partitions) {
      const broker::EpochAnswer& answer = answers[next++];
      auto& each = to.partitions.emplace_back();
      each.error_code = code(answer.error);
      each.partition = partition.partition;
      each.leader_epoch = answer.leader_epoch;
      each.end_offset = answer.end_offset;
    }
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
