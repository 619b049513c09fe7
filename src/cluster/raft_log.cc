#include "cluster/raft_log.h"

#include <algorithm>

#include "base/plant.h"
#include "cluster/entries.h"
#include "io/rng.h"

namespace pyralog::cluster {

RaftLog::RaftLog(multiraft::MultiRaft& raft, CatalogMachine& machine, Forward forward,
                 Options options)
    : raft_(raft),
      machine_(machine),
      forward_(std::move(forward)),
      options_(std::move(options)),
      published_(machine.catalog()) {}

RaftLog::~RaftLog() {
  machine_.on_change(nullptr);
}

void RaftLog::start() {
  machine_.on_change([this] { changed_.wake_all(); });
  tasks_.spawn(publish_loop());
  tasks_.spawn(work_loop());
}

io::Task<void> RaftLog::stop() {
  stopping_ = true;
  changed_.wake_all();
  seen_.wake_all();
  wake_.wake_all();
  co_await tasks_.join();
  for (Waiting* each : std::exchange(waiting_, {})) {
    end(*each, fail(Code::kUnavailable, "this node is stopping"));
  }
  while (!seen_.empty() || proposers_ > 0 || !observed_.empty()) {
    seen_.wake_all();
    observed_.wake_all();
    co_await io::yield();
  }
}

// ---- Who is told ----

io::Task<void> RaftLog::on_change(Observer observer) {
  observer_ = std::move(observer);
  ++observers_;
  // A new one has to learn what it has missed.
  if (observer_) published_ = nullptr;
  changed_.wake_all();
  // The one before may be under way still, and its owner about to go.
  while (observing_ && !stopping_) co_await observed_.wait(Instant::never());
}

io::Task<void> RaftLog::publish_loop() {
  while (!stopping_) {
    const CatalogPtr now = machine_.catalog();
    if (now == published_) {
      co_await changed_.wait(Instant::never());
      continue;
    }
    const std::uint64_t number = observers_;
    if (const auto observer = observer_) {
      observing_ = true;
      co_await observer(now);
      observing_ = false;
      observed_.wake_all();
    }
    // Somebody else has not seen it.
    if (number != observers_ && observer_) continue;
    published_ = now;
    seen_.wake_all();
  }
}

io::Task<bool> RaftLog::wait_for(std::uint64_t position, Instant deadline) {
  while (published_ == nullptr || published_->position() < position) {
    if (stopping_ || raft_.dead()) co_return false;
    if (!co_await seen_.wait(deadline))
      co_return published_ != nullptr && published_->position() >= position;
  }
  co_return true;
}

io::Task<void> RaftLog::wait_change(Instant deadline) {
  if (!stopping_) co_await seen_.wait(deadline);
}

// ---- At the leader ----

io::Task<Forwarded> RaftLog::decide(std::vector<catalog::Entry> entries, Instant deadline) {
  using Fate = Forwarded::Fate;
  Forwarded out;
  auto next = with(*catalog(), entries);
  if (next && next->level() > machine_.understood()) {
    next = fail(catalog::too_new("this change", next->level(), machine_.understood()));
  }
  if (!next) {
    out.fate = Fate::kRefused;
    out.why = std::move(next.error());
    co_return out;
  }
  const auto index =
      co_await raft_.propose(options_.group, SharedBytes(encode_entries(entries)), deadline);
  if (!index) {
    switch (index.error().code) {
      case Code::kUnavailable:
      case Code::kExhausted:
      case Code::kCancelled:
        out.fate = Fate::kNotLeader;
        break;
      case Code::kTooLarge:
        out.fate = Fate::kRefused;
        break;
      default:
        out.fate = Fate::kUnknown;
        break;
    }
    out.why = index.error();
    co_return out;
  }
  if (auto why = machine_.refusal(*index)) {
    out.fate = Fate::kRefused;
    out.why = std::move(*why);
    co_return out;
  }
  out.fate = Fate::kAgreed;
  out.position = catalog()->position();
  co_return out;
}

io::Task<Forwarded> RaftLog::take(std::uint64_t expected, Bytes bytes, Instant deadline) {
  using Fate = Forwarded::Fate;
  Forwarded out;
  // What this node does not understand the catalogue refuses, which says of whom that is.
  auto entries = decode_entries(bytes);
  if (!entries) {
    out.fate = Fate::kRefused;
    out.why = std::move(entries.error());
    co_return out;
  }
  const auto guard = co_await turn_.lock();
  out.fate = Fate::kNotLeader;
  out.leader = raft_.status(options_.group).leader;
  // Who has waited too long is not there for the answer any more.
  if (!raft_.settled_leader(options_.group) || stopping_ || io::Shard::current().now() >= deadline)
    co_return out;
  out.position = catalog()->position();
  if (expected != kAnyState && out.position != expected &&
      !PYRALOG_PLANT("cluster.take_stale_plans")) {
    out.fate = Fate::kBehind;
    co_return out;
  }
  if (!entries->empty()) co_return co_await decide(std::move(*entries), deadline);
  // Nobody else may have taken over meanwhile.
  if (co_await raft_.read(options_.group, deadline)) out.fate = Fate::kAgreed;
  co_return out;
}

// ---- Proposals of this node ----

RaftLog::Batch RaftLog::plan(std::size_t max_plans, std::size_t max_bytes) {
  Batch out;
  catalog::Catalog state = *catalog();
  out.base = state.position();
  std::size_t bytes = 0;
  while (!waiting_.empty() && max_plans-- > 0 && (bytes == 0 || bytes < max_bytes)) {
    Waiting* next = waiting_.front();
    waiting_.pop_front();
    out.deadline = std::max(out.deadline, next->deadline);
    auto entries = next->plan(state);
    if (!entries) {
      out.refused.emplace_back(next, std::move(entries.error()));
      continue;
    }
    if (entries->empty()) {
      out.with_nothing.push_back(next);
      continue;
    }
    auto after = with(state, *entries);
    if (!after) {
      out.refused.emplace_back(next, std::move(after.error()));
      continue;
    }
    state = std::move(*after);
    for (catalog::Entry& entry : *entries) {
      bytes += catalog::encode_entry(entry).size();
      out.entries.push_back(std::move(entry));
    }
    out.with_entries.push_back(next);
  }
  return out;
}

void RaftLog::end(Waiting& waiting, Result<CatalogPtr> result) {
  waiting.result = std::move(result);
  waiting.done.wake_all();
}

void RaftLog::expire() {
  const Instant now = io::Shard::current().now();
  std::erase_if(waiting_, [&](Waiting* each) {
    if (each->deadline > now) return false;
    end(*each, fail(Code::kUnavailable,
                    "no majority of the cluster's voters can be reached, its leader changes all "
                    "the time, or "
                    "too much is being changed at once; see `pyralog cluster status`"));
    return true;
  });
}

void RaftLog::settle(Batch batch, Forwarded done) {
  using Fate = Forwarded::Fate;
  switch (done.fate) {
    case Fate::kAgreed:
      tasks_.spawn(finish(std::move(batch), done.position));
      return;
    case Fate::kUnknown:
      for (Waiting* each : batch.with_entries) end(*each, fail(done.why));
      batch.with_entries.clear();
      break;
    case Fate::kRefused:
      // Not for what the plans say: they were tried on this state. Whose fault it is cannot be
      // told.
      for (Waiting* each : batch.with_entries) end(*each, fail(done.why));
      batch.with_entries.clear();
      break;
    case Fate::kBehind:
    case Fate::kNotLeader:
      break;
  }
  // They are decided anew, on a newer state.
  std::vector<Waiting*> again = std::move(batch.with_entries);
  again.insert(again.end(), batch.with_nothing.begin(), batch.with_nothing.end());
  for (const auto& [waiting, why] : batch.refused) again.push_back(waiting);
  waiting_.insert(waiting_.begin(), again.begin(), again.end());
}

io::Task<void> RaftLog::finish(Batch batch, std::uint64_t position) {
  const bool seen = co_await wait_for(position, batch.deadline);
  for (auto& [waiting, why] : batch.refused) end(*waiting, fail(std::move(why)));
  for (std::vector<Waiting*>* list : {&batch.with_entries, &batch.with_nothing}) {
    for (Waiting* each : *list) {
      if (seen) {
        end(*each, published_);
      } else {
        end(*each,
            fail(Code::kTimedOut, "the change stands, but this node has not taken it up in time"));
      }
    }
  }
}

io::Task<bool> RaftLog::batch_here() {
  const auto guard = co_await turn_.lock();
  if (stopping_ || !raft_.settled_leader(options_.group)) co_return false;
  expire();
  Batch batch = plan(options_.max_plans, options_.max_bytes);
  Forwarded done;
  if (!batch.entries.empty()) {
    done = co_await decide(std::move(batch.entries), batch.deadline);
  } else {
    done.fate = Forwarded::Fate::kNotLeader;
    if (co_await raft_.read(options_.group, batch.deadline)) done.fate = Forwarded::Fate::kAgreed;
    done.position = batch.base;
  }
  const bool came = done.fate != Forwarded::Fate::kNotLeader;
  settle(std::move(batch), std::move(done));
  co_return came;
}

io::Task<bool> RaftLog::batch_there(NodeId leader) {
  Batch batch = plan(options_.max_plans, options_.max_bytes);
  Bytes bytes = encode_entries(batch.entries);
  // What the plans say of an old state may be wrong of the newest: with nothing to propose the
  // leader is asked whether this is it.
  auto answer = co_await forward_(leader, batch.base, std::move(bytes), batch.deadline);
  Forwarded done;
  done.fate = Forwarded::Fate::kNotLeader;
  if (answer) done = std::move(*answer);
  hint_ = done.fate == Forwarded::Fate::kNotLeader ? done.leader : raft::kNobody;
  const bool behind = done.fate == Forwarded::Fate::kBehind;
  const std::uint64_t position = done.position;
  const bool came = done.fate != Forwarded::Fate::kNotLeader;
  settle(std::move(batch), std::move(done));
  // What is missing here is on its way.
  if (behind) (void)co_await wait_for(position, io::Shard::current().now() + options_.pause * 5);
  co_return came;
}

io::Task<void> RaftLog::work_loop() {
  while (!stopping_) {
    if (waiting_.empty()) {
      co_await wake_.wait(Instant::never());
      continue;
    }
    expire();
    if (waiting_.empty()) continue;
    if (raft_.dead()) {
      for (Waiting* each : std::exchange(waiting_, {})) end(*each, fail(*raft_.dead()));
      continue;
    }
    const multiraft::GroupStatus now = raft_.status(options_.group);
    bool came = false;
    if (raft_.settled_leader(options_.group)) {
      came = co_await batch_here();
    } else if (now.role != raft::Role::kLeader) {
      const NodeId leader = whom_to_ask();
      if (leader != raft::kNobody) came = co_await batch_there(leader);
    }
    if (came || stopping_) continue;
    const auto pause = static_cast<std::uint64_t>(options_.pause.count());
    const Instant until = io::Shard::current().now() + options_.pause +
                          Duration(io::Shard::current().rng().below(pause));
    while (!stopping_ && io::Shard::current().now() < until) co_await changed_.wait(until);
  }
}

NodeId RaftLog::whom_to_ask() {
  // Who has not heard of a leader may be known to nobody yet, at a new address: others are asked.
  NodeId leader = raft_.status(options_.group).leader;
  if (leader == raft::kNobody) leader = std::exchange(hint_, raft::kNobody);
  if (leader == raft::kNobody && options_.anybody) leader = options_.anybody();
  return leader;
}

io::Task<Result<CatalogPtr>> RaftLog::propose_as_is(std::vector<catalog::Entry> entries,
                                                    Duration timeout) {
  using Fate = Forwarded::Fate;
  const Instant deadline = io::Shard::current().now() + timeout;
  while (!stopping_ && !raft_.dead() && io::Shard::current().now() < deadline) {
    Forwarded done;
    done.fate = Fate::kNotLeader;
    if (raft_.settled_leader(options_.group)) {
      const auto guard = co_await turn_.lock();
      if (raft_.settled_leader(options_.group)) done = co_await decide(entries, deadline);
    } else if (const NodeId leader = whom_to_ask(); leader != raft::kNobody) {
      auto answer = co_await forward_(leader, kAnyState, encode_entries(entries), deadline);
      if (answer) done = std::move(*answer);
      if (done.fate == Fate::kNotLeader && done.leader != raft::kNobody) hint_ = done.leader;
    }
    if (done.fate == Fate::kRefused || done.fate == Fate::kUnknown)
      co_return fail(std::move(done.why));
    if (done.fate == Fate::kAgreed) {
      if (co_await wait_for(done.position, deadline)) co_return published_;
      co_return fail(Code::kTimedOut,
                     "the change stands, but this node has not taken it up in time");
    }
    co_await io::sleep_for(options_.pause);
  }
  if (raft_.dead()) co_return fail(*raft_.dead());
  co_return fail(Code::kUnavailable, "no majority of the cluster's voters can be reached");
}

io::Task<Result<CatalogPtr>> RaftLog::propose(Plan plan) {
  return propose_within(std::move(plan), options_.timeout);
}

io::Task<Result<CatalogPtr>> RaftLog::propose_within(Plan plan, Duration timeout) {
  if (stopping_) co_return fail(Code::kUnavailable, "this node is stopping");
  if (waiting_.size() >= options_.max_waiting) {
    co_return fail(Code::kUnavailable,
                   std::to_string(waiting_.size()) +
                       " changes of the metadata wait for their turn here; try again later");
  }
  Waiting waiting{std::move(plan), io::Shard::current().now() + timeout, std::nullopt, {}};
  waiting_.push_back(&waiting);
  ++proposers_;
  wake_.wake_all();
  while (!waiting.result) co_await waiting.done.wait(Instant::never());
  --proposers_;
  co_return std::move(*waiting.result);
}

}  // namespace pyralog::cluster
