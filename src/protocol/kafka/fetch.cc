#include "wire/kafka/gen/fetch.h"

#include <algorithm>

#include "base/plant.h"
#include "protocol/kafka/nodes.h"
#include "protocol/kafka/service.h"

namespace pyralog::protocol::kafka {

namespace {

using Asked = FetchSessions::Asked;
using Outcomes = std::vector<broker::FetchOutcome>;

Result<std::vector<Asked>> asked_by(Service& service, const Request& request,
                                    const wire::FetchRequest& fetch) {
  std::vector<Asked> all;
  for (const auto& topic : fetch.topics) {
    const TopicId id{topic.topic_id};
    std::string name = topic.topic;
    if (names_topics_by_id(request.version())) {
      if (const auto known = service.broker().catalog()->topic(id)) name = known->name;
    }
    for (const auto& partition : topic.partitions) {
      // Two copies of each while it is served, and its outcome.
      PYRALOG_TRY(
          request.take_room(2 * (sizeof(Asked) + name.size()) + sizeof(broker::FetchOutcome)));
      Asked each;
      each.id = id;
      each.item.target = {name, partition.partition};
      each.item.leader_epoch = partition.current_leader_epoch;
      each.item.offset = partition.fetch_offset;
      each.item.last_fetched_epoch = partition.last_fetched_epoch;
      each.item.max_bytes = partition.partition_max_bytes;
      all.push_back(std::move(each));
    }
  }
  return all;
}

/// Finds topics by id, each once where partitions of one topic stand together.
class TopicsById {
 public:
  explicit TopicsById(broker::CatalogPtr state) : state_(std::move(state)) {}
  [[nodiscard]] const catalog::TopicPtr& find(const TopicId& id) {
    if (!last_ || *last_ != id) {
      topic_ = state_->topic(id);
      last_ = id;
    }
    return topic_;
  }
  /// What to say of a topic whose id is not known any more, or not yet.
  [[nodiscard]] KafkaError missing(const std::string& last_name) const {
    const bool anew = !last_name.empty() && state_->topic(last_name) != nullptr;
    return anew ? KafkaError::kInconsistentTopicId : KafkaError::kUnknownTopicId;
  }

 private:
  broker::CatalogPtr state_;
  std::optional<TopicId> last_;
  catalog::TopicPtr topic_;
};

/// As the broker wants it: by the names that the topics have now. Where an id has no topic the name
/// is empty, and nothing is found by that; what it was called last stays in `asked`.
std::vector<broker::FetchItem> by_name(Service& service, std::vector<Asked>& asked, bool by_id) {
  std::vector<broker::FetchItem> items;
  items.reserve(asked.size());
  TopicsById topics(service.broker().catalog());
  for (Asked& each : asked) {
    if (!by_id) {
      items.push_back(each.item);
      continue;
    }
    const catalog::TopicPtr& topic = topics.find(each.id);
    if (topic != nullptr) each.item.target.topic = topic->name;
    items.push_back(each.item);
    if (topic == nullptr && !PYRALOG_PLANT("kafka.serve_unknown_topic_ids")) {
      items.back().target.topic.clear();
    }
  }
  return items;
}

/// What was read by a name is of the topic that was asked for only if that still has the name: a
/// topic that is made again has another id, and no id comes back.
void check_ids(Service& service, const std::vector<Asked>& asked, Outcomes& outcomes) {
  if (PYRALOG_PLANT("kafka.serve_unknown_topic_ids")) return;
  TopicsById topics(service.broker().catalog());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (topics.find(asked[i].id) != nullptr) continue;
    const Duration waited = outcomes[i].waited;
    outcomes[i] = {};
    outcomes[i].waited = waited;
    outcomes[i].error = topics.missing(asked[i].item.target.topic);
  }
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

broker::FetchBounds bounds_of(FetchRoom& room, const Request& request,
                              const wire::FetchRequest& fetch, const Service::Options& options) {
  broker::FetchBounds bounds;
  bounds.min_bytes = static_cast<std::uint64_t>(std::max(fetch.min_bytes, 0));
  bounds.max_bytes = std::min(static_cast<std::uint64_t>(std::max(fetch.max_bytes, 0)),
                              static_cast<std::uint64_t>(options.fetch_max_bytes));
  const Duration wait = std::chrono::milliseconds(std::max(fetch.max_wait_ms, 0));
  bounds.deadline = io::Shard::current().now() + std::min(wait, options.max_fetch_wait);
  bounds.memory = room.bound();
  bounds.end = request.fetch_end;
  bounds.rack = fetch.rack_id;
  return bounds;
}

/// Partitions that the fetches of a shard may wait for; each takes some 400 bytes for as long.
/// Beyond, a fetch answers with what there is.
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
  ResponseBuilder(Service& service, std::int16_t version)
      : counts_(service.counts()), leaders_(service.broker(), version >= kFirstWithLeaders) {}
  void add(const Asked& asked, broker::FetchOutcome outcome) {
    const broker::PartitionRef& target = asked.item.target;
    if (outcome.bytes > 0) counts_.fetched(target.topic, outcome.offsets, outcome.bytes);
    auto& topics = response_.responses;
    // By id a name may stand for another topic by now.
    if (topics.empty() || topics.back().topic != target.topic ||
        topics.back().topic_id != asked.id.uuid) {
      topics.push_back({});
      topics.back().topic = target.topic;
      topics.back().topic_id = asked.id.uuid;
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
    if (outcome.read_from) out.preferred_read_replica = outcome.read_from->value;
    leaders_.add(outcome.error, target, out.current_leader);
    out.records =
        wire::Records::external(static_cast<std::uint32_t>(external_.size()), outcome.bytes);
    external_.push_back(std::move(outcome.records));
    topics.back().partitions.push_back(std::move(out));
  }
  [[nodiscard]] Result<Reply> finish(const Request& request, std::int32_t session,
                                     KafkaError error = KafkaError::kNone) {
    leaders_.write(response_.node_endpoints);
    response_.session_id = session;
    response_.error_code = code(error);
    return reply(request, response_, std::move(external_));
  }

 private:
  static constexpr std::int16_t kFirstWithLeaders = 16;
  RequestCounts& counts_;
  LeaderHints leaders_;
  wire::FetchResponse response_;
  std::vector<std::vector<io::Piece>> external_;
};

void note_times(const Service& service, const Request& request, const std::vector<Asked>& asked,
                const Outcomes& outcomes, Instant began) {
  if (outcomes.empty()) return;
  request.times->meant = outcomes.front().waited;
  request.times->disk = io::Shard::current().now() - began - request.times->meant;
  if (outcomes.size() > 1 || !service.is_slow(request.times->disk)) return;
  const broker::PartitionRef& target = asked.front().item.target;
  request.times->partition = target.topic + "-" + std::to_string(target.partition);
}

/// Reads what is asked; `asked` then has the names that topics were read by. Both, and `room`,
/// outlive it.
io::Task<Outcomes> read(Service& service, const Request& request, const wire::FetchRequest& fetch,
                        FetchRoom& room, std::vector<Asked>& asked) {
  const Instant began = io::Shard::current().now();
  const Fetching fetching(service, asked.size());
  const bool by_id = names_topics_by_id(request.version());
  Outcomes outcomes = co_await service.broker().fetch(
      by_name(service, asked, by_id),
      fetching.bound(bounds_of(room, request, fetch, service.options())));
  note_times(service, request, asked, outcomes, began);
  if (by_id) check_ids(service, asked, outcomes);
  co_return outcomes;
}

Handled fetch_all(Service& service, Request request, wire::FetchRequest fetch, bool open_session) {
  PYRALOG_CO_ASSIGN(std::vector<Asked> asked, asked_by(service, request, fetch));
  FetchRoom room(request.answers);
  Outcomes outcomes = co_await read(service, request, fetch, room, asked);
  std::int32_t session = 0;
  if (open_session && !asked.empty()) {
    io::Shard& shard = io::Shard::current();
    session = service.sessions().open(asked, service.shard_count(), shard.rng().next(), shard.now(),
                                      names_topics_by_id(request.version()));
    if (session != 0) {
      FetchSessions::Session& opened = *service.sessions().find(session);
      for (std::size_t i = 0; i < outcomes.size(); ++i) {
        (void)FetchSessions::is_news(opened.partitions[i], outcomes[i]);
      }
    }
  }
  ResponseBuilder response(service, request.version());
  for (std::size_t i = 0; i < asked.size(); ++i) response.add(asked[i], std::move(outcomes[i]));
  co_return room.answer(response.finish(request, session));
}

struct Turn {
  KafkaError error = KafkaError::kNone;
  std::vector<Asked> asked;
};

// On the session's shard: takes the request's changes and returns what is to be read.
Turn begin_turn(Service& owner, const wire::FetchRequest& fetch, std::vector<Asked> changed,
                bool by_id) {
  Turn turn;
  auto session = owner.sessions().use(fetch.session_id, fetch.session_epoch,
                                      io::Shard::current().now(), by_id);
  if (!session) {
    turn.error = session.error();
    return turn;
  }
  std::vector<FetchSessions::Key> forgotten;
  for (const auto& topic : fetch.forgotten_topics_data) {
    for (const std::int32_t partition : topic.partitions) {
      forgotten.push_back({topic.topic, partition, TopicId{topic.topic_id}});
    }
  }
  if (!owner.sessions().update(**session, std::move(changed), forgotten)) {
    owner.sessions().close(fetch.session_id);
    turn.error = KafkaError::kFetchSessionIdNotFound;
    return turn;
  }
  for (const auto& each : (*session)->partitions) turn.asked.push_back({each.item, each.id});
  return turn;
}

// On the session's shard: which of the outcomes the client is told.
std::vector<bool> end_turn(Service& owner, std::int32_t id, std::int32_t epoch,
                           const Outcomes& outcomes) {
  std::vector<bool> told(outcomes.size(), true);
  // The session may have been closed or used anew while the fetch waited; then all is told.
  auto session = owner.sessions().find(id);
  if (session == nullptr || session->next_epoch != (epoch == INT32_MAX ? 1 : epoch + 1) ||
      session->partitions.size() != outcomes.size()) {
    return told;
  }
  std::vector<bool> served(outcomes.size());
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    told[i] = FetchSessions::is_news(session->partitions[i], outcomes[i]);
    served[i] = outcomes[i].bytes > 0;
  }
  owner.sessions().rotate(*session, served);
  return told;
}

Handled fetch_in_session(Service& service, Request request, wire::FetchRequest fetch) {
  const unsigned shard = FetchSessions::shard_of(fetch.session_id, service.shard_count());
  Service* owner = service.peer(shard);
  PYRALOG_CO_ASSIGN(auto changed, asked_by(service, request, fetch));
  const bool by_id = names_topics_by_id(request.version());
  Turn turn = co_await io::on(service.shard(shard), [&]() -> io::Task<Turn> {
    co_return begin_turn(*owner, fetch, std::move(changed), by_id);
  });
  ResponseBuilder response(service, request.version());
  if (turn.error != KafkaError::kNone) co_return response.finish(request, 0, turn.error);
  FetchRoom room(request.answers);
  Outcomes outcomes = co_await read(service, request, fetch, room, turn.asked);
  const auto told = co_await io::on(service.shard(shard), [&]() -> io::Task<std::vector<bool>> {
    co_return end_turn(*owner, fetch.session_id, fetch.session_epoch, outcomes);
  });
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (told[i]) response.add(turn.asked[i], std::move(outcomes[i]));
  }
  co_return room.answer(response.finish(request, fetch.session_id));
}

/// The same error for every partition, and for the whole where the version can say so.
Handled refuse(Service& service, Request request, wire::FetchRequest fetch, KafkaError partitions,
               KafkaError whole) {
  ResponseBuilder response(service, request.version());
  PYRALOG_CO_ASSIGN(const auto asked, asked_by(service, request, fetch));
  for (const auto& each : asked) {
    broker::FetchOutcome refused;
    refused.error = partitions;
    response.add(each, std::move(refused));
  }
  co_return response.finish(request, 0, whole);
}

/// A follower of another kind of cluster says which node it is; it could not be led from here.
bool is_replica(const wire::FetchRequest& fetch) {
  return std::max(fetch.replica_id, fetch.replica_state.replica_id) >= 0;
}

}  // namespace

Handled handle_fetch(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(wire::FetchRequest fetch, decode<wire::FetchRequest>(request));
  if (request.version() < 4) {
    // Clients of message format v0 and v1, whose records are not kept.
    co_return co_await refuse(service, std::move(request), std::move(fetch),
                              KafkaError::kUnsupportedVersion, KafkaError::kNone);
  }
  if (is_replica(fetch) && !PYRALOG_PLANT("kafka.serve_foreign_replicas")) {
    co_return co_await refuse(service, std::move(request), std::move(fetch),
                              KafkaError::kClusterAuthorizationFailed,
                              KafkaError::kClusterAuthorizationFailed);
  }
  constexpr std::int32_t kFinalEpoch = -1;
  constexpr std::int32_t kInitialEpoch = 0;
  if (fetch.session_epoch == kFinalEpoch || fetch.session_epoch == kInitialEpoch) {
    if (fetch.session_id != 0) {
      const unsigned shard = FetchSessions::shard_of(fetch.session_id, service.shard_count());
      co_await io::on(service.shard(shard),
                      [&service, shard, id = fetch.session_id]() -> io::Task<void> {
                        service.peer(shard)->sessions().close(id);
                        co_return;
                      });
    }
    const bool open = fetch.session_epoch == kInitialEpoch && request.version() >= 7;
    co_return co_await fetch_all(service, std::move(request), std::move(fetch), open);
  }
  co_return co_await fetch_in_session(service, std::move(request), std::move(fetch));
}

}  // namespace pyralog::protocol::kafka
