#pragma once
// A coordinator under test: a table, a clock that is set by hand, and the offsets partition.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "group/group_table.h"

namespace pyralog::group::testing {

inline Bytes bytes(std::string_view text) {
  const ByteView view = as_bytes(text);
  return Bytes(view.begin(), view.end());
}

class Coordinator {
 public:
  explicit Coordinator(Options options = {},
                       std::shared_ptr<Tally> tally = std::make_shared<Tally>())
      : options_(options), tally_(std::move(tally)), table_(options, tally_) {
    (void)take(table_.loaded(now()));
  }

  [[nodiscard]] Now now() const { return Now{Instant{ms * 1'000'000}, WallMs{1'000'000 + ms}}; }

  /// Feeds an input; what it appends commits at once unless `hold` is set.
  void feed(const Input& input) { take(table_.step(input, now())); }
  /// Lets the appends that are held commit, or fail.
  void release(KafkaError error = KafkaError::kNone) {
    while (!held.empty()) {
      const Append append = std::move(held.front());
      held.erase(held.begin());
      // What is late is in the log all the same.
      if (error == KafkaError::kNone || error == KafkaError::kRequestTimedOut)
        log_.insert(log_.end(), append.records.begin(), append.records.end());
      take(table_.step(Appended{append.append_id, error}, now()));
    }
  }
  /// Lets time pass, with all ticks that are due.
  void pass(std::int64_t milliseconds) {
    const std::int64_t end = ms + milliseconds;
    while (timer_ != Instant::never() && timer_.ns <= end * 1'000'000) {
      ms = std::max(ms, (timer_.ns + 999'999) / 1'000'000);
      ++ticks;
      take(table_.step(Tick{}, now()));
    }
    ms = end;
  }
  /// A round of expiry at this time of the wall clock, as far as appends are not held.
  void expire(std::int64_t by_ms) {
    ExpiryRound round{WallMs{by_ms}, {}, false};
    for (; !round.over; ++expiry_steps) take(table_.expire(round, now()));
  }
  /// A new leader of the partition: waiting clients are told, committed records are replayed.
  void restart() {
    held.clear();
    take(table_.unload());
    table_ = GroupTable(options_, tally_);
    for (const StoredRecord& r : log_) {
      const auto value = r.value ? std::optional<ByteView>(*r.value) : std::nullopt;
      PYRALOG_ASSERT(table_.load(r.key, value).has_value());
    }
    take(table_.loaded(now()));
  }

  /// The answer to `token`, taken out; none if there is none yet.
  template <typename T>
  std::optional<T> reply(Token token) {
    const auto at = replies.find(token);
    if (at == replies.end()) return std::nullopt;
    T answer = std::get<T>(std::move(at->second));
    replies.erase(at);
    return answer;
  }
  [[nodiscard]] GroupTable& table() { return table_; }
  [[nodiscard]] const std::vector<StoredRecord>& log() const { return log_; }

  std::int64_t ms = 1'000;
  bool hold = false;
  std::vector<Append> held;
  std::map<Token, Response> replies;
  std::size_t answered_twice = 0;
  Expired expired;  ///< in all
  std::size_t expiry_steps = 0;
  std::size_t ticks = 0;
  std::size_t largest_append = 0;  ///< in records

 private:
  void take(Effects effects) {
    timer_ = effects.next_timer;
    for (Reply& r : effects.replies) {
      if (!replies.emplace(r.token, std::move(r.response)).second) ++answered_twice;
    }
    for (Append& a : effects.appends) {
      largest_append = std::max(largest_append, a.records.size());
      held.push_back(std::move(a));
    }
    expired += effects.expired;
    if (!hold) release();
  }

  Options options_;
  std::shared_ptr<Tally> tally_;
  GroupTable table_;
  std::vector<StoredRecord> log_;
  Instant timer_ = Instant::never();
};

/// Requests of a member "c-N" of group "g" with protocol "range".
inline JoinRequest join(Token token, std::string member = {}, int version = 4) {
  JoinRequest r;
  r.token = token;
  r.group = "g";
  r.member_id = std::move(member);
  r.client_id = "c";
  r.client_host = "/127.0.0.1";
  r.protocol_type = "consumer";
  r.protocols = {Protocol{"range", bytes("m")}};
  r.session_timeout_ms = 10'000;
  r.rebalance_timeout_ms = 60'000;
  r.require_known_member_id = version >= 4;
  r.supports_skipping_assignment = version >= 9;
  r.new_member_id = "c-" + std::to_string(token);
  return r;
}
inline JoinRequest join_static(Token token, std::string instance, std::string member = {},
                               int version = 5) {
  JoinRequest r = join(token, std::move(member), version);
  r.new_member_id = instance + "-" + std::to_string(token);
  r.instance_id = std::move(instance);
  return r;
}
inline SyncRequest sync(Token token, std::int32_t generation, std::string member,
                        std::vector<SyncRequest::Assignment> assignments = {}) {
  SyncRequest r;
  r.token = token;
  r.group = "g";
  r.generation = generation;
  r.member_id = std::move(member);
  r.assignments = std::move(assignments);
  return r;
}
inline HeartbeatRequest heartbeat(Token token, std::int32_t generation, std::string member) {
  return HeartbeatRequest{token, "g", generation, std::move(member), {}};
}
inline LeaveRequest leave(Token token, std::string member,
                          std::optional<std::string> instance = {}) {
  return LeaveRequest{token, "g", {{std::move(member), std::move(instance)}}};
}
inline CommitRequest commit(Token token, std::int32_t generation, std::string member,
                            std::int64_t offset, std::string topic = "t") {
  CommitRequest r;
  r.token = token;
  r.group = "g";
  r.generation = generation;
  r.member_id = std::move(member);
  r.partitions = {{std::move(topic), 0, offset, 3, "note"}};
  return r;
}
inline std::int64_t committed(const GroupTable& table, const std::string& topic = "t") {
  FetchOffsetsRequest r{"g", {{{topic, {0}}}}};
  return table.fetch_offsets(r).partitions.at(0).offset;
}

/// A member of version 3 (no two-step join) alone in a stable group: its id; generation 1.
inline std::string stable_alone(Coordinator& c, Token token = 900) {
  c.feed(join(token, {}, 3));
  c.pass(3'000);
  const auto joined = c.reply<JoinResponse>(token);
  PYRALOG_ASSERT(joined && joined->error == KafkaError::kNone);
  c.feed(
      sync(token + 1, joined->generation, joined->member_id, {{joined->member_id, bytes("all")}}));
  PYRALOG_ASSERT(c.reply<SyncResponse>(token + 1)->error == KafkaError::kNone);
  return joined->member_id;
}

}  // namespace pyralog::group::testing
