// Whoever asks a group for something and waits for the answer.
#include <string>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "multiraft/multiraft.h"

namespace pyralog::multiraft {

io::Task<MultiRaft::Fate> MultiRaft::wait(GroupId id, raft::Index index, raft::Term term,
                                          Instant deadline) {
  Group& in = group(id);
  Waiter waiter{term, Fate::kOpen, {}};
  const auto at = in.waiters.emplace(index, &waiter);
  wake();
  ++waiting_;
  bool in_time = true;
  while (waiter.fate == Fate::kOpen && in_time && !stopping_ && !dead_) {
    in_time = co_await waiter.done.wait(deadline);
  }
  --waiting_;
  if (waiter.fate == Fate::kOpen) in.waiters.erase(at);
  co_return waiter.fate;
}

io::Task<Result<raft::Index>> MultiRaft::wait_fate(GroupId id, raft::Index index,
                                                   Instant deadline) {
  const Fate fate = co_await wait(id, index, group(id).raft->term(), deadline);
  const std::string name =
      "entry " + std::to_string(index.value) + " of group " + std::to_string(id.value);
  switch (fate) {
    case Fate::kApplied:
      co_return index;
    case Fate::kReplaced:
      co_return fail(Code::kCancelled,
                     name + ": another leader has taken over before it was agreed; try again");
    case Fate::kUnknown:
    case Fate::kOpen:
      break;
  }
  if (dead_) co_return fail(Code::kIo, name + ": " + dead_->message);
  if (stopping_)
    co_return fail(Code::kTimedOut,
                   name + ": the node is stopping; it may be agreed all the same");
  co_return fail(Code::kTimedOut, name + ": no majority has agreed in time; it may still be");
}

Result<void> MultiRaft::may_propose(const Group& to, std::size_t bytes) const {
  if (dead_) return fail(*dead_);
  if (stopping_) return fail(Code::kUnavailable, "the node is stopping");
  if (bytes > options_.max_proposal_bytes && !PYRALOG_PLANT("multiraft.any_size")) {
    return fail(Code::kTooLarge, "group " + std::to_string(to.id.value) + ": an entry of " +
                                     std::to_string(bytes) + " bytes, over the limit of " +
                                     std::to_string(options_.max_proposal_bytes) +
                                     "; propose less at once");
  }
  const bool leads = to.raft->role() == raft::Role::kLeader;
  if (leads && no_space_ && !PYRALOG_PLANT("multiraft.propose_on_a_full_disk")) {
    return fail(Code::kExhausted, "group " + std::to_string(to.id.value) +
                                      ": the disk of the node that leads it is full (" +
                                      journal_->path() + "); free space, or try again");
  }
  return {};
}

io::Task<Result<raft::Index>> MultiRaft::propose(GroupId id, SharedBytes data, Instant deadline) {
  PYRALOG_ASSERT(!data.empty());
  catch_up();
  PYRALOG_CO_TRY(may_propose(group(id), data.size()));
  PYRALOG_CO_ASSIGN(const raft::Index index, group(id).raft->propose(std::move(data)));
  co_return co_await wait_fate(id, index, deadline);
}

io::Task<Result<raft::Index>> MultiRaft::change(GroupId id, raft::ConfigChange change,
                                                Instant deadline) {
  catch_up();
  PYRALOG_CO_TRY(may_propose(group(id), 0));
  PYRALOG_CO_ASSIGN(const raft::Index index, group(id).raft->propose(change));
  co_return co_await wait_fate(id, index, deadline);
}

io::Task<Result<raft::Index>> MultiRaft::read(GroupId id, Instant deadline) {
  catch_up();
  Group& in = group(id);
  const std::uint64_t context = next_read_++;
  Read answer;
  in.reads.emplace(context, &answer);
  if (!dead_ && !stopping_) in.raft->read(context);
  wake();
  ++waiting_;
  bool in_time = true;
  while (answer.state == Read::State::kOpen && in_time && !stopping_ && !dead_) {
    in_time = co_await answer.done.wait(deadline);
  }
  --waiting_;
  in.reads.erase(context);
  if (answer.state != Read::State::kAt) {
    co_return fail(Code::kUnavailable,
                   "group " + std::to_string(id.value) +
                       ": no leader has confirmed in time what is agreed; try again");
  }
  if (!co_await wait_applied(id, answer.index, deadline)) {
    co_return fail(Code::kUnavailable,
                   "group " + std::to_string(id.value) + ": this node lags behind; try again");
  }
  co_return answer.index;
}

io::Task<bool> MultiRaft::wait_applied(GroupId id, raft::Index index, Instant deadline) {
  if (group(id).raft->log().applied() >= index) co_return true;
  if (stopping_ || dead_) co_return false;
  co_return co_await wait(id, index, raft::Term(0), deadline) == Fate::kApplied;
}

void MultiRaft::has_ended(NodeId node) {
  catch_up();
  for (auto& [id, each] : groups_) each.raft->has_ended(node);
  wake();
}

std::map<NodeId, raft::Index> MultiRaft::matched(GroupId id) const {
  std::map<NodeId, raft::Index> out;
  for (const auto& [node, progress] : group(id).raft->progress()) out[node] = progress.match();
  return out;
}

Result<void> MultiRaft::transfer(GroupId id, NodeId to) {
  catch_up();
  const auto begun = group(id).raft->transfer_to(to);
  wake();
  return begun;
}

}  // namespace pyralog::multiraft
