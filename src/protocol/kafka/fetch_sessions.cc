#include "protocol/kafka/fetch_sessions.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::protocol::kafka {

namespace {
constexpr std::uint64_t kSessionBytes = sizeof(FetchSessions::Session) + 96;

/// With its nodes in the tree and among the turns.
std::uint64_t bytes_of(const broker::PartitionRef& target) {
  constexpr std::uint64_t kNodeBytes = 96;
  return sizeof(FetchSessions::Partition) + kNodeBytes + target.topic.size();
}
}  // namespace

FetchSessions::Partition* FetchSessions::Partitions::find(const Key& key) const {
  const auto at = all_.find(key);
  return at == all_.end() ? nullptr : at->get();
}

FetchSessions::Partition* FetchSessions::Partitions::find(const Asked& asked) const {
  const auto at = all_.find(asked);
  return at == all_.end() ? nullptr : at->get();
}

bool FetchSessions::add(Session& session, Asked asked) {
  const std::uint64_t bytes = bytes_of(asked.item.target);
  auto made = std::make_unique<Partition>();
  made->item = std::move(asked.item);
  made->id = asked.id;
  const auto [at, is_new] = session.partitions.all_.insert(std::move(made));
  if (!is_new) return false;
  session.partitions.turns_.push_back(at->get());
  session.bytes += bytes;
  return true;
}

bool FetchSessions::make_room(std::size_t sessions, std::uint64_t bytes, Instant now) {
  const std::uint64_t limit =
      PYRALOG_PLANT("kafka.sessions_of_any_size") ? UINT64_MAX : options_.max_bytes;
  if (bytes > limit) return false;
  while (sessions_.size() > sessions || bytes_ > limit - bytes) {
    if (sessions_.empty() || now - sessions_.front().used < options_.idle) return false;
    close(sessions_.begin());
  }
  return true;
}

std::int32_t FetchSessions::open(std::vector<Asked> items, std::size_t shards, std::uint64_t random,
                                 Instant now, bool by_id) {
  if (items.size() > options_.max_partitions || options_.max_sessions == 0) return 0;
  std::uint64_t bytes = kSessionBytes;
  for (const auto& each : items) bytes += bytes_of(each.item.target);
  const std::size_t share = PYRALOG_PLANT("kafka.sessions_of_each_shard")
                                ? options_.max_sessions
                                : std::max<std::size_t>(options_.max_sessions / shards, 1);
  if (!make_room(share - 1, bytes, now)) return 0;
  Sessions opened(1);
  Session& session = opened.front();
  session.bytes = kSessionBytes;
  session.used = now;
  session.by_id = by_id;
  for (auto& each : items) {
    if (!add(session, std::move(each))) return 0;
  }
  // A positive id that says whose it is; a taken one is stepped over.
  const auto step = static_cast<std::uint32_t>(shards);
  const std::uint32_t slots = 0x7fffffffu / step;
  auto slot = static_cast<std::uint32_t>(random % slots);
  do {
    slot = (slot + 1) % slots;
    session.id = static_cast<std::int32_t>(slot * step + shard_);
  } while (session.id == 0 || by_id_.contains(session.id));
  bytes_ += session.bytes;
  by_id_[session.id] = opened.begin();
  sessions_.splice(sessions_.end(), opened);
  return session.id;
}

std::expected<FetchSessions::Session*, KafkaError> FetchSessions::use(std::int32_t id,
                                                                      std::int32_t epoch,
                                                                      Instant now, bool by_id) {
  const auto at = by_id_.find(id);
  if (at == by_id_.end()) return std::unexpected(KafkaError::kFetchSessionIdNotFound);
  Session& session = *at->second;
  if (epoch != session.next_epoch && !PYRALOG_PLANT("kafka.any_session_epoch")) {
    return std::unexpected(KafkaError::kInvalidFetchSessionEpoch);
  }
  if (by_id != session.by_id && !PYRALOG_PLANT("kafka.names_and_ids_in_one_session")) {
    return std::unexpected(KafkaError::kFetchSessionTopicIdError);
  }
  session.next_epoch = epoch == INT32_MAX ? 1 : epoch + 1;
  session.used = now;
  sessions_.splice(sessions_.end(), sessions_, at->second);
  return &session;
}

FetchSessions::Session* FetchSessions::find(std::int32_t id) {
  const auto at = by_id_.find(id);
  return at == by_id_.end() ? nullptr : &*at->second;
}

void FetchSessions::close(std::int32_t id) {
  const auto at = by_id_.find(id);
  if (at != by_id_.end()) close(at->second);
}

void FetchSessions::close(Sessions::iterator session) {
  bytes_ -= session->bytes;
  by_id_.erase(session->id);
  sessions_.erase(session);
}

bool FetchSessions::update(Session& session, std::vector<Asked> items,
                           const std::vector<Key>& forgotten) {
  for (auto& each : items) {
    if (Partition* known = session.partitions.find(each)) {
      // The name that an id had when it came stays: it is what counts as memory, and what tells
      // whether another topic has it now.
      std::swap(each.item.target, known->item.target);
      known->item = std::move(each.item);
      continue;
    }
    if (session.partitions.size() >= options_.max_partitions) return false;
    // What is idle goes; this one was used just now and does not.
    const std::uint64_t bytes = bytes_of(each.item.target);
    if (!make_room(sessions_.size(), bytes, session.used)) return false;
    (void)add(session, std::move(each));
    bytes_ += bytes;
  }
  if (!forgotten.empty()) forget(session, forgotten);
  return true;
}

void FetchSessions::forget(Session& session, const std::vector<Key>& keys) {
  Partitions& partitions = session.partitions;
  bool any = false;
  for (const Key& key : keys) {
    if (Partition* known = partitions.find(key)) known->forgotten = any = true;
  }
  if (!any) return;
  std::erase_if(partitions.turns_, [](const Partition* each) { return each->forgotten; });
  if (partitions.turns_.size() < partitions.turns_.capacity() / 4) {
    partitions.turns_.shrink_to_fit();
  }
  for (const Key& key : keys) {
    const auto at = partitions.all_.find(key);
    if (at == partitions.all_.end()) continue;
    const std::uint64_t bytes = bytes_of((*at)->item.target);
    session.bytes -= bytes;
    bytes_ -= bytes;
    partitions.all_.erase(at);
  }
}

bool FetchSessions::is_news(Partition& partition, const broker::FetchOutcome& outcome) {
  bool news = outcome.bytes > 0 || outcome.error != KafkaError::kNone || outcome.diverging ||
              outcome.read_from;
  if (outcome.high_watermark != partition.sent_high_watermark) {
    partition.sent_high_watermark = outcome.high_watermark;
    news = true;
  }
  if (outcome.log_start != partition.sent_log_start) {
    partition.sent_log_start = outcome.log_start;
    news = true;
  }
  // An error is told again until it is gone.
  if (outcome.error != KafkaError::kNone) partition.sent_high_watermark = -2;
  return news;
}

void FetchSessions::rotate(Session& session, const std::vector<bool>& served) {
  if (std::ranges::find(served, true) == served.end()) return;
  std::vector<Partition*>& turns = session.partitions.turns_;
  std::vector<Partition*> fed;
  std::size_t waiting = 0;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    if (i < served.size() && served[i]) {
      fed.push_back(turns[i]);
    } else {
      turns[waiting++] = turns[i];
    }
  }
  std::ranges::copy(fed, turns.begin() + static_cast<std::ptrdiff_t>(waiting));
}

}  // namespace pyralog::protocol::kafka
