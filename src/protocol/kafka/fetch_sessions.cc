#include "protocol/kafka/fetch_sessions.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::protocol::kafka {

namespace {
FetchSessions::Key key_of(const broker::FetchItem& item) {
  return {item.target.topic, item.target.partition};
}
}  // namespace

void FetchSessions::index(Session& session) {
  session.index.clear();
  for (std::size_t i = 0; i < session.partitions.size(); ++i) {
    session.index[key_of(session.partitions[i].item)] = i;
  }
}

std::int32_t FetchSessions::open(std::vector<broker::FetchItem> items, std::size_t shards,
                                 std::uint64_t random, Instant now) {
  if (items.size() > options_.max_partitions) return 0;
  if (sessions_.size() >= options_.max_sessions) {
    const auto oldest = std::ranges::min_element(
        sessions_, {}, [](const auto& each) { return each.second.used; });
    if (oldest == sessions_.end() || now - oldest->second.used < options_.idle) return 0;
    sessions_.erase(oldest);
  }
  // A positive id that says whose it is; a taken one is stepped over.
  const auto step = static_cast<std::uint32_t>(shards);
  const std::uint32_t slots = 0x7fffffffu / step;
  auto slot = static_cast<std::uint32_t>(random % slots);
  std::int32_t id = 0;
  do {
    slot = (slot + 1) % slots;
    id = static_cast<std::int32_t>(slot * step + shard_);
  } while (id == 0 || sessions_.contains(id));
  Session& session = sessions_[id];
  session.id = id;
  session.used = now;
  for (auto& item : items) session.partitions.push_back({std::move(item)});
  index(session);
  return id;
}

std::expected<FetchSessions::Session*, KafkaError> FetchSessions::use(std::int32_t id,
                                                                      std::int32_t epoch,
                                                                      Instant now) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end()) return std::unexpected(KafkaError::kFetchSessionIdNotFound);
  Session& session = at->second;
  if (epoch != session.next_epoch && !PYRALOG_PLANT("kafka.any_session_epoch")) {
    return std::unexpected(KafkaError::kInvalidFetchSessionEpoch);
  }
  session.next_epoch = epoch == INT32_MAX ? 1 : epoch + 1;
  session.used = now;
  return &session;
}

FetchSessions::Session* FetchSessions::find(std::int32_t id) {
  const auto at = sessions_.find(id);
  return at == sessions_.end() ? nullptr : &at->second;
}

void FetchSessions::close(std::int32_t id) { sessions_.erase(id); }

bool FetchSessions::update(Session& session, std::vector<broker::FetchItem> items,
                           const std::vector<Key>& forgotten) {
  for (auto& item : items) {
    const auto at = session.index.find(key_of(item));
    if (at != session.index.end()) {
      session.partitions[at->second].item = std::move(item);
    } else {
      if (session.partitions.size() >= options_.max_partitions) return false;
      session.index[key_of(item)] = session.partitions.size();
      session.partitions.push_back({std::move(item)});
    }
  }
  if (forgotten.empty()) return true;
  std::vector<bool> gone(session.partitions.size());
  for (const Key& key : forgotten) {
    const auto at = session.index.find(key);
    if (at != session.index.end()) gone[at->second] = true;
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < session.partitions.size(); ++i) {
    if (gone[i]) continue;
    if (kept != i) session.partitions[kept] = std::move(session.partitions[i]);
    ++kept;
  }
  session.partitions.resize(kept);
  index(session);
  return true;
}

bool FetchSessions::is_news(Partition& partition, const broker::FetchOutcome& outcome) {
  bool news = outcome.bytes > 0 || outcome.error != KafkaError::kNone || outcome.diverging;
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
  std::vector<Partition> waiting;
  std::vector<Partition> fed;
  for (std::size_t i = 0; i < session.partitions.size(); ++i) {
    (i < served.size() && served[i] ? fed : waiting).push_back(std::move(session.partitions[i]));
  }
  std::ranges::move(fed, std::back_inserter(waiting));
  session.partitions = std::move(waiting);
  index(session);
}

}  // namespace pyralog::protocol::kafka
