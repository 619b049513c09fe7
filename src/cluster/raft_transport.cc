#include "cluster/raft_transport.h"

#include <algorithm>
#include <utility>

#include "observe/log.h"
#include "wire/peer/gen/raft_snapshot.h"

namespace pyralog::cluster {

namespace {

namespace wp = wire::peer;

// What leaves as one frame; a single message may be larger.
constexpr std::size_t kFrameBytes = 4u << 20;
constexpr std::size_t kMaxArriving = 16;

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

void RaftTransport::send(NodeId to, std::vector<multiraft::GroupMessage> messages) {
  for (std::size_t from = 0; from < messages.size();) {
    std::vector<multiraft::GroupMessage> part;
    std::size_t bytes = 0;
    while (from < messages.size() && (part.empty() || bytes < kFrameBytes)) {
      bytes += size_of(messages[from]);
      part.push_back(std::move(messages[from++]));
    }
    auto packed = wp::pack(encode_messages(part));
    // What does not leave is as good as lost on its way: the groups say it again.
    if (packed) (void)links_.cast(to, std::move(*packed));
  }
}

void RaftTransport::take_messages(const peer::Request& request) {
  if (raft_ == nullptr) return;
  auto read = wp::decode_message<wp::RaftMessages>(request.body.view(), request.version);
  auto messages = read ? decode_messages(*read) : fail(read.error());
  if (!messages) {
    observe::log_warn("raft.bad_message",
                      {{"from", request.from.value}, {"reason", messages.error().message}});
    return;
  }
  raft_->receive(request.from, std::move(*messages));
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
    PYRALOG_CO_ASSIGN(const auto reply,
                      co_await links_.call(m.to, std::move(packed),
                                           io::Shard::current().now() + options_.chunk_timeout));
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
  const auto answer = [&](std::optional<Code> code, std::int64_t taken) {
    const std::int16_t number = code ? wp::code_number(*code) : std::int16_t{0};
    auto packed = wp::pack(wp::RaftSnapshotResponse{number, taken});
    if (packed) request.respond.reply(std::move(*packed));
  };
  if (raft_ == nullptr) return answer(Code::kUnavailable, 0);
  auto read = wp::decode_message<wp::RaftSnapshotRequest>(request.body.view(), request.version);
  if (!read) return request.respond.refuse(read.error());
  const ByteView chunk = read->chunk.view;
  const auto most = static_cast<std::int64_t>(options_.max_snapshot_bytes);
  const auto length = static_cast<std::int64_t>(chunk.size());
  if (read->group < 0 || read->index < 1 || read->total < 0 || read->total > most || read->at < 0 ||
      length > read->total || read->at > read->total - length) {
    return answer(Code::kInvalidArgument, 0);
  }
  const multiraft::GroupId group(static_cast<std::uint16_t>(read->group));
  const auto key = std::pair(request.from, group);
  if (read->at == 0) {
    // What is new replaces what the same node had begun; who breaks off leaves no more than this.
    if (arriving_.size() >= kMaxArriving && !arriving_.contains(key))
      arriving_.erase(arriving_.begin());
    arriving_[key] = Arriving{read->from_term, read->index, read->term, read->total, {}};
  }
  const auto found = arriving_.find(key);
  if (found == arriving_.end()) return answer(Code::kCancelled, 0);
  Arriving& arriving = found->second;
  const bool same = arriving.from_term == read->from_term && arriving.index == read->index &&
                    arriving.term == read->term && arriving.total == read->total;
  if (!same || read->at != static_cast<std::int64_t>(arriving.bytes.size())) {
    return answer(Code::kCancelled, static_cast<std::int64_t>(arriving.bytes.size()));
  }
  arriving.bytes.insert(arriving.bytes.end(), chunk.begin(), chunk.end());
  const auto taken = static_cast<std::int64_t>(arriving.bytes.size());
  if (taken == arriving.total) {
    auto config = raft::decode_config(read->config);
    Bytes content = std::move(arriving.bytes);
    arriving_.erase(found);
    if (!config) return answer(Code::kInvalidArgument, 0);
    raft::Message m;
    m.kind = raft::MessageKind::kSnapshot;
    m.from = request.from;
    m.to = raft_->self();
    m.term = raft::Term(natural(read->from_term));
    m.snapshot = raft::SnapshotMark{raft::Index(natural(read->index)),
                                    raft::Term(natural(read->term)), std::move(*config)};
    raft_->install(request.from, {group, std::move(m)}, SharedBytes(std::move(content)));
  }
  answer(std::nullopt, taken);
}

}  // namespace pyralog::cluster
