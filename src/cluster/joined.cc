#include "cluster/joined.h"

#include <algorithm>

#include "base/plant.h"
#include "catalog/entry.h"
#include "cluster/levels.h"
#include "observe/log.h"
#include "wire/peer/gen/propose.h"

namespace pyralog::cluster {

namespace {

namespace wp = wire::peer;

constexpr Duration kLook = std::chrono::milliseconds(20);
constexpr Duration kInsistSlice = std::chrono::seconds(1);  // between looks whether to give up
constexpr Duration kTryOther = std::chrono::seconds(2);  // an address, where two are said of a node

std::string name_of(NodeId node) {
  return "node " + std::to_string(node.value);
}

/// What a command line may not say of a cluster.
Result<void> check_members(const std::vector<Member>& members) {
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (members[i].node.value < 1)
      return fail(Code::kInvalidArgument, "--cluster: node ids begin at 1");
    for (std::size_t k = 0; k < i; ++k) {
      if (members[k].node == members[i].node) {
        return fail(Code::kInvalidArgument,
                    "--cluster names " + name_of(members[i].node) + " twice; name each once");
      }
      if (members[k].peer == members[i].peer) {
        return fail(Code::kInvalidArgument,
                    "--cluster says that " + name_of(members[k].node) + " and " +
                        name_of(members[i].node) + " both listen at " +
                        io::to_string(members[i].peer) + "; each has an address of its own");
      }
    }
  }
  return {};
}

}  // namespace

Joined::Joined(NodeId self, Uuid incarnation, JoinOptions options)
    : self_(self),
      incarnation_(incarnation),
      options_(std::move(options)),
      machine_(options_.feature_level) {}

Joined::~Joined() = default;

io::Task<Result<std::unique_ptr<Joined>>> Joined::open(io::Disk& disk, std::string dir,
                                                       const Cookie& cookie, JoinOptions options) {
  std::unique_ptr<Joined> self(new Joined(cookie.node, cookie.incarnation, std::move(options)));
  JoinOptions& set = self->options_;
  PYRALOG_CO_TRY(check_members(set.members));
  const auto own = std::ranges::find(set.members, cookie.node, &Member::node);
  if (!set.listen && own != set.members.end()) set.listen = own->peer;
  if (!set.listen) {
    co_return fail(Code::kInvalidArgument,
                   "--cluster does not name " + name_of(cookie.node) +
                       ", which this node is; add it, or say --peer HOST:PORT");
  }
  PYRALOG_CO_ASSIGN(auto secret, peer::Secret::from(set.secret, set.secret_name));
  peer::Identity identity{cookie.node, cookie.incarnation,
                          static_cast<std::int64_t>(cookie.boot_counter) + 1, cookie.cluster};
  const auto level = static_cast<std::int16_t>(set.feature_level);
  const auto least = static_cast<std::int16_t>(catalog::kLeastClusterLevel);
  Peers::Options peers{
      .local = {identity, {.least_level = least, .feature_level = level}, std::move(secret)},
      .channel = set.channel,
      .listen = *set.listen};
  PYRALOG_CO_ASSIGN(self->peers_, co_await Peers::open(set.shards, std::move(peers)));
  self->advertised_ = own != set.members.end() ? own->peer : self->peers_->listening();
  if (!set.advertise.empty()) self->advertised_.host = set.advertise;
  self->transport_ = std::make_unique<RaftTransport>(self->peers_->links(0));
  multiraft::Options raft = set.raft;
  raft.path = dir + "/raft.log";
  raft.owner = cookie.incarnation;
  raft.self = cookie.node;
  raft::Config first;
  for (const Member& each : set.members) first.voters.push_back(each.node);
  std::ranges::sort(first.voters);
  auto opened = co_await multiraft::MultiRaft::open(
      disk, std::move(raft), {{kGlobalGroup, std::move(first), &self->machine_}});
  if (!opened) {
    co_await self->peers_->stop();
    co_return fail(std::move(opened.error()));
  }
  self->raft_ = std::move(*opened);
  if (auto same = self->check_first_voters(cookie); !same) {
    co_await self->peers_->stop();
    co_return fail(std::move(same.error()));
  }
  Joined* const me = self.get();
  RaftLog::Options log;
  log.group = kGlobalGroup;
  log.anybody = [me] { return me->anybody(); };
  self->log_ = std::make_unique<RaftLog>(
      *self->raft_, self->machine_,
      [me](NodeId leader, std::uint64_t expected, Bytes entries, Instant deadline) {
        return me->forward(leader, expected, std::move(entries), deadline);
      },
      std::move(log));
  self->transport_->serve(self->peers_->service(0), *self->raft_);
  self->peers_->service(0).on_task(wp::Kind::kPropose, [me](peer::Request request) {
    return me->take_proposal(std::move(request));
  });
  const auto admit = [me](const peer::Peer& peer) { return me->admit(peer); };
  self->peers_->set_admit(admit);
  self->peers_->links(0).set_admit(admit);
  self->watch_ = std::make_unique<Watch>(identity, self->peers_->links(0), *self->log_,
                                         *self->raft_, kGlobalGroup, set.watch);
  self->log_->start();
  self->watch_->start();
  self->raft_->start(*self->transport_);
  self->peers_->start();
  self->tasks_.spawn(self->follow_addresses());
  self->tasks_.spawn(self->follow_levels());
  co_return self;
}

Result<void> Joined::check_first_voters(const Cookie& cookie) const {
  // Once the cluster has formed its own log says who takes part, and the command line nothing.
  if (!cookie.cluster.is_nil() || options_.members.empty()) return {};
  std::vector<NodeId> named;
  for (const Member& each : options_.members) named.push_back(each.node);
  std::ranges::sort(named);
  const auto first = raft_->status(kGlobalGroup).config.voters;
  if (named == first) return {};
  std::string then;
  for (const NodeId each : first) then += (then.empty() ? "" : ", ") + std::to_string(each.value);
  return fail(Code::kInvalidArgument,
              "--cluster names other nodes than at this directory's first start (" + then +
                  "); give that list, or, if the cluster never formed, start all of its nodes on "
                  "empty directories");
}

Result<void> Joined::admit(const peer::Peer& peer) const {
  const catalog::Catalog& state = *machine_.catalog();
  const peer::Identity& who = peer.identity;
  const catalog::Node* known = state.node(who.node);
  if (known != nullptr && !PYRALOG_PLANT("cluster.admit_any_disk")) {
    if (known->incarnation != who.incarnation) {
      return fail(Code::kFenced, name_of(who.node) +
                                     ": its data directory is not the one registered; bring that "
                                     "back, or run cluster replace-disk");
    }
    if (who.boot_counter < static_cast<std::int64_t>(known->boot_counter)) {
      return fail(Code::kFenced, name_of(who.node) +
                                     ": its data directory is an older copy (boot " +
                                     std::to_string(who.boot_counter) + ", known " +
                                     std::to_string(known->boot_counter) +
                                     "); bring the newest back, or run cluster replace-disk");
    }
    return {};
  }
  const bool named =
      std::ranges::find(options_.members, who.node, &Member::node) != options_.members.end();
  if (named || raft_->status(kGlobalGroup).config.has(who.node)) return {};
  return fail(Code::kFenced,
              name_of(who.node) +
                  " is none of this cluster; `pyralog cluster add` at one of its nodes lets it in");
}

std::map<NodeId, io::Address> Joined::addresses() const {
  std::map<NodeId, io::Address> out;
  for (const Member& each : options_.members) out[each.node] = each.peer;
  for (const auto& [id, node] : machine_.catalog()->nodes()) {
    if (node.peer_host.empty()) continue;
    const io::Address registered{node.peer_host, static_cast<std::uint16_t>(node.peer_port)};
    const auto said = out.find(id);
    // Either may be out of date: the command line, or, where a node has moved and cannot say so
    // yet, this.
    const bool other = said != out.end() && said->second != registered && try_said_.contains(id);
    if (!other) out[id] = registered;
  }
  out.erase(self_);
  return out;
}

io::Task<void> Joined::follow_addresses() {
  Instant look = io::Shard::current().now() + kTryOther;
  while (!stopping_) {
    co_await peers_->set_peers(addresses());
    co_await log_->wait_change(
        std::min(look, io::Shard::current().now() + std::chrono::seconds(1)));
    if (io::Shard::current().now() < look) continue;
    look = io::Shard::current().now() + kTryOther;
    for (const Member& each : options_.members) {
      if (each.node == self_ || reaches(each.node)) continue;
      if (!try_said_.erase(each.node)) try_said_.insert(each.node);
    }
  }
}

io::Task<void> Joined::follow_levels() {
  while (!stopping_) {
    co_await log_->wait_change(io::Shard::current().now() + std::chrono::seconds(1));
    if (stopping_ || !raft_->settled_leader(kGlobalGroup)) continue;
    const std::vector<NodeId> members = raft_->status(kGlobalGroup).config.all();
    const std::uint16_t level = level_to_raise(*machine_.catalog(), members);
    if (level == 0) continue;
    // Whatever has changed meanwhile, the catalogue tells: it takes a level only if all have it.
    const auto raised = co_await log_->propose(
        [level](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
          if (state.level() >= level) return std::vector<catalog::Entry>{};
          return std::vector<catalog::Entry>{catalog::FeatureLevelRaised{level}};
        });
    if (raised) observe::log_info("cluster.feature_level", {{"level", (*raised)->level()}});
  }
}

bool Joined::reaches(NodeId node) const {
  if (node == self_) return true;
  const peer::Peer* peer = peers_->links(0).connected(node);
  if (peer == nullptr) return false;
  // A disk that is not the registered one answers as well, and is not that node.
  const catalog::Node* known = machine_.catalog()->node(node);
  return known == nullptr || known->incarnation == peer->identity.incarnation;
}

std::string Joined::missing() const {
  std::string out;
  for (const NodeId node : raft_->status(kGlobalGroup).config.all()) {
    if (reaches(node)) continue;
    if (!out.empty()) out += "; ";
    out += name_of(node);
    const std::string why = peers_->links(0).why_down(node);
    if (!why.empty()) out += " (" + why + ")";
  }
  return out;
}

void Joined::tell_waiting(std::string_view for_what) {
  const Instant now = io::Shard::current().now();
  if (told_ != Instant{} && now - told_ < options_.tell_every) return;
  const bool first = told_ == Instant{};
  told_ = now;
  if (first) return;  // the others may be starting just now
  observe::log_info("cluster.waiting", {{"for", for_what}, {"not_reached", missing()}});
}

io::Task<Result<Uuid>> Joined::named(Uuid proposed, WallMs now, std::function<bool()> give_up) {
  while (machine_.catalog()->cluster().is_nil()) {
    if (give_up())
      co_return fail(Code::kCancelled, "the start was ended before the cluster had formed");
    if (raft_->dead()) co_return fail(*raft_->dead());
    if (raft_->settled_leader(kGlobalGroup)) {
      // Whoever leads first names it. If that fails, whoever leads next.
      (void)co_await log_->propose(
          [&](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
            if (!state.cluster().is_nil()) return std::vector<catalog::Entry>{};
            catalog::ClusterCreated created;
            created.cluster = proposed;
            created.created = now;
            return std::vector<catalog::Entry>{created};
          });
      continue;
    }
    tell_waiting("a majority of the nodes that --cluster names");
    co_await log_->wait_change(io::Shard::current().now() + kLook);
  }
  co_return machine_.catalog()->cluster();
}

io::Task<void> Joined::set_cluster(Uuid cluster) {
  co_await peers_->set_cluster(cluster);
}

io::Task<Result<CatalogPtr>> Joined::insist(InsistentPlan plan, std::function<bool()> give_up) {
  bool may_stand = false;
  while (true) {
    PYRALOG_CO_ASSIGN(auto entries, plan(may_stand, *log_->catalog()));
    auto done = co_await log_->propose_as_is(std::move(entries), kInsistSlice);
    if (!done && may_stand && done.error().code == Code::kFenced) {
      // What stands may be ours; only the newest state tells.
      done = co_await log_->propose_within(
          [&plan](const catalog::Catalog& state) { return plan(true, state); }, kInsistSlice);
    }
    if (done) co_return done;
    const Code code = done.error().code;
    if (code != Code::kUnavailable && code != Code::kTimedOut) co_return done;
    if (raft_->dead()) co_return done;
    if (give_up())
      co_return fail(Code::kCancelled, "the start was ended while it waited for the cluster");
    may_stand = may_stand || code == Code::kTimedOut;
    tell_waiting("the cluster's agreement");
    co_await io::sleep_for(kLook);
  }
}

io::Task<Result<Forwarded>> Joined::forward(NodeId leader, std::uint64_t expected, Bytes entries,
                                            Instant deadline) {
  wp::ProposeRequest request;
  request.expected = static_cast<std::int64_t>(expected);
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - io::Shard::current().now());
  request.timeout_ms = static_cast<std::int32_t>(std::clamp<std::int64_t>(left.count(), 1, 60'000));
  const bool asks = entries.empty();
  request.entries = std::move(entries);
  PYRALOG_CO_ASSIGN(auto packed, wp::pack(request));
  if (peers_->links(0).connected(leader) == nullptr) {
    co_return fail(Code::kUnavailable, name_of(leader) + " leads and cannot be reached");
  }
  auto reply = co_await peers_->links(0).call(leader, std::move(packed), deadline);
  auto answer = reply ? wp::decode_message<wp::ProposeResponse>(reply->body.view(), reply->version)
                      : fail(std::move(reply.error()));
  if (!answer || answer->fate < 0 ||
      answer->fate > static_cast<std::int8_t>(Forwarded::Fate::kUnknown)) {
    // A question has done nothing, whatever became of it; entries may come to stand.
    if (asks) co_return fail(Code::kUnavailable, "no answer");
    co_return Forwarded{};
  }
  Forwarded told;
  told.fate = static_cast<Forwarded::Fate>(answer->fate);
  told.position = static_cast<std::uint64_t>(answer->position);
  told.leader = NodeId(answer->leader);
  if (answer->code != 0) told.why = {wp::code_of(answer->code), std::move(answer->message), 0};
  co_return told;
}

io::Task<void> Joined::take_proposal(peer::Request request) {
  auto read = wp::decode_message<wp::ProposeRequest>(request.body.view(), request.version);
  if (!read) {
    request.respond.refuse(read.error());
    co_return;
  }
  request.body = {};
  const auto patience = std::chrono::milliseconds(std::clamp(read->timeout_ms, 1, 60'000));
  const Forwarded told =
      co_await log_->take(static_cast<std::uint64_t>(read->expected), std::move(read->entries),
                          io::Shard::current().now() + patience);
  wp::ProposeResponse answer;
  answer.fate = static_cast<std::int8_t>(told.fate);
  answer.leader = told.leader.value;
  answer.position = static_cast<std::int64_t>(told.position);
  if (told.fate == Forwarded::Fate::kRefused || told.fate == Forwarded::Fate::kUnknown) {
    answer.code = wp::code_number(told.why.code);
    answer.message = told.why.message;
  }
  if (auto packed = wp::pack(answer)) request.respond.reply(std::move(*packed));
}

NodeId Joined::anybody() {
  const std::map<NodeId, io::Address> all = addresses();
  for (std::size_t i = 0; i < all.size(); ++i) {
    auto next = all.upper_bound(asked_last_);
    if (next == all.end()) next = all.begin();
    asked_last_ = next->first;
    if (reaches(asked_last_)) return asked_last_;
  }
  return raft::kNobody;
}

io::Task<void> Joined::stop() {
  stopping_ = true;
  watch_->end();
  co_await log_->stop();
  co_await raft_->stop();
  co_await watch_->join();
  transport_->forget();
  co_await peers_->stop();
  co_await transport_->join();
  co_await tasks_.join();
}

}  // namespace pyralog::cluster
