#include "cluster/members.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "cluster/entries.h"
#include "io/pace.h"
#include "observe/log.h"
#include "wire/peer/gen/change_member.h"

namespace pyralog::cluster {

namespace {

namespace wp = wire::peer;

constexpr Duration kAgain = std::chrono::milliseconds(100);

std::string name_of(NodeId node) {
  return "node " + std::to_string(node.value);
}

std::string text_of(const raft::ConfigChange& change) {
  std::string out;
  for (const auto& step : change.steps) {
    if (!out.empty()) out += ", ";
    out += name_of(step.node);
    switch (step.kind) {
      case raft::ConfigChange::Kind::kAddVoter:
        out += " votes";
        break;
      case raft::ConfigChange::Kind::kAddLearner:
        out += " learns";
        break;
      case raft::ConfigChange::Kind::kRemove:
        out += " leaves";
        break;
    }
  }
  return out;
}

Result<void> check_add(const MemberChange& change, const catalog::Catalog& state) {
  for (const auto& [id, node] : state.nodes()) {
    const io::Address there{node.peer_host, static_cast<std::uint16_t>(node.peer_port)};
    if (id == change.node) {
      if (there == change.peer) return {};
      return fail(Code::kAlreadyExists, name_of(id) + ": is one of the cluster already, at " +
                                            io::to_string(there) +
                                            "; choose another id, or start it with another --peer");
    }
    if (there == change.peer) {
      return fail(Code::kInvalidArgument, name_of(change.node) + ": " + name_of(id) +
                                              " listens at " + io::to_string(there) +
                                              " already; name another address");
    }
  }
  return {};
}

}  // namespace

Members::Members(NodeId self, peer::Links& links, RaftLog& log, multiraft::MultiRaft& raft,
                 multiraft::GroupId group, const Watch& watch, Options options)
    : self_(self),
      links_(links),
      log_(log),
      raft_(raft),
      group_(group),
      watch_(watch),
      options_(std::move(options)) {}

void Members::start(peer::Service& service) {
  service.on_task(wp::Kind::kChangeMember,
                  [this](peer::Request request) { return take(std::move(request)); });
  tasks_.spawn(run());
}

void Members::end() {
  stopping_ = true;
  stop_.wake_all();
}

io::Task<void> Members::join() {
  co_await tasks_.join();
  // A change that somebody waits for ends with the log.
  (void)co_await turn_.lock();
}

VoterView Members::view() const {
  const Instant now = io::Shard::current().now();
  const auto matched = raft_.matched(group_);
  VoterView out;
  out.self = self_;
  out.config = raft_.status(group_).config;
  for (const auto& [id, node] : log_.catalog()->nodes()) {
    VoterNode each;
    each.id = id;
    each.leaving = node.draining;
    each.lacks_disk = node.lacks_disk();
    const auto life = watch_.liveness().find(id);
    if (life != watch_.liveness().end()) {
      each.up = life->second.up;
      each.gone_long = !each.up && now - life->second.since >= options_.gone_long;
    }
    const auto match = matched.find(id);
    each.caught_up =
        committed_before_ && match != matched.end() && match->second >= *committed_before_;
    out.nodes.push_back(each);
  }
  return out;
}

io::Task<void> Members::run() {
  while (!stopping_) {
    co_await stop_.wait(io::in_step(options_.look_every));
    const auto status = raft_.status(group_);
    if (stopping_ || !raft_.settled_leader(group_) || term_ != status.term) {
      committed_before_.reset();
      term_ = status.term;
      if (stopping_ || !raft_.settled_leader(group_)) continue;
    }
    if (turn_.busy()) continue;
    const auto guard = co_await turn_.lock();
    const auto change = committed_before_ ? next_change(view()) : std::nullopt;
    committed_before_ = raft_.status(group_).committed;
    if (!change) continue;
    const auto done =
        co_await raft_.change(group_, *change, io::Shard::current().now() + options_.patience);
    if (done) {
      observe::log_info("cluster.voters_changed", {{"change", text_of(*change)}});
    } else if (!stopping_) {
      observe::log_warn("cluster.voters_not_changed",
                        {{"change", text_of(*change)}, {"reason", done.error().message}});
    }
  }
}

io::Task<Result<void>> Members::change(MemberChange change, Instant deadline) {
  bool may_be_done = false;
  Error last{Code::kUnavailable,
             "no majority of the cluster's voters can be reached; see `pyralog cluster status`", 0};
  while (!stopping_) {
    const auto status = raft_.status(group_);
    if (status.role == raft::Role::kLeader) {
      auto done = co_await decide(change, deadline);
      if (done) co_return done;
      last = std::move(done.error());
    } else if (links_.connected(status.leader) != nullptr) {
      wp::ChangeMemberRequest request;
      request.change = static_cast<std::int8_t>(change.kind);
      request.node = change.node.value;
      request.host = change.peer.host;
      request.port = change.peer.port;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - io::Shard::current().now());
      request.timeout_ms =
          static_cast<std::int32_t>(std::clamp<std::int64_t>(left.count(), 1, 60'000));
      auto answer = co_await links_.ask<wp::ChangeMemberResponse>(status.leader, std::move(request),
                                                                  deadline);
      if (answer && answer->message.code == 0) co_return Result<void>{};
      if (answer) {
        last = {wp::code_of(answer->message.code), std::move(answer->message.message), 0};
      } else {
        last = std::move(answer.error());
      }
    }
    // A try whose end nobody has told may have taken it out.
    const bool gone = change.kind == MemberChange::Kind::kRemove && last.code == Code::kNotFound;
    if (gone && may_be_done) co_return Result<void>{};
    // The answer does not reach who is none of them any more.
    const bool own = change.kind == MemberChange::Kind::kRemove && change.node == self_;
    if (own && options_.removed && options_.removed()) co_return Result<void>{};
    const bool again = last.code == Code::kUnavailable || last.code == Code::kCancelled;
    if (!again || io::Shard::current().now() + kAgain >= deadline) break;
    may_be_done = true;
    co_await stop_.wait(io::Shard::current().now() + kAgain);
  }
  co_return fail(std::move(last));
}

io::Task<void> Members::take(peer::Request request) {
  auto read = wp::decode_message<wp::ChangeMemberRequest>(request.body.view(), request.version);
  if (!read) {
    request.respond.refuse(read.error());
    co_return;
  }
  const auto patience = std::chrono::milliseconds(std::clamp(read->timeout_ms, 1, 60'000));
  MemberChange change;
  change.node = NodeId(read->node);
  change.peer = {std::move(read->host), static_cast<std::uint16_t>(read->port)};
  Result<void> done;
  if (read->change < 1 || read->change > 3 || read->port < 0 || read->port > 65535) {
    done = fail(Code::kInvalidArgument, "a change of the members that this node does not know");
  } else {
    change.kind = static_cast<MemberChange::Kind>(read->change);
    done = co_await decide(std::move(change), io::Shard::current().now() + patience);
  }
  wp::ChangeMemberResponse answer;
  if (!done) {
    answer.code = wp::code_number(done.error().code);
    answer.message = done.error().message;
  }
  if (auto packed = wp::pack(answer)) request.respond.reply(std::move(*packed));
}

io::Task<Result<void>> Members::decide(MemberChange change, Instant deadline) {
  const auto guard = co_await turn_.lock();
  if (stopping_ || !raft_.settled_leader(group_) || io::Shard::current().now() >= deadline) {
    co_return fail(Code::kUnavailable, "this node does not lead the metadata log; try again");
  }
  switch (change.kind) {
    case MemberChange::Kind::kAdd:
      co_return co_await add(std::move(change), deadline);
    case MemberChange::Kind::kRemove:
      co_return co_await remove(change.node, deadline);
    case MemberChange::Kind::kReplaceDisk:
      co_return co_await replace_disk(change.node, deadline);
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Members::propose(catalog::Entry entry, Instant deadline) {
  auto done = co_await log_.propose_within(
      [entry = std::move(entry)](const catalog::Catalog&) -> Result<std::vector<catalog::Entry>> {
        return std::vector<catalog::Entry>{entry};
      },
      deadline - io::Shard::current().now());
  if (!done) co_return fail(std::move(done.error()));
  co_return Result<void>{};
}

io::Task<Result<void>> Members::add(MemberChange change, Instant deadline) {
  auto done = co_await log_.propose_within(
      [change = std::move(change)](
          const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
        PYRALOG_TRY(check_add(change, state));
        const auto known = state.invited().find(change.node);
        const catalog::Invitation wanted{
            known != state.invited().end() ? known->second.incarnation : Uuid{}, change.peer.host,
            change.peer.port};
        const bool same = known != state.invited().end() && known->second == wanted;
        if (same || state.node(change.node) != nullptr) return std::vector<catalog::Entry>{};
        return std::vector<catalog::Entry>{catalog::NodeInvited{
            change.node, wanted.incarnation, change.peer.host, change.peer.port}};
      },
      deadline - io::Shard::current().now());
  if (!done) co_return fail(std::move(done.error()));
  co_return Result<void>{};
}

io::Task<Result<void>> Members::leave(NodeId node, Instant deadline) {
  PYRALOG_CO_ASSIGN(const auto change, change_without(view(), node));
  if (!change) co_return Result<void>{};
  PYRALOG_CO_TRY(co_await raft_.change(group_, *change, deadline));
  observe::log_info("cluster.voters_changed", {{"change", text_of(*change)}});
  // Its joint phase, if it has one, ends by itself; until then it may count.
  while (raft_.status(group_).config.has(node) || raft_.status(group_).config.joint()) {
    if (stopping_ || io::Shard::current().now() >= deadline)
      co_return fail(Code::kUnavailable, name_of(node) + ": is about to leave; try again");
    co_await stop_.wait(io::Shard::current().now() + std::chrono::milliseconds(10));
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Members::remove(NodeId node, Instant deadline) {
  const CatalogPtr state = log_.catalog();
  const catalog::Entry entry = catalog::NodeRemoved{node};
  if (auto after = with(*state, {entry}); !after) co_return fail(std::move(after.error()));
  if (state->node(node) == nullptr) {
    if (raft_.status(group_).config.has(node)) PYRALOG_CO_TRY(co_await leave(node, deadline));
    co_return co_await propose(entry, deadline);
  }
  if (state->nodes().size() == 1) {
    co_return fail(Code::kInvalidArgument,
                   name_of(node) + ": it is the only node; add another one first");
  }
  if (node == self_) {
    for (const VoterNode& each : view().nodes) {
      const bool votes = raft_.status(group_).config.is_voter(each.id);
      if (each.id == self_ || !votes || !each.up || !each.caught_up || each.leaving) continue;
      (void)raft_.transfer(group_, each.id);
      co_return fail(Code::kUnavailable,
                     name_of(node) + ": it led the metadata log, which it hands over; try again");
    }
    co_return fail(Code::kUnavailable, name_of(node) +
                                           ": it leads the metadata log, and no other "
                                           "node that votes is up and has all of it; "
                                           "bring one back");
  }
  PYRALOG_CO_TRY(co_await leave(node, deadline));
  co_return co_await propose(entry, deadline);
}

io::Task<Result<void>> Members::replace_disk(NodeId node, Instant deadline) {
  const CatalogPtr state = log_.catalog();
  const catalog::Node* known = state->node(node);
  const auto invited = state->invited().find(node);
  if (known == nullptr && invited == state->invited().end()) {
    co_return fail(
        Code::kNotFound,
        name_of(node) + ": the cluster has no such node; look at pyralog cluster status");
  }
  if (known != nullptr && known->lacks_disk()) co_return Result<void>{};
  const Uuid& disk = known != nullptr ? known->incarnation : invited->second.incarnation;
  const peer::Peer* peer = links_.connected(node);
  const bool here =
      node == self_ || (peer != nullptr && peer->identity.incarnation == disk && !disk.is_nil());
  if (here && !PYRALOG_PLANT("cluster.replace_disk_in_use")) {
    co_return fail(Code::kInvalidArgument, name_of(node) +
                                               ": is running on the disk that is "
                                               "registered; stop it first");
  }
  const catalog::Entry retired = catalog::DiskRetired{node, disk};
  // What would be refused in the end takes nobody's vote.
  if (auto after = with(*state, {retired});
      known != nullptr && !after && !PYRALOG_PLANT("cluster.leave_and_then_refuse"))
    co_return fail(std::move(after.error()));
  // It votes nowhere before another disk may come in its place.
  PYRALOG_CO_TRY(co_await leave(node, deadline));
  if (known != nullptr) co_return co_await propose(retired, deadline);
  if (disk.is_nil()) co_return Result<void>{};
  std::optional<io::Address> at;
  if (options_.address_of) at = options_.address_of(node);
  if (!at) {
    co_return fail(Code::kInvalidArgument,
                   name_of(node) +
                       ": has never come, and nobody knows where it will listen; "
                       "`pyralog cluster remove` it, then add it with its address");
  }
  co_return co_await propose(catalog::NodeInvited{node, {}, at->host, at->port}, deadline);
}

}  // namespace pyralog::cluster
