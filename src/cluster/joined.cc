#include "cluster/joined.h"

#include <algorithm>

#include "base/plant.h"
#include "catalog/entry.h"
#include "cluster/levels.h"
#include "observe/log.h"
#include "peer/handshake.h"
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
                                                       Cookie& cookie, JoinOptions options,
                                                       std::function<bool()> give_up) {
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
  PYRALOG_CO_ASSIGN(const bool begun, co_await disk.exists(dir + "/raft.log"));
  self->cluster_ = begun ? cookie.cluster : Uuid{};
  peer::Identity identity{cookie.node, cookie.incarnation,
                          static_cast<std::int64_t>(cookie.boot_counter) + 1, self->cluster_};
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
  Joined* const me = self.get();
  const auto admit = [me](const peer::Peer& peer) { return me->admit(peer); };
  self->peers_->set_admit(admit);
  self->peers_->links(0).set_admit(admit);
  Result<void> ready;
  if (!begun) ready = co_await self->first_start(disk, dir, cookie, std::move(give_up));
  if (ready) ready = co_await self->open_raft(disk, dir);
  if (!ready) {
    co_await self->peers_->stop();
    co_await self->tasks_.join();
    co_return fail(std::move(ready.error()));
  }
  self->watch_ = std::make_unique<Watch>(identity, self->peers_->links(0), *self->log_,
                                         *self->raft_, kGlobalGroup, set.watch);
  Members::Options voters = set.voters;
  voters.address_of = [me](NodeId node) -> std::optional<io::Address> {
    const auto all = me->addresses();
    const auto found = all.find(node);
    return found == all.end() ? std::nullopt : std::optional(found->second);
  };
  voters.removed = [me] { return me->refused_for_good().has_value(); };
  self->members_ =
      std::make_unique<Members>(self->self_, self->peers_->links(0), *self->log_, *self->raft_,
                                kGlobalGroup, *self->watch_, std::move(voters));
  self->log_->start();
  self->watch_->start();
  self->members_->start(self->peers_->service(0));
  self->raft_->start(*self->transport_);
  if (begun) self->peers_->start();
  self->tasks_.spawn(self->follow_addresses());
  self->tasks_.spawn(self->follow_levels());
  co_return self;
}

io::Task<Result<void>> Joined::open_raft(io::Disk& disk, std::string dir) {
  multiraft::Options raft = options_.raft;
  raft.path = dir + "/raft.log";
  raft.owner = incarnation_;
  raft.self = self_;
  PYRALOG_CO_ASSIGN(raft_, co_await multiraft::MultiRaft::open(disk, std::move(raft),
                                                               {{kGlobalGroup, {}, &machine_}}));
  decide_whether_to_vote();
  RaftLog::Options log;
  log.group = kGlobalGroup;
  log.anybody = [this] { return anybody(); };
  log_ = std::make_unique<RaftLog>(
      *raft_, machine_,
      [this](NodeId leader, std::uint64_t expected, Bytes entries, Instant deadline) {
        return forward(leader, expected, std::move(entries), deadline);
      },
      std::move(log));
  transport_->serve(peers_->service(0), *raft_);
  peers_->service(0).on_task(wp::Kind::kPropose, [this](peer::Request request) {
    return take_proposal(std::move(request));
  });
  co_return Result<void>{};
}

namespace {
multiraft::Options journal_of(const std::string& dir, const Uuid& incarnation, NodeId self) {
  multiraft::Options out;
  out.path = dir + "/raft.log";
  out.owner = incarnation;
  out.self = self;
  return out;
}
}  // namespace

io::Task<Result<void>> Joined::found_alone(io::Disk& disk, std::string dir, const Cookie& cookie,
                                           const catalog::Catalog& state) {
  multiraft::Founding group;
  group.id = kGlobalGroup;
  group.config.voters = {cookie.node};
  group.content = SharedBytes(state.encode_snapshot());
  co_return co_await multiraft::MultiRaft::found(
      disk, journal_of(dir, cookie.incarnation, cookie.node), {std::move(group)});
}

io::Task<Result<void>> Joined::first_start(io::Disk& disk, std::string dir, Cookie& cookie,
                                           std::function<bool()> give_up) {
  peers_->start();
  co_await peers_->set_peers(addresses());
  const Instant patient_until = io::Shard::current().now() + options_.first_patience;
  FirstStart first;
  std::map<NodeId, Uuid> disks;
  while (first.kind == FirstStart::Kind::kWait) {
    if (give_up())
      co_return fail(Code::kCancelled, "the start was ended before the cluster had formed");
    std::map<NodeId, Seen> seen;
    disks = {{self_, incarnation_}};
    for (const auto& [node, address] : addresses()) {
      const peer::Peer* peer = peers_->links(0).connected(node);
      if (peer == nullptr) continue;
      seen[node] = {peer->identity.incarnation, peer->identity.cluster,
                    static_cast<std::uint16_t>(peer->level)};
      disks[node] = peer->identity.incarnation;
    }
    first = decide_first_start(self_, incarnation_, options_.members, seen,
                               io::Shard::current().now() >= patient_until, options_.feature_level);
    if (first.kind != FirstStart::Kind::kWait) break;
    tell_waiting("all of the nodes that --cluster names, or one of a cluster that exists");
    co_await io::sleep_for(kLook);
  }
  // The name before the journal: who has a journal says the name to whoever asks.
  cookie.cluster = first.cluster;
  PYRALOG_CO_TRY(co_await write_cookie(disk, dir, cookie));
  multiraft::Founding group;
  group.id = kGlobalGroup;
  if (first.kind == FirstStart::Kind::kBegin) {
    for (const auto& [node, incarnation] : disks) group.config.voters.push_back(node);
    group.content = SharedBytes(first_catalog(disks, first.level).encode_snapshot());
  }
  PYRALOG_CO_TRY(co_await multiraft::MultiRaft::found(disk, journal_of(dir, incarnation_, self_),
                                                      {std::move(group)}));
  const std::string cluster = to_string(first.cluster);
  if (first.kind == FirstStart::Kind::kBegin) {
    observe::log_info("cluster.begun", {{"cluster", cluster}});
  } else {
    observe::log_info("cluster.joining", {{"cluster", cluster}});
  }
  cluster_ = first.cluster;
  co_await peers_->set_cluster(cluster_);
  // What is said from now on is said by a connection that names the cluster.
  co_await peers_->set_peers({});
  co_return Result<void>{};
}

void Joined::decide_whether_to_vote() {
  const catalog::Catalog& state = *machine_.catalog();
  bool may = !is_new();
  if (state.position() > 0) {
    const auto invited = state.invited().find(self_);
    const bool first =
        invited != state.invited().end() && invited->second.incarnation == incarnation_;
    may = (state.node(self_) != nullptr || first) && state.check_disk(self_, incarnation_);
  }
  raft_->may_vote(kGlobalGroup, may);
}

bool Joined::is_new() const {
  return raft_ == nullptr || raft_->status(kGlobalGroup).config.voters.empty();
}

std::optional<Error> Joined::refused_for_good() const {
  // What they say of this node, not what this node says of them.
  const std::string of_this = std::string(peer::kRefused) + name_of(self_) + ":";
  for (const auto& [node, address] : addresses()) {
    if (peers_->links(0).connected(node) != nullptr) continue;
    const std::string why = peers_->links(0).why_down(node);
    if (why.find(of_this) == std::string::npos) continue;
    if (why.find(catalog::kWasRemoved) == std::string::npos &&
        why.find(catalog::kWasReplaced) == std::string::npos)
      continue;
    return Error{Code::kFenced, why, 0};
  }
  return std::nullopt;
}

Result<void> Joined::admit(const peer::Peer& peer) const {
  const catalog::Catalog& state = *machine_.catalog();
  const peer::Identity& who = peer.identity;
  const bool named =
      std::ranges::find(options_.members, who.node, &Member::node) != options_.members.end();
  // A connection from before this node has begun may be of one that began another cluster.
  const bool begun = raft_ != nullptr && !cluster_.is_nil();
  if (begun && !who.cluster.is_nil() && who.cluster != cluster_) {
    return fail(Code::kFenced, name_of(who.node) +
                                   " belongs to another cluster; start it with an "
                                   "empty directory");
  }
  if (state.position() == 0) {
    // Who knows nothing yet lets in whom it hopes to learn from.
    const bool of_ours = !who.cluster.is_nil() && (cluster_.is_nil() || cluster_ == who.cluster);
    if (named || of_ours) return {};
    return fail(Code::kFenced, name_of(who.node) + " is not named by --cluster of " +
                                   name_of(self_) + "; name it, or start with an empty directory");
  }
  const catalog::Node* known = state.node(who.node);
  if (known != nullptr && PYRALOG_PLANT("cluster.admit_any_disk")) return {};
  if (auto may = state.check_disk(who.node, who.incarnation); !may) {
    // Of clusters that began before disks were invited.
    const bool unknown = may.error().code == Code::kNotFound;
    if (unknown && raft_ != nullptr && raft_->status(kGlobalGroup).config.has(who.node)) return {};
    return fail(Code::kFenced, std::move(may.error().message));
  }
  const bool same = known != nullptr && known->incarnation == who.incarnation;
  if (same && who.boot_counter < static_cast<std::int64_t>(known->boot_counter)) {
    return fail(Code::kFenced, name_of(who.node) + ": its data directory is an older copy (boot " +
                                   std::to_string(who.boot_counter) + ", known " +
                                   std::to_string(known->boot_counter) +
                                   "); bring the newest back, or run cluster replace-disk");
  }
  return {};
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
  for (const auto& [id, each] : machine_.catalog()->invited()) {
    if (!each.host.empty()) out[id] = {each.host, static_cast<std::uint16_t>(each.port)};
  }
  out.erase(self_);
  return out;
}

io::Task<void> Joined::follow_addresses() {
  Instant look = io::Shard::current().now() + kTryOther;
  CatalogPtr before;
  bool wanted = true;
  while (!stopping_) {
    if (wanted) decide_whether_to_vote();
    co_await peers_->set_peers(addresses());
    const CatalogPtr now = machine_.catalog();
    const bool others =
        before == nullptr || before->nodes() != now->nodes() || before->invited() != now->invited();
    before = now;
    if (others && !PYRALOG_PLANT("cluster.admitted_once")) co_await peers_->admit_again();
    co_await log_->wait_change(
        std::min(look, io::Shard::current().now() + std::chrono::seconds(1)));
    if (auto why = wanted && !is_new() ? refused_for_good() : std::nullopt) {
      wanted = false;
      raft_->may_vote(kGlobalGroup, false);
      observe::log_error("cluster.not_wanted", {{"reason", why->message}});
    }
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
  std::vector<NodeId> wanted;
  if (!is_new()) {
    wanted = raft_->status(kGlobalGroup).config.all();
  } else {
    for (const auto& [node, address] : addresses()) wanted.push_back(node);
  }
  std::string out;
  for (const NodeId node : wanted) {
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
    if (auto why = refused_for_good()) co_return fail(std::move(*why));
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
  members_->end();
  co_await log_->stop();
  co_await raft_->stop();
  co_await watch_->join();
  co_await members_->join();
  transport_->forget();
  co_await peers_->stop();
  co_await transport_->join();
  co_await tasks_.join();
}

}  // namespace pyralog::cluster
