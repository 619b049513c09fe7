#include "cluster/watch.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/plant.h"
#include "io/pace.h"
#include "observe/log.h"

namespace pyralog::cluster {

Watch::Watch(peer::Identity self, peer::Links& links, RaftLog& log, multiraft::MultiRaft& raft,
             multiraft::GroupId group, Options options)
    : self_(self),
      links_(links),
      log_(log),
      raft_(raft),
      group_(group),
      options_(options),
      steward_(options.steward) {}

Watch::~Watch() = default;

void Watch::start() {
  links_.on_change([this](NodeId node, bool, const std::string&) {
    // At once: what it was is gone by the time that anybody comes to look.
    look();
    if (links_.has_ended(node)) raft_.has_ended(node);
    changed_.wake_all();
    if (also_) also_(node);
  });
  raft_.on_settled([this] { changed_.wake_all(); });
  tasks_.spawn(follow());
  tasks_.spawn(run());
}

void Watch::end() {
  stopping_ = true;
  links_.on_change(nullptr);
  raft_.on_settled(nullptr);
  changed_.wake_all();
}

io::Task<void> Watch::join() {
  co_await tasks_.join();
  // A move that somebody waits for ends with the log.
  (void)co_await proposing_.lock();
}

void Watch::set_draining(NodeId node, bool draining) {
  draining ? (void)draining_.insert(node) : (void)draining_.erase(node);
  changed_.wake_all();
}

bool Watch::is_up(const catalog::Node& node) const {
  const peer::Identity* who = &self_;
  if (node.id != self_.node) {
    const peer::Peer* peer = links_.connected(node.id);
    if (peer == nullptr) return false;
    who = &peer->identity;
  }
  if (PYRALOG_PLANT("cluster.watch_any_start")) return true;
  // On another disk it is not that node. With an older start the connection only looks alive; with
  // a newer one the node is still on its way to where it can lead.
  return who->incarnation == node.incarnation &&
         std::cmp_equal(who->boot_counter, node.boot_counter);
}

void Watch::look() {
  const Instant now = io::Shard::current().now();
  const CatalogPtr& state = log_.catalog();
  std::size_t reached = 0;
  for (const auto& [id, node] : state->nodes()) {
    const bool up = is_up(node);
    if (up) ++reached;
    const auto [known, is_new] = nodes_.try_emplace(id, NodeLife{.up = up, .since = now});
    if (!is_new && known->second.up != up) known->second = {.up = up, .since = now};
    known->second.ended = !up && links_.has_ended(id);
    known->second.draining = node.draining || draining_.contains(id);
  }
  if (2 * reached <= state->nodes().size()) {
    reaches_most_since_.reset();
  } else if (!reaches_most_since_) {
    reaches_most_since_ = now;
  }
  steward_.observe(state, now);
}

bool Watch::decides() {
  const multiraft::GroupStatus status = raft_.status(group_);
  if (status.role != raft::Role::kLeader || (leads_since_ && status.term != term_))
    leads_since_.reset();
  const Instant now = io::Shard::current().now();
  // Settled once is enough: what is under way after that, `propose` waits for.
  if (!leads_since_ && raft_.settled_leader(group_)) {
    term_ = status.term;
    leads_since_ = now;
    balance_at_ = now + options_.balance_every;
  }
  if (!leads_since_ || !reaches_most_since_) return false;
  return now >= *reaches_most_since_ + options_.cut_off_grace ||
         PYRALOG_PLANT("cluster.no_leader_grace");
}

io::Task<void> Watch::follow() {
  while (!stopping_) {
    co_await log_.wait_change(io::Shard::current().now() + std::chrono::seconds(1));
    changed_.wake_all();
  }
}

io::Task<void> Watch::run() {
  while (!stopping_) {
    look();
    Steward::Proposals proposals;
    Instant next = io::in_step(options_.look_every);
    if (decides() && !proposing_.busy()) {
      const Instant now = io::Shard::current().now();
      proposals = steward_.step(nodes_, now);
      if (proposals.empty() && now >= balance_at_) {
        proposals = steward_.balance(nodes_, now);
        balance_at_ = now + options_.balance_every;
      }
      next = std::min(next, std::max(steward_.again(), now + std::chrono::milliseconds(1)));
    } else if (leads_since_ && reaches_most_since_) {
      const Instant now = io::Shard::current().now();
      const Instant then = *reaches_most_since_ + options_.cut_off_grace;
      if (then > now) next = std::min(next, then);
    }
    if (!proposals.empty()) {
      const auto guard = co_await proposing_.lock();
      if (co_await propose(std::move(proposals))) continue;
      next = io::in_step(options_.look_every);
    }
    if (!stopping_) co_await changed_.wait(next);
  }
}

io::Task<Result<void>> Watch::propose(Steward::Proposals proposals) {
  const auto first = proposals.front();
  const auto all = std::make_shared<const Steward::Proposals>(std::move(proposals));
  const auto taken = std::make_shared<std::size_t>(0);
  const MetadataLog::Plan plan =
      [this, all, taken](const catalog::Catalog& state) -> Result<std::vector<catalog::Entry>> {
    // Whoever leads by now has a steward of its own.
    if (raft_.status(group_).role != raft::Role::kLeader) {
      return fail(Code::kUnavailable, "this node does not lead the metadata log any more");
    }
    // No two are of one partition, so each may be judged by itself.
    std::vector<catalog::Entry> entries;
    for (const catalog::EpochProposed& each : *all) {
      if (state.check(each) || PYRALOG_PLANT("cluster.one_spoils_all")) entries.emplace_back(each);
    }
    *taken = entries.size();
    return entries;
  };
  const auto done = co_await log_.propose(plan);
  if (!done) {
    ++stats_.failures;
    steward_.failed();
    observe::log_warn("cluster.leaders_not_proposed",
                      {{"partitions", all->size()}, {"reason", done.error().message}});
    co_return fail(done.error());
  }
  stats_.proposed += *taken;
  stats_.left_out += all->size() - *taken;
  if (*taken > 0) {
    observe::log_info("cluster.leaders_proposed", {{"partitions", *taken},
                                                   {"first", to_string(first.partition)},
                                                   {"its_candidate", first.candidate.value}});
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Watch::move(PartitionId partition, NodeId to) {
  const auto guard = co_await proposing_.lock();
  if (!stopping_) look();
  if (stopping_ || !decides()) {
    co_return fail(Code::kUnavailable,
                   "this node does not lead the metadata log, or only just; ask the one that does, "
                   "see `pyralog cluster status`");
  }
  auto proposal = steward_.move(partition, to, nodes_, io::Shard::current().now());
  if (!proposal) co_return fail(std::move(proposal.error()));
  Steward::Proposals one;
  one.push_back(*proposal);
  co_return co_await propose(std::move(one));
}

}  // namespace pyralog::cluster
