#include "cluster/raft_log.h"

#include "base/plant.h"
#include "cluster/entries.h"
#include "io/rng.h"

namespace pyralog::cluster {

RaftLog::RaftLog(multiraft::MultiRaft& raft, CatalogMachine& machine, Forward forward,
                 Options options)
    : raft_(raft),
      machine_(machine),
      forward_(std::move(forward)),
      options_(options),
      published_(machine.catalog()) {}

RaftLog::~RaftLog() {
  machine_.on_change(nullptr);
}

void RaftLog::start() {
  machine_.on_change([this] { changed_.wake_all(); });
  tasks_.spawn(publish_loop());
}

io::Task<void> RaftLog::stop() {
  stopping_ = true;
  changed_.wake_all();
  seen_.wake_all();
  co_await tasks_.join();
  while (!seen_.empty()) {
    seen_.wake_all();
    co_await io::yield();
  }
}

void RaftLog::on_change(std::function<io::Task<void>(CatalogPtr)> observer) {
  observer_ = std::move(observer);
  // It has to learn what it has missed.
  if (observer_) published_ = nullptr;
  changed_.wake_all();
}

io::Task<void> RaftLog::publish_loop() {
  while (!stopping_) {
    const CatalogPtr now = machine_.catalog();
    if (now == published_) {
      co_await changed_.wait(Instant::never());
      continue;
    }
    if (const auto observer = observer_) co_await observer(now);
    published_ = now;
    seen_.wake_all();
  }
}

io::Task<bool> RaftLog::wait_for(std::uint64_t position, Instant deadline) {
  while (published_ == nullptr || published_->position() < position) {
    if (stopping_ || raft_.dead()) co_return false;
    if (!co_await seen_.wait(deadline)) co_return false;
  }
  co_return true;
}

io::Task<void> RaftLog::wait_change(Instant deadline) {
  if (!stopping_) co_await seen_.wait(deadline);
}

io::Task<Forwarded> RaftLog::decide(std::vector<catalog::Entry> entries, Instant deadline) {
  using Fate = Forwarded::Fate;
  if (auto next = with(*catalog(), entries); !next) {
    co_return Forwarded{Fate::kRefused, catalog()->position(), std::move(next.error())};
  }
  const auto index =
      co_await raft_.propose(options_.group, SharedBytes(encode_entries(entries)), deadline);
  if (!index) {
    const Code code = index.error().code;
    const bool nothing_done =
        code == Code::kUnavailable || code == Code::kExhausted || code == Code::kCancelled;
    co_return Forwarded{nothing_done && !raft_.dead() ? Fate::kNotLeader : Fate::kUnknown, 0,
                        index.error()};
  }
  if (auto why = machine_.refusal(*index)) {
    co_return Forwarded{Fate::kRefused, catalog()->position(), std::move(*why)};
  }
  co_return Forwarded{Fate::kAgreed, catalog()->position(), {}};
}

io::Task<Forwarded> RaftLog::take(std::uint64_t expected, Bytes bytes, Instant deadline) {
  using Fate = Forwarded::Fate;
  auto entries = decode_entries(bytes);
  if (!entries) co_return Forwarded{Fate::kRefused, 0, std::move(entries.error())};
  const auto guard = co_await turn_.lock();
  if (!raft_.settled_leader(options_.group) || stopping_)
    co_return Forwarded{Fate::kNotLeader, 0, {}};
  const std::uint64_t position = catalog()->position();
  if (position != expected && !PYRALOG_PLANT("cluster.take_stale_plans")) {
    co_return Forwarded{Fate::kBehind, position, {}};
  }
  if (entries->empty()) {
    // Nobody else may have taken over meanwhile.
    if (!co_await raft_.read(options_.group, deadline))
      co_return Forwarded{Fate::kNotLeader, 0, {}};
    co_return Forwarded{Fate::kAgreed, position, {}};
  }
  co_return co_await decide(std::move(*entries), deadline);
}

io::Task<RaftLog::Attempt> RaftLog::propose_here(const Plan& plan, Instant deadline) {
  Forwarded done;
  {
    const auto guard = co_await turn_.lock();
    if (!raft_.settled_leader(options_.group)) co_return std::nullopt;
    auto entries = plan(*catalog());
    if (!entries || entries->empty()) {
      if (!co_await raft_.read(options_.group, deadline)) co_return std::nullopt;
      if (!entries) co_return Attempt(fail(std::move(entries.error())));
      co_return Attempt(catalog());
    }
    done = co_await decide(std::move(*entries), deadline);
  }
  switch (done.fate) {
    case Forwarded::Fate::kAgreed:
      break;
    case Forwarded::Fate::kBehind:
    case Forwarded::Fate::kNotLeader:
      co_return std::nullopt;
    case Forwarded::Fate::kRefused:
    case Forwarded::Fate::kUnknown:
      co_return Attempt(fail(std::move(done.why)));
  }
  if (!co_await wait_for(done.position, deadline)) {
    co_return Attempt(
        fail(Code::kTimedOut, "the change stands, but this node has not taken it up in time"));
  }
  co_return Attempt(catalog());
}

io::Task<RaftLog::Attempt> RaftLog::propose_there(const Plan& plan, NodeId leader,
                                                  Instant deadline) {
  const CatalogPtr base = catalog();
  auto entries = plan(*base);
  // What the plan says of an old state may be wrong of the newest: with nothing to propose the
  // leader is asked whether this is it.
  Bytes bytes;
  if (entries) bytes = encode_entries(*entries);
  auto answer = co_await forward_(leader, base->position(), std::move(bytes), deadline);
  if (!answer) co_return std::nullopt;
  switch (answer->fate) {
    case Forwarded::Fate::kAgreed:
      break;
    case Forwarded::Fate::kBehind:
      // What is missing here is on its way.
      (void)co_await wait_for(answer->position,
                              std::min(deadline, io::Shard::current().now() + options_.pause * 5));
      co_return std::nullopt;
    case Forwarded::Fate::kNotLeader:
      co_return std::nullopt;
    case Forwarded::Fate::kRefused:
    case Forwarded::Fate::kUnknown:
      co_return Attempt(fail(std::move(answer->why)));
  }
  if (!entries) co_return Attempt(fail(std::move(entries.error())));
  if (!co_await wait_for(answer->position, deadline)) {
    co_return Attempt(
        fail(Code::kTimedOut, "the change stands, but this node has not heard of it in time"));
  }
  co_return Attempt(catalog());
}

io::Task<Result<CatalogPtr>> RaftLog::propose(Plan plan) {
  const Instant deadline = io::Shard::current().now() + options_.timeout;
  while (!stopping_ && !raft_.dead() && io::Shard::current().now() < deadline) {
    const multiraft::GroupStatus now = raft_.status(options_.group);
    Attempt attempt;
    if (raft_.settled_leader(options_.group)) {
      attempt = co_await propose_here(plan, deadline);
    } else if (now.leader != raft::kNobody && now.role != raft::Role::kLeader) {
      attempt = co_await propose_there(plan, now.leader, deadline);
    }
    if (attempt) co_return std::move(*attempt);
    const auto pause = static_cast<std::uint64_t>(options_.pause.count());
    co_await io::sleep_for(options_.pause + Duration(io::Shard::current().rng().below(pause)));
  }
  if (raft_.dead()) co_return fail(*raft_.dead());
  co_return fail(
      Code::kUnavailable,
      stopping_
          ? "this node is stopping"
          : "no majority of the cluster's voters can be reached, or its leader changes all the "
            "time; see `pyralog cluster status`");
}

}  // namespace pyralog::cluster
