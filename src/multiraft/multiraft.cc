#include "multiraft/multiraft.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "io/rng.h"
#include "multiraft/stored.h"
#include "observe/log.h"

namespace pyralog::multiraft {

namespace {

constexpr std::uint32_t kJournalKind = 0x54464152;  // "RAFT"
constexpr std::size_t kMaxFrameBytes = 512u << 20;  // a snapshot is one frame
constexpr std::size_t kFrameBytes = 8u << 20;       // of many groups
constexpr int kRounds = 16;

journal::Options journal_options(const Options& options) {
  journal::Options out;
  out.kind = kJournalKind;
  out.owner = options.owner;
  out.max_frame_bytes = kMaxFrameBytes;
  return out;
}

/// Whether the core may be given it: it asserts what a decoder has to see to.
bool is_sound(const raft::Message& m, NodeId from, NodeId self) {
  if (m.from != from || m.to != self || m.snapshot) return false;
  if (m.kind == raft::MessageKind::kSnapshot) return false;
  for (std::size_t i = 0; i < m.entries.size(); ++i) {
    if (m.entries[i].index.value != m.index.value + 1 + i) return false;
    if (i > 0 && m.entries[i].term < m.entries[i - 1].term) return false;
  }
  return true;
}

}  // namespace

MultiRaft::MultiRaft(Options options) : options_(std::move(options)) {}
MultiRaft::~MultiRaft() = default;

io::Task<Result<std::unique_ptr<MultiRaft>>> MultiRaft::open(io::Disk& disk, Options options,
                                                             std::vector<GroupSpec> groups) {
  std::unique_ptr<MultiRaft> self(new MultiRaft(std::move(options)));
  std::map<GroupId, StoredGroup> found;
  PYRALOG_CO_ASSIGN(self->journal_, co_await journal::Journal::open(
                                        disk, self->options_.path, journal_options(self->options_),
                                        [&](ByteView frame) { return read_frame(frame, found); }));
  Bytes first;
  for (const GroupSpec& spec : groups) {
    if (found.contains(spec.id)) continue;
    if (spec.initial.voters.empty()) {
      co_return fail(Code::kInvalidArgument, "Raft journal " + self->options_.path + ": group " +
                                                 std::to_string(spec.id.value) +
                                                 " is new here, and nobody has said who takes part in it");
    }
    // Who takes part is stored before anything is said: later the journal alone decides.
    StoredGroup fresh;
    fresh.raft.snapshot.config = spec.initial;
    PYRALOG_CO_ASSIGN(const auto at, self->journal_->append(snapshot_frame(spec.id, fresh)));
    (void)at;
    found.emplace(spec.id, std::move(fresh));
  }
  PYRALOG_CO_TRY(co_await self->journal_->commit(self->journal_->end()));
  for (const GroupSpec& spec : groups) {
    StoredGroup& stored = found.at(spec.id);
    Group group;
    group.id = spec.id;
    group.machine = spec.machine;
    if (stored.raft.snapshot.index.value > 0) {
      PYRALOG_CO_TRY(spec.machine->restore(stored.content.view()));
    }
    raft::Options core = self->options_.raft;
    core.id = self->options_.self;
    core.seed = io::Shard::current().rng().next();
    group.raft = std::make_unique<raft::Raft>(core, std::move(stored.raft));
    self->groups_.emplace(spec.id, std::move(group));
    found.erase(spec.id);
  }
  if (!found.empty()) {
    co_return fail(Code::kCorrupt,
                   "Raft journal " + self->options_.path + ": knows a group " +
                       std::to_string(found.begin()->first.value) +
                       " that this cluster does not have; is it another cluster's?");
  }
  self->rewrite_at_ = self->options_.rewrite_bytes;
  co_return self;
}

io::Task<Result<void>> MultiRaft::peek(io::Disk& disk, Options options, GroupId group,
                                       StateMachine& machine) {
  std::map<GroupId, StoredGroup> found;
  PYRALOG_CO_TRY(
      co_await journal::Journal::peek(disk, options.path, journal_options(options),
                                      [&](ByteView frame) { return read_frame(frame, found); }));
  const auto at = found.find(group);
  if (at == found.end()) co_return Result<void>{};
  const StoredGroup& stored = at->second;
  if (stored.raft.snapshot.index.value > 0) PYRALOG_CO_TRY(machine.restore(stored.content.view()));
  for (const raft::Entry& entry : stored.raft.entries) {
    if (entry.index > stored.raft.hard.commit) break;
    if (entry.kind == raft::EntryKind::kNormal && !entry.data.empty()) {
      PYRALOG_CO_TRY(machine.apply(entry.index, entry.data));
    }
  }
  co_return Result<void>{};
}

MultiRaft::Group& MultiRaft::group(GroupId id) {
  const auto found = groups_.find(id);
  PYRALOG_ASSERT(found != groups_.end());
  return found->second;
}

const MultiRaft::Group& MultiRaft::group(GroupId id) const {
  const auto found = groups_.find(id);
  PYRALOG_ASSERT(found != groups_.end());
  return found->second;
}

void MultiRaft::start(Transport& transport) {
  transport_ = &transport;
  next_tick_ = io::Shard::current().now() + options_.tick;
  tasks_.spawn(run());
}

io::Task<void> MultiRaft::stop() {
  stopping_ = true;
  wake();
  changed_.wake_all();
  co_await tasks_.join();
  while (!changed_.empty()) {
    changed_.wake_all();
    co_await io::yield();
  }
}

void MultiRaft::wake() {
  woken_ = true;
  wake_.wake_all();
}

io::Task<void> MultiRaft::run() {
  while (!stopping_ && !dead_) {
    if (!woken_) co_await wake_.wait(next_tick_);
    woken_ = false;
    if (stopping_ || dead_) break;
    tick_if_due(io::Shard::current().now());
    turn();
  }
}

void MultiRaft::tick_if_due(Instant now) {
  if (now < next_tick_) return;
  // A node that was held up has missed what others sent as well: one tick, however late, so that it
  // reads what has come before it thinks that nobody leads.
  next_tick_ = now + options_.tick;
  for (auto& [id, each] : groups_) each.raft->tick();
}

void MultiRaft::receive(NodeId from, std::vector<GroupMessage> messages) {
  if (stopping_ || dead_) return;
  for (GroupMessage& each : messages) {
    const auto found = groups_.find(each.group);
    if (found == groups_.end() || !is_sound(each.message, from, options_.self)) continue;
    found->second.raft->step(std::move(each.message));
  }
  wake();
}

void MultiRaft::install(NodeId from, GroupMessage message, SharedBytes content) {
  if (stopping_ || dead_) return;
  raft::Message& m = message.message;
  const auto found = groups_.find(message.group);
  if (found == groups_.end() || m.from != from || m.to != options_.self || !m.snapshot ||
      m.kind != raft::MessageKind::kSnapshot) {
    return;
  }
  Group& into = found->second;
  if (const auto sound = into.machine->check(content.view()); !sound) {
    observe::log_error(
        "raft.bad_snapshot",
        {{"group", message.group.value}, {"from", from.value}, {"reason", sound.error().message}});
    return;
  }
  turn();  // what came before is not mixed with it
  into.arrived = std::move(content);
  into.raft->step(std::move(m));
  turn();
  into.arrived.reset();
}

void MultiRaft::turn() {
  for (int round = 0; round < kRounds && !dead_; ++round) {
    Writer frame;
    bool any = false;
    for (auto& [id, each] : groups_) {
      while (each.raft->has_ready()) {
        any = true;
        take_ready(each, frame);
        if (frame.size() >= kFrameBytes) end_frame(frame);
      }
      const bool leads = each.raft->role() == raft::Role::kLeader;
      if (leads && !each.led) ++stats_.elections_won;
      each.led = leads;
    }
    end_frame(frame);
    store();
    complete();
    if (!any) break;
  }
  flush();
  if (dead_) return;
  if (std::ranges::any_of(groups_, [](const auto& each) { return each.second.raft->has_ready(); }))
    wake();
  const bool unsynced =
      std::ranges::any_of(storing_, [](const Storing& each) { return each.sync; });
  if (unsynced && !syncing_) {
    syncing_ = true;
    tasks_.spawn(sync_loop());
  }
  if (journal_->size_bytes() > rewrite_at_ && !rewriting_) {
    rewriting_ = true;
    tasks_.spawn(rewrite());
  }
}

void MultiRaft::take_ready(Group& from, Writer& frame) {
  raft::Ready ready = from.raft->ready();
  post(from, std::move(ready.messages));
  SharedBytes content;
  if (ready.snapshot) {
    PYRALOG_ASSERT(from.arrived);
    content = *std::exchange(from.arrived, std::nullopt);
    const auto restored = from.machine->restore(content.view());
    PYRALOG_ASSERT(restored);  // it was checked when it came
    ++stats_.snapshots_taken;
    for (auto& [index, waiter] : from.waiters) {
      if (index <= ready.snapshot->index) waiter->fate = Waiter::Fate::kUnknown;
    }
    changed_.wake_all();
  }
  Storing storing{&from, ready.number, std::move(ready.after), ready.sync, 0, std::nullopt};
  if (ready.must_store()) {
    write_record(frame, from.id, ready, content);
    storing.frame = next_frame_;
  }
  storing_.push_back(std::move(storing));
  for (const raft::ReadReady& read : ready.reads) {
    const auto asked = from.reads.find(read.context);
    if (asked == from.reads.end()) continue;
    asked->second =
        read.index ? Read{Read::State::kAt, *read.index} : Read{Read::State::kRefused, {}};
    changed_.wake_all();
  }
  if (!ready.committed.empty()) apply(from, std::move(ready.committed));
}

void MultiRaft::apply(Group& to, std::vector<raft::Entry> committed) {
  for (const raft::Entry& entry : committed) {
    if (entry.kind == raft::EntryKind::kNormal && !entry.data.empty()) {
      const auto applied = to.machine->apply(entry.index, entry.data);
      if (!applied) return die(applied.error());
    }
    const auto [first, last] = to.waiters.equal_range(entry.index);
    for (auto each = first; each != last; ++each) {
      each->second->fate =
          each->second->term == entry.term ? Waiter::Fate::kApplied : Waiter::Fate::kReplaced;
    }
  }
  to.raft->applied(committed.back().index);
  changed_.wake_all();
}

void MultiRaft::end_frame(Writer& frame) {
  if (frame.size() == 0) return;
  frames_.push_back(frame.take());
  frame = Writer();
  ++next_frame_;
}

void MultiRaft::store() {
  while (!frames_.empty()) {
    const auto at = journal_->append(frames_.front());
    if (!at) {
      // No space: nothing of it is promised, and the next tick tries again.
      if (at.error().code != Code::kExhausted) return die(at.error());
      if (!std::exchange(no_space_, true)) {
        observe::log_error("raft.no_space",
                           {{"file", journal_->path()}, {"reason", at.error().message}});
      }
      return;
    }
    no_space_ = false;
    const std::uint64_t number = next_frame_ - frames_.size();
    frames_.pop_front();
    for (Storing& each : storing_) {
      if (each.frame == number) each.position = *at;
    }
  }
}

void MultiRaft::complete() {
  while (!storing_.empty()) {
    Storing& next = storing_.front();
    const bool durable = next.position && *next.position <= journal_->durable();
    if (next.sync && !durable && !PYRALOG_PLANT("multiraft.answer_before_sync")) break;
    Storing done = std::move(next);
    storing_.pop_front();
    done.group->raft->persisted(done.number);
    post(*done.group, std::move(done.after));
  }
}

io::Task<void> MultiRaft::sync_loop() {
  while (!stopping_ && !dead_) {
    const auto last =
        std::ranges::find_if(storing_.rbegin(), storing_.rend(),
                             [](const Storing& each) { return each.sync && each.position; });
    if (last == storing_.rend()) break;
    const auto synced = co_await journal_->commit(*last->position);
    if (!synced) {
      die(synced.error());
      break;
    }
    ++stats_.syncs;
    complete();
    wake();
  }
  syncing_ = false;
}

void MultiRaft::post(Group& from, std::vector<raft::Message> messages) {
  for (raft::Message& m : messages) {
    if (m.kind != raft::MessageKind::kSnapshot) {
      outbox_[m.to].push_back({from.id, std::move(m)});
      continue;
    }
    // As it is now, which is later than what the core asks for, and as good.
    m.snapshot = from.raft->mark();
    ++stats_.snapshots_sent;
    tasks_.spawn(bring_snapshot({from.id, std::move(m)}, SharedBytes(from.machine->snapshot())));
  }
}

void MultiRaft::flush() {
  for (auto& [to, messages] : std::exchange(outbox_, {})) {
    ++stats_.frames_sent;
    stats_.messages_sent += messages.size();
    transport_->send(to, std::move(messages));
  }
}

io::Task<void> MultiRaft::bring_snapshot(GroupMessage message, SharedBytes content) {
  const GroupId id = message.group;
  const NodeId to = message.message.to;
  co_await io::yield();  // not within a turn
  if (stopping_ || dead_) co_return;
  const auto brought = co_await transport_->send_snapshot(std::move(message), std::move(content));
  if (stopping_ || dead_) co_return;
  if (!brought) {
    observe::log_warn("raft.snapshot_not_sent",
                      {{"group", id.value}, {"to", to.value}, {"reason", brought.error().message}});
  }
  group(id).raft->snapshot_ended(to, brought.has_value());
  wake();
}

std::vector<Bytes> MultiRaft::snapshots() {
  std::vector<Bytes> out;
  for (auto& [id, each] : groups_) {
    StoredGroup now;
    const raft::EntryLog& log = each.raft->log();
    now.raft.snapshot = each.raft->mark();
    now.raft.hard = each.raft->hard();
    if (log.last() > now.raft.snapshot.index) {
      now.raft.entries =
          log.slice(raft::Index(now.raft.snapshot.index.value + 1), log.last(), SIZE_MAX);
    }
    now.content = SharedBytes(each.machine->snapshot());
    each.rewritten = now.raft.snapshot;
    out.push_back(snapshot_frame(id, now));
  }
  return out;
}

io::Task<void> MultiRaft::rewrite() {
  co_await io::yield();
  if (!stopping_ && !dead_) {
    auto rewritten = co_await journal_->rewrite([this] {
      turn();  // the core then has nothing that was not handed out to be stored
      return snapshots();
    });
    if (!rewritten && journal_->dead()) {
      die(rewritten.error());
    } else if (rewritten) {
      ++stats_.rewrites;
      for (auto& [id, each] : groups_) {
        if (!PYRALOG_PLANT("multiraft.keep_everything")) each.raft->compact(each.rewritten);
      }
    }
    // What is itself large is not rewritten all the time, nor is a failure tried at every frame.
    rewrite_at_ = std::max(options_.rewrite_bytes, 2 * journal_->size_bytes());
  }
  rewriting_ = false;
}

void MultiRaft::die(const Error& cause) {
  if (dead_) return;
  dead_ = cause;
  observe::log_error("raft.takes_no_part",
                     {{"file", journal_->path()}, {"reason", cause.message}});
  changed_.wake_all();
  wake();
}

io::Task<Result<raft::Index>> MultiRaft::wait_fate(GroupId id, raft::Index index,
                                                   Instant deadline) {
  Group& in = group(id);
  Waiter waiter{in.raft->term()};
  const auto at = in.waiters.emplace(index, &waiter);
  wake();
  bool in_time = true;
  while (waiter.fate == Waiter::Fate::kOpen && in_time && !stopping_ && !dead_) {
    in_time = co_await changed_.wait(deadline);
  }
  in.waiters.erase(at);
  const std::string name =
      "entry " + std::to_string(index.value) + " of group " + std::to_string(id.value);
  switch (waiter.fate) {
    case Waiter::Fate::kApplied:
      co_return index;
    case Waiter::Fate::kReplaced:
      co_return fail(Code::kCancelled,
                     name + ": another leader has taken over before it was agreed; try again");
    case Waiter::Fate::kUnknown:
    case Waiter::Fate::kOpen:
      break;
  }
  if (dead_) co_return fail(Code::kIo, name + ": " + dead_->message);
  if (stopping_)
    co_return fail(Code::kTimedOut,
                   name + ": the node is stopping; it may be agreed all the same");
  co_return fail(Code::kTimedOut, name + ": no majority has agreed in time; it may still be");
}

io::Task<Result<raft::Index>> MultiRaft::propose(GroupId id, SharedBytes data, Instant deadline) {
  PYRALOG_ASSERT(!data.empty());
  if (dead_) co_return fail(*dead_);
  if (stopping_) co_return fail(Code::kUnavailable, "the node is stopping");
  PYRALOG_CO_ASSIGN(const raft::Index index, group(id).raft->propose(std::move(data)));
  co_return co_await wait_fate(id, index, deadline);
}

io::Task<Result<raft::Index>> MultiRaft::change(GroupId id, raft::ConfigChange change,
                                                Instant deadline) {
  if (dead_) co_return fail(*dead_);
  if (stopping_) co_return fail(Code::kUnavailable, "the node is stopping");
  PYRALOG_CO_ASSIGN(const raft::Index index, group(id).raft->propose(change));
  co_return co_await wait_fate(id, index, deadline);
}

io::Task<Result<raft::Index>> MultiRaft::read(GroupId id, Instant deadline) {
  Group& in = group(id);
  const std::uint64_t context = next_read_++;
  in.reads.emplace(context, Read{});
  if (!dead_ && !stopping_) in.raft->read(context);
  wake();
  bool in_time = true;
  while (in.reads.at(context).state == Read::State::kOpen && in_time && !stopping_ && !dead_) {
    in_time = co_await changed_.wait(deadline);
  }
  const Read answer = in.reads.at(context);
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
  const Group& in = group(id);
  while (in.raft->log().applied() < index) {
    if (stopping_ || dead_) co_return false;
    if (!co_await changed_.wait(deadline)) co_return in.raft->log().applied() >= index;
  }
  co_return true;
}

Result<void> MultiRaft::transfer(GroupId id, NodeId to) {
  const auto begun = group(id).raft->transfer_to(to);
  wake();
  return begun;
}

GroupStatus MultiRaft::status(GroupId id) const {
  const raft::Raft& raft = *group(id).raft;
  return {
      raft.role(),       raft.term(),  raft.leader(), raft.log().applied(), raft.log().committed(),
      raft.log().last(), raft.config()};
}

bool MultiRaft::settled_leader(GroupId id) const {
  const raft::Raft& raft = *group(id).raft;
  return raft.role() == raft::Role::kLeader && raft.log().applied() == raft.log().last() && !dead_;
}

}  // namespace pyralog::multiraft
