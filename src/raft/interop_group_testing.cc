#include "raft/interop_group_testing.h"

#include <algorithm>
#include <utility>

namespace pyralog::raft::interop {

namespace {

constexpr unsigned kElectionTicks = 3;
constexpr std::uint64_t kSeed = 2;

std::string quoted(const SharedBytes& data) {
  std::string out = "\"";
  for (const std::uint8_t byte : data.view()) {
    if (byte == '"' || byte == '\\') out += '\\';
    out += static_cast<char>(byte);
  }
  return out + "\"";
}

const char* kind_of(MessageKind kind) {
  switch (kind) {
    case MessageKind::kAppend:
      return "MsgApp";
    case MessageKind::kAppendReply:
      return "MsgAppResp";
    case MessageKind::kHeartbeat:
      return "MsgHeartbeat";
    case MessageKind::kHeartbeatReply:
      return "MsgHeartbeatResp";
    case MessageKind::kVote:
      return "MsgVote";
    case MessageKind::kVoteReply:
      return "MsgVoteResp";
    case MessageKind::kPreVote:
      return "MsgPreVote";
    case MessageKind::kPreVoteReply:
      return "MsgPreVoteResp";
    case MessageKind::kSnapshot:
      return "MsgSnap";
    case MessageKind::kTimeoutNow:
      return "MsgTimeoutNow";
  }
  return "";
}

std::string brackets(const std::vector<NodeId>& nodes) {
  std::string out = "[";
  for (const NodeId node : nodes) out += (out.size() > 1 ? " " : "") + std::to_string(node.value);
  return out + "]";
}

/// Puts `entries` behind what is there, or in its place.
void put(std::map<std::uint64_t, PrintedEntry>& log, std::uint64_t& last,
         const std::vector<Entry>& entries) {
  if (entries.empty()) return;
  log.erase(log.lower_bound(entries.front().index.value), log.end());
  for (const Entry& entry : entries) log[entry.index.value] = printed(entry);
  last = entries.back().index.value;
}

}  // namespace

PrintedEntry printed(const Entry& entry) {
  return {entry.term.value, entry.kind == EntryKind::kConfig ? "change" : quoted(entry.data)};
}

std::string describe(const Message& m) {
  std::string out = std::to_string(m.from.value) + "->" + std::to_string(m.to.value) + " " +
                    kind_of(m.kind) + " Term:" + std::to_string(m.term.value);
  const auto log = [&](Term term, Index index) {
    out += " Log:" + std::to_string(term.value) + "/" + std::to_string(index.value);
  };
  const auto commit = [&] {
    if (m.commit > Index(0)) out += " Commit:" + std::to_string(m.commit.value);
  };
  switch (m.kind) {
    case MessageKind::kAppend:
      log(m.log_term, m.index);
      commit();
      for (const Entry& entry : m.entries) out += " " + print(entry.index.value, printed(entry));
      break;
    case MessageKind::kAppendReply:
      log(m.reject ? m.log_term : Term(0), m.index);
      if (m.reject) out += " Rejected (Hint: " + std::to_string(m.hint.value) + ")";
      break;
    case MessageKind::kHeartbeat:
      log(Term(0), Index(0));
      commit();
      break;
    case MessageKind::kVote:
    case MessageKind::kPreVote:
      log(m.log_term, m.index);
      break;
    case MessageKind::kVoteReply:
    case MessageKind::kPreVoteReply:
      log(Term(0), Index(0));
      if (m.reject) out += " Rejected (Hint: 0)";
      break;
    case MessageKind::kSnapshot:
      log(Term(0), Index(0));
      out += " Snapshot: Index:" + std::to_string(m.snapshot->index.value) +
             " Term:" + std::to_string(m.snapshot->term.value) +
             " ConfState:Voters:" + brackets(m.snapshot->config.voters) +
             " VotersOutgoing:" + brackets(m.snapshot->config.outgoing) +
             " Learners:" + brackets(m.snapshot->config.learners) +
             " LearnersNext:" + brackets(m.snapshot->config.next_learners) +
             " AutoLeave:" + (m.snapshot->config.leaves_by_itself ? "true" : "false");
      break;
    case MessageKind::kHeartbeatReply:
    case MessageKind::kTimeoutNow:
      log(Term(0), Index(0));
      break;
  }
  return out;
}

Result<void> Group::add(const Command& command) {
  static const std::vector<std::string> kKnown = {"voters",
                                                  "learners",
                                                  "index",
                                                  "content",
                                                  "async-storage-writes",
                                                  "prevote",
                                                  "checkquorum",
                                                  "read-only",
                                                  "step-down-on-removal",
                                                  "max-committed-size-per-ready",
                                                  "inflight",
                                                  "disable-conf-change-validation"};
  for (const auto& [key, values] : command.options) {
    if (std::ranges::find(kKnown, key) == kKnown.end())
      return fail(Code::kInvalidArgument, "add-nodes has an option unknown here: " + key);
  }
  if (command.words.size() != 1) return fail(Code::kInvalidArgument, "add-nodes without a number");
  const auto nodes = [&](const char* key) {
    std::vector<NodeId> out;
    const auto found = command.options.find(key);
    if (found == command.options.end()) return out;
    for (const auto& each : found->second) out.emplace_back(std::stoi(each));
    return out;
  };
  const auto count = std::stoi(command.words[0]);
  for (int i = 0; i < count; ++i) {
    const auto id = static_cast<std::int32_t>(members_.size() + 1);
    Member& member = members_[id];
    Options& options = member.options;
    options.id = NodeId(id);
    // By this one nobody campaigns earlier than the scripts want it to.
    options.seed = kSeed;
    options.election_ticks = kElectionTicks;
    options.pre_vote = command.flag("prevote");
    options.check_quorum = command.flag("checkquorum");
    if (command.option("read-only", "") == "lease-based") options.lease_ticks = kElectionTicks - 1;
    options.sending.messages = std::stoul(command.option("inflight", "1000000"));
    options.max_apply_bytes = std::stoul(command.option("max-committed-size-per-ready", "1000000"));
    member.async = command.flag("async-storage-writes");
    Stored stored;
    stored.snapshot.index = Index(std::stoul(command.option("index", "0")));
    stored.snapshot.term = Term(stored.snapshot.index > Index(0) ? 1 : 0);
    stored.snapshot.config.voters = nodes("voters");
    stored.snapshot.config.learners = nodes("learners");
    stored.hard.commit = stored.snapshot.index;
    member.history.push_back(stored.snapshot);
    member.hard = stored.hard;
    member.disk_last = member.last = member.applied = stored.snapshot.index.value;
    member.raft = std::make_unique<Raft>(options, std::move(stored));
  }
  return {};
}

void Group::tick(std::int32_t id, unsigned times) {
  Member& member = at(id);
  for (unsigned i = 0; i < times; ++i) {
    member.raft->tick();
    // Our own timeouts are by chance and cannot be set; it comes to the same.
    if (member.timeout > 0 && ++member.ticks == member.timeout) {
      if (member.raft->role() == Role::kFollower) member.raft->campaign();
      member.timeout = 0;
    }
  }
}

void Group::leave(const Message& message) {
  sent_.push_back(describe(message));
  send(message);
}

void Group::store(Member& member, const Ready& ready) {
  if (ready.snapshot) {
    member.disk.clear();
    member.disk_last = ready.snapshot->index.value;
    member.history = {*ready.snapshot};
  }
  put(member.disk, member.disk_last, ready.entries);
}

void Group::apply(Member& member, const std::vector<Entry>& entries) {
  for (const Entry& entry : entries) {
    member.raft->applied(entry.index);
    member.history.push_back(member.raft->mark());
  }
}

void Group::process_ready(std::int32_t id) {
  Member& member = at(id);
  Raft& raft = *member.raft;
  if (!raft.has_ready()) return;
  Ready ready = raft.ready();
  // Theirs applies what a Ready stores and commits at once; ours hands it out by the next one.
  const Index committed = raft.log().committed();
  member.lead = raft.leader();
  if (ready.hard) member.hard = *ready.hard;
  if (ready.sync) synced_.insert(id);
  if (!ready.committed.empty()) member.applied = ready.committed.back().index.value;
  if (ready.snapshot) {
    member.entries.clear();
    member.last = member.applied = ready.snapshot->index.value;
  }
  put(member.entries, member.last, ready.entries);
  for (const Message& message : ready.messages) leave(message);
  if (member.async) {
    // Theirs asks for votes before its own is durable; ours does afterwards.
    std::erase_if(ready.after, [this](const Message& message) {
      const bool asks = message.kind == MessageKind::kVote;
      if (asks) leave(message);
      return asks;
    });
    if (!ready.committed.empty()) member.applying.push_back(std::move(ready.committed));
    if (ready.must_store() || !ready.after.empty()) member.appending.push_back(std::move(ready));
    return;
  }
  store(member, ready);
  apply(member, ready.committed);
  for (const Message& message : ready.after) leave(message);
  raft.persisted(ready.number);
  const bool more = raft.role() != Role::kLeader && !ready.entries.empty() &&
                    raft.log().applied() < committed && ready.committed.empty();
  if (more) process_ready(id);
}

void Group::process_append(std::int32_t id) {
  Member& member = at(id);
  if (member.appending.empty()) return;
  const Ready ready = std::move(member.appending.front());
  member.appending.pop_front();
  store(member, ready);
  for (const Message& message : ready.after) leave(message);
  flying_.push_back({id, Persisted{ready.number}});
}

void Group::process_apply(std::int32_t id) {
  Member& member = at(id);
  if (member.applying.empty()) return;
  apply(member, member.applying.front());
  member.applying.pop_front();
}

void Group::arrive(const Flying& each) {
  Raft& raft = this->raft(each.to);
  if (const auto* done = std::get_if<Persisted>(&each.what)) {
    raft.persisted(done->number);
    return;
  }
  raft.step(std::get<Message>(each.what));
}

void Group::deliver(std::int32_t id, bool drop, const std::string& kind) {
  std::deque<Flying> due, rest;
  for (Flying& each : flying_) {
    const auto* message = std::get_if<Message>(&each.what);
    const bool of_kind = kind.empty() || (message != nullptr && kind == kind_of(message->kind));
    const bool wanted = each.to == id && of_kind && (message != nullptr || !drop);
    (wanted ? due : rest).push_back(std::move(each));
  }
  flying_ = std::move(rest);
  if (drop) return;
  for (const Flying& each : due) arrive(each);
}

bool Group::stabilize(const std::vector<std::int32_t>& ids) {
  const auto waits = [this](std::int32_t id) {
    return std::ranges::any_of(flying_, [&](const Flying& each) { return each.to == id; });
  };
  for (int round = 0; round < 1'000; ++round) {
    bool done = true;
    for (const std::int32_t id : ids) {
      if (!raft(id).has_ready()) continue;
      process_ready(id);
      done = false;
    }
    for (const std::int32_t id : ids) {
      if (!waits(id)) continue;
      deliver(id, false, "");
      done = false;
    }
    for (const std::int32_t id : ids) {
      done = done && at(id).appending.empty() && at(id).applying.empty();
      while (!at(id).appending.empty()) process_append(id);
    }
    for (const std::int32_t id : ids) {
      while (!at(id).applying.empty()) process_apply(id);
    }
    if (done) return true;
  }
  return false;
}

bool Group::compact(std::int32_t id, std::uint64_t index) {
  Member& member = at(id);
  for (const SnapshotMark& mark : member.history) {
    if (mark.index.value != index) continue;
    member.raft->compact(mark);
    member.disk.erase(member.disk.begin(), member.disk.upper_bound(index));
    return true;
  }
  return false;
}

}  // namespace pyralog::raft::interop
