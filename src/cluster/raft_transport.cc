#include "cluster/raft_transport.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::cluster {

namespace {

namespace wp = wire::peer;

// What leaves as one frame; a single message may be larger.
constexpr std::size_t kFrameBytes = 4u << 20;

std::uint64_t natural(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}
std::int64_t integer(std::uint64_t value) {
  return static_cast<std::int64_t>(value);
}

wp::RaftMessages::Message encoded(const multiraft::GroupMessage& in) {
  const raft::Message& m = in.message;
  wp::RaftMessages::Message out;
  out.group = static_cast<std::int16_t>(in.group.value);
  out.kind = static_cast<std::int8_t>(m.kind);
  out.from = m.from.value;
  out.to = m.to.value;
  out.term = integer(m.term.value);
  out.index = integer(m.index.value);
  out.log_term = integer(m.log_term.value);
  out.commit = integer(m.commit.value);
  out.commit_term = integer(m.commit_term.value);
  for (const raft::Entry& entry : m.entries) {
    const ByteView data = entry.data.view();
    out.entries.push_back({integer(entry.term.value), static_cast<std::int8_t>(entry.kind),
                           Bytes(data.begin(), data.end())});
  }
  out.reject = m.reject;
  out.force = m.force;
  out.hint = integer(m.hint.value);
  out.round = integer(m.round);
  return out;
}

Result<multiraft::GroupMessage> decoded(const wp::RaftMessages::Message& in) {
  constexpr auto kLastKind = static_cast<std::int8_t>(raft::MessageKind::kTimeoutNow);
  constexpr auto kLastEntry = static_cast<std::int8_t>(raft::EntryKind::kConfig);
  if (in.group < 0 || in.kind < 0 || in.kind > kLastKind) {
    return fail(Code::kCorrupt, "a Raft message of kind " + std::to_string(in.kind) + " is none");
  }
  multiraft::GroupMessage out;
  out.group = multiraft::GroupId(static_cast<std::uint16_t>(in.group));
  raft::Message& m = out.message;
  m.kind = static_cast<raft::MessageKind>(in.kind);
  m.from = NodeId(in.from);
  m.to = NodeId(in.to);
  m.term = raft::Term(natural(in.term));
  m.index = raft::Index(natural(in.index));
  m.log_term = raft::Term(natural(in.log_term));
  m.commit = raft::Index(natural(in.commit));
  m.commit_term = raft::Term(natural(in.commit_term));
  std::uint64_t index = natural(in.index);
  for (const auto& entry : in.entries) {
    if (entry.kind < 0 || entry.kind > kLastEntry) {
      return fail(Code::kCorrupt,
                  "an entry of a Raft message is of kind " + std::to_string(entry.kind));
    }
    m.entries.push_back({raft::Term(natural(entry.term)), raft::Index(++index),
                         static_cast<raft::EntryKind>(entry.kind), SharedBytes::copy(entry.data)});
  }
  m.reject = in.reject;
  m.force = in.force;
  m.hint = raft::Index(natural(in.hint));
  m.round = natural(in.round);
  return out;
}

std::size_t size_of(const multiraft::GroupMessage& message) {
  std::size_t bytes = 80;
  for (const raft::Entry& entry : message.message.entries) bytes += 16 + entry.data.size();
  return bytes;
}

}  // namespace

wp::RaftMessages encode_messages(const std::vector<multiraft::GroupMessage>& messages) {
  wp::RaftMessages out;
  out.messages.reserve(messages.size());
  for (const auto& each : messages) out.messages.push_back(encoded(each));
  return out;
}

Result<std::vector<multiraft::GroupMessage>> decode_messages(const wp::RaftMessages& messages) {
  std::vector<multiraft::GroupMessage> out;
  out.reserve(messages.messages.size());
  for (const auto& each : messages.messages) {
    PYRALOG_ASSIGN(auto message, decoded(each));
    out.push_back(std::move(message));
  }
  return out;
}

void RaftTransport::serve(peer::Service& service, multiraft::MultiRaft& raft) {
  raft_ = &raft;
  service.on(wp::Kind::kRaftMessages, [this](peer::Request request) { take_messages(request); });
  service.on(wp::Kind::kRaftSnapshot,
             [this](peer::Request request) { take_chunk(std::move(request)); });
}

bool RaftTransport::send(NodeId to, std::vector<multiraft::GroupMessage> messages) {
  bool taken = true;
  for (std::size_t from = 0; from < messages.size();) {
    std::vector<multiraft::GroupMessage> part;
    std::size_t bytes = 0;
    while (from < messages.size() && (part.empty() || bytes < kFrameBytes)) {
      bytes += size_of(messages[from]);
      part.push_back(std::move(messages[from++]));
    }
    auto packed = wp::pack(encode_messages(part));
    // What does not leave is as good as lost on its way: the groups say it again.
    taken = packed && links_.cast(to, std::move(*packed)) && taken;
  }
  return taken;
}

void RaftTransport::take_messages(const peer::Request& request) {
  if (raft_ == nullptr) return;
  drop_silent();
  auto read = wp::decode_message<wp::RaftMessages>(request.body.view(), request.version);
  auto messages = read ? decode_messages(*read) : fail(read.error());
  if (!messages) {
    observe::log_warn("raft.bad_message",
                      {{"from", request.from.value}, {"reason", messages.error().message}});
    return;
  }
  raft_->receive(request.from, std::move(*messages));
}

void RaftTransport::stop() {
  stopping_ = true;
  for (Asked* each : asked_) each->done.wake_all();
}

io::Task<void> RaftTransport::ask(std::shared_ptr<Asked> asked, NodeId to, wp::Packed packed) {
  asked->reply = co_await links_.call(to, std::move(packed),
                                      io::Shard::current().now() + options_.chunk_timeout);
  asked->done.wake_all();
}

/// The reply, or kCancelled at once when it is stopped: the links then end the question.
io::Task<Result<peer::Reply>> RaftTransport::answer_of(NodeId to, wp::Packed packed) {
  const auto asked = std::make_shared<Asked>();
  if (!stopping_ || PYRALOG_PLANT("cluster.send_on_when_stopped")) {
    tasks_.spawn(ask(asked, to, std::move(packed)));
  }
  asked_.insert(asked.get());
  while (!asked->reply && (!stopping_ || PYRALOG_PLANT("cluster.send_on_when_stopped"))) {
    co_await asked->done.wait(Instant::never());
  }
  asked_.erase(asked.get());
  if (!asked->reply) co_return fail(Code::kCancelled, "this node is stopping");
  co_return std::move(*asked->reply);
}

io::Task<Result<void>> RaftTransport::send_snapshot(multiraft::GroupMessage message,
                                                    SharedBytes content) {
  const raft::Message m = std::move(message.message);
  wp::RaftSnapshotRequest chunk;
  chunk.group = static_cast<std::int16_t>(message.group.value);
  chunk.from_term = integer(m.term.value);
  chunk.index = integer(m.snapshot->index.value);
  chunk.term = integer(m.snapshot->term.value);
  chunk.config = raft::encode(m.snapshot->config);
  chunk.total = static_cast<std::int64_t>(content.size());
  std::size_t at = 0;
  do {
    const std::size_t count = std::min(options_.chunk_bytes, content.size() - at);
    const SharedBytes piece = content.slice(at, count);
    chunk.at = static_cast<std::int64_t>(at);
    chunk.chunk = wp::Records::external(0, count);
    PYRALOG_CO_ASSIGN(auto packed, wp::pack(chunk, {piece}));
    PYRALOG_CO_ASSIGN(const auto reply, co_await answer_of(m.to, std::move(packed)));
    PYRALOG_CO_ASSIGN(const auto answer, wp::decode_message<wp::RaftSnapshotResponse>(
                                             reply.body.view(), reply.version));
    at += count;
    if (answer.error_code != 0 || answer.taken != static_cast<std::int64_t>(at)) {
      co_return fail(wp::code_of(answer.error_code), "node " + std::to_string(m.to.value) +
                                                         " did not take the snapshot at byte " +
                                                         std::to_string(chunk.at));
    }
  } while (at < content.size());
  co_return Result<void>{};
}

void RaftTransport::take_chunk(peer::Request request) {
  auto read = wp::decode_message<wp::RaftSnapshotRequest>(request.body.view(), request.version);
  if (!read) return request.respond.refuse(read.error());
  const Result<std::int64_t> taken = took(request.from, *read);
  auto packed = wp::pack(wp::RaftSnapshotResponse{
      taken ? std::int16_t{0} : wp::code_number(taken.error().code), taken.value_or(0)});
  if (packed) request.respond.reply(std::move(*packed));
}

/// How much of the snapshot is here now. Together with its last piece it is installed: what that
/// says is the answer.
Result<std::int64_t> RaftTransport::took(NodeId from, const wp::RaftSnapshotRequest& chunk) {
  if (raft_ == nullptr) return fail(Code::kUnavailable, "the node is stopping");
  drop_silent();
  const auto most = static_cast<std::int64_t>(options_.max_snapshot_bytes);
  const auto length = static_cast<std::int64_t>(chunk.chunk.view.size());
  if (chunk.group < 0 || chunk.index < 1 || chunk.from_term < 1 || chunk.total < 0 ||
      chunk.total > most || chunk.at < 0 || length > chunk.total ||
      chunk.at > chunk.total - length || (length == 0 && chunk.total > 0)) {
    return fail(Code::kInvalidArgument, "a piece of a snapshot that cannot be");
  }
  const Key key(from, multiraft::GroupId(static_cast<std::uint16_t>(chunk.group)));
  if (chunk.at == 0) PYRALOG_TRY(begin(key, chunk));
  const auto found = arriving_.find(key);
  if (found == arriving_.end()) return fail(Code::kCancelled, "no such snapshot has been begun");
  Arriving& arriving = found->second;
  const bool same = arriving.from_term == chunk.from_term && arriving.index == chunk.index &&
                    arriving.term == chunk.term && arriving.total == chunk.total;
  if (!same || chunk.at != static_cast<std::int64_t>(arriving.bytes.size())) {
    return fail(Code::kCancelled, "not the next piece of the snapshot that has been begun");
  }
  arriving.last = io::Shard::current().now();
  const ByteView bytes = chunk.chunk.view;
  arriving.bytes.insert(arriving.bytes.end(), bytes.begin(), bytes.end());
  const auto taken = static_cast<std::int64_t>(arriving.bytes.size());
  if (taken == arriving.total) PYRALOG_TRY(install(key, chunk));
  return taken;
}

/// Room for a snapshot that begins. What is on its way is not sacrificed to a newcomer: two would
/// take each other's place for ever.
Result<void> RaftTransport::begin(const Key& key, const wp::RaftSnapshotRequest& chunk) {
  if (!raft_->has(key.second)) {
    return fail(Code::kNotFound, "group " + std::to_string(key.second.value) + " is not known");
  }
  if (natural(chunk.from_term) < raft_->status(key.second).term.value) {
    return fail(Code::kFenced, "a newer leader is known");
  }
  // What is new replaces what the same node had begun.
  if (const auto old = arriving_.find(key); old != arriving_.end()) drop(old);
  const auto total = static_cast<std::size_t>(chunk.total);
  const bool fits = arriving_.size() < options_.max_arriving &&
                    total <= options_.max_arriving_bytes - arriving_bytes_;
  if (!fits && !PYRALOG_PLANT("cluster.any_number_of_snapshots")) {
    return fail(Code::kExhausted, "too many snapshots are on their way here; try again later");
  }
  Arriving made{chunk.from_term, chunk.index, chunk.term,
                chunk.total,     {},          io::Shard::current().now()};
  made.bytes.reserve(total);
  arriving_.emplace(key, std::move(made));
  arriving_bytes_ += total;
  return {};
}

Result<void> RaftTransport::install(const Key& key, const wp::RaftSnapshotRequest& chunk) {
  const auto found = arriving_.find(key);
  Bytes content = std::move(found->second.bytes);
  drop(found);
  raft::Message m;
  m.kind = raft::MessageKind::kSnapshot;
  m.from = key.first;
  m.to = raft_->self();
  m.term = raft::Term(natural(chunk.from_term));
  PYRALOG_ASSIGN(raft::Config config, raft::decode_config(chunk.config));
  m.snapshot = raft::SnapshotMark{raft::Index(natural(chunk.index)),
                                  raft::Term(natural(chunk.term)), std::move(config)};
  return raft_->install(key.first, {key.second, std::move(m)}, SharedBytes(std::move(content)));
}

std::map<RaftTransport::Key, RaftTransport::Arriving>::iterator RaftTransport::drop(
    std::map<Key, Arriving>::iterator which) {
  arriving_bytes_ -= static_cast<std::size_t>(which->second.total);
  return arriving_.erase(which);
}

void RaftTransport::drop_silent() {
  if (PYRALOG_PLANT("cluster.keep_silent_snapshots")) return;
  const Instant now = io::Shard::current().now();
  for (auto each = arriving_.begin(); each != arriving_.end();) {
    each = now - each->second.last > options_.silence ? drop(each) : std::next(each);
  }
}

}  // namespace pyralog::cluster
