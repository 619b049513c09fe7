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
// Terms and indexes from outside: what is counted on from them never comes round to 0, and a term
// that lies so far ahead was not come to by elections; behind it there would soon be no other.
constexpr std::uint64_t kBound = 1ULL << 62;
constexpr std::uint64_t kMaxTermsAhead = 1ULL << 32;
constexpr std::size_t kMaxProposal = 8u << 20;
constexpr std::size_t kMaxAppend = 1u << 20;
constexpr int kRounds = 16;
// Messages that wait for one frame to be durable. More come only while the disk is full, and the
// oldest of them are old news.
constexpr std::size_t kMaxAfter = 64;

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
  const std::uint64_t greatest =
      std::max({m.term.value, m.log_term.value, m.index.value, m.commit.value, m.commit_term.value,
                m.hint.value, m.round});
  if (greatest >= kBound) return false;
  // Only who has never heard of a leader has no term, and it says no.
  if (m.term == raft::Term(0) && !m.reject) return false;
  for (std::size_t i = 0; i < m.entries.size(); ++i) {
    const raft::Entry& entry = m.entries[i];
    if (entry.index.value != m.index.value + 1 + i || entry.term > m.term) return false;
    if (entry.term < (i > 0 ? m.entries[i - 1].term : m.log_term)) return false;
  }
  return true;
}

bool is_sound_snapshot(const raft::Message& m, NodeId from, NodeId self) {
  if (m.from != from || m.to != self || m.kind != raft::MessageKind::kSnapshot) return false;
  if (!m.snapshot || !m.entries.empty() || m.term.value >= kBound) return false;
  const raft::SnapshotMark& mark = *m.snapshot;
  return mark.index.value > 0 && mark.index.value < kBound && mark.term > raft::Term(0) &&
         mark.term <= m.term && !mark.config.voters.empty();
}

bool from_leader(const raft::Message& m) {
  return m.kind == raft::MessageKind::kAppend || m.kind == raft::MessageKind::kHeartbeat ||
         m.kind == raft::MessageKind::kSnapshot;
}

}  // namespace

MultiRaft::MultiRaft(Options options) : options_(std::move(options)) {
  // Whatever is appended has to travel, as one message and with others, in a frame of 32 MiB;
  // entries of one byte have about 15 more beside it.
  PYRALOG_ASSERT(options_.max_proposal_bytes <= kMaxProposal &&
                 options_.raft.max_append_bytes <= kMaxAppend);
}
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
    const std::uint64_t last = stored.raft.snapshot.index.value + stored.raft.entries.size();
    if (stored.raft.hard.commit.value > last) {
      co_return fail(Code::kCorrupt, "Raft journal " + self->options_.path + ": group " +
                                         std::to_string(spec.id.value) +
                                         " lacks entries that it says are agreed; restore the "
                                         "file from a copy");
    }
    Group& group = self->groups_[spec.id];
    group.id = spec.id;
    group.machine = spec.machine;
    if (stored.raft.snapshot.index.value > 0) {
      PYRALOG_CO_TRY(spec.machine->restore(stored.content.view()));
    }
    raft::Options core = self->options_.raft;
    core.id = self->options_.self;
    core.seed = io::Shard::current().rng().next();
    group.raft = std::make_unique<raft::Raft>(core, std::move(stored.raft));
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

io::Task<Result<void>> MultiRaft::found(io::Disk& disk, Options options,
                                        std::vector<Founding> groups) {
  // Under another name until it is whole: what has the name takes part.
  const std::string making = options.path + ".tmp";
  PYRALOG_CO_ASSIGN(const bool left, co_await disk.exists(making));
  if (left) PYRALOG_CO_TRY(co_await disk.remove(making));
  {
    PYRALOG_CO_ASSIGN(auto journal, co_await journal::Journal::open(
                                        disk, making, journal_options(options),
                                        [](ByteView) { return Result<void>{}; }));
    for (Founding& each : groups) {
      StoredGroup fresh;
      fresh.raft.snapshot.config = std::move(each.config);
      if (!each.content.empty()) {
        fresh.raft.snapshot.index = raft::Index(1);
        fresh.raft.snapshot.term = raft::Term(1);
        fresh.raft.hard = {raft::Term(1), raft::kNobody, raft::Index(1)};
        fresh.content = std::move(each.content);
      }
      PYRALOG_CO_ASSIGN(const auto at, journal->append(snapshot_frame(each.id, fresh)));
      (void)at;
    }
    PYRALOG_CO_TRY(co_await journal->commit(journal->end()));
  }
  PYRALOG_CO_TRY(co_await disk.rename(making, options.path));
  co_return co_await disk.sync_dir(io::parent_dir(options.path));
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
  ticked_ = io::Shard::current().now();
  tasks_.spawn(run());
}

io::Task<void> MultiRaft::stop() {
  stopping_ = true;
  if (transport_ != nullptr) transport_->stop();
  wake();
  halted_.wake_all();
  co_await tasks_.join();
  while (waiting_ > 0) {
    wake_everybody();
    co_await io::yield();
  }
}

void MultiRaft::wake() {
  woken_ = true;
  wake_.wake_all();
}

void MultiRaft::wake_everybody() {
  for (auto& [id, each] : groups_) {
    for (auto& [index, waiter] : each.waiters) waiter->done.wake_all();
    for (auto& [context, read] : each.reads) read->done.wake_all();
  }
}

io::Task<void> MultiRaft::run() {
  while (!stopping_ && !dead_) {
    if (!woken_) co_await wake_.wait(ticked_ + options_.tick * (idle_ + 1));
    woken_ = false;
    if (stopping_ || dead_) break;
    tick_if_due();
    turn();
    plan_ticks();
  }
}

void MultiRaft::catch_up() {
  const Instant now = io::Shard::current().now();
  const Duration since = now - ticked_;
  if (idle_ == 0 || since < options_.tick) return;
  // A node that was held up has missed what others sent as well: it counts one tick, however late,
  // so that it reads what has come before it thinks that nobody leads.
  const bool held_up = since >= options_.tick * (idle_ + 2);
  const std::int64_t passed =
      held_up ? 1 : std::min<std::int64_t>(idle_, since / options_.tick);
  for (auto& [id, each] : groups_) {
    for (std::int64_t i = 0; i < passed; ++i) each.raft->tick();
  }
  ticked_ = held_up ? now : ticked_ + options_.tick * passed;
  idle_ -= static_cast<unsigned>(passed);
  idled_ = true;
}

void MultiRaft::tick_if_due() {
  catch_up();
  const Instant now = io::Shard::current().now();
  if (idle_ > 0 || now < ticked_ + options_.tick) return;
  // Not right behind idle ones: what has come meanwhile is read first.
  const bool late = now - ticked_ >= 2 * options_.tick;
  ticked_ = now;
  if (std::exchange(idled_, false) && late) return;
  for (auto& [id, each] : groups_) {
    each.raft->tick();
    if (no_space_ && !PYRALOG_PLANT("multiraft.lead_on_a_full_disk")) hand_over(each);
  }
}

void MultiRaft::plan_ticks() {
  catch_up();
  idle_ = UINT16_MAX;
  for (const auto& [id, each] : groups_) idle_ = std::min(idle_, each.raft->idle_ticks());
  if (no_space_ || groups_.empty()) idle_ = 0;
}

/// What is agreed cannot be stored here, and so not applied: another one is to lead. The others in
/// turn, those first who have most, until one does.
void MultiRaft::hand_over(Group& from) {
  raft::Raft& raft = *from.raft;
  if (raft.role() != raft::Role::kLeader || raft.transferee() != raft::kNobody) return;
  NodeId next = raft::kNobody;
  raft::Index most{};
  for (const auto& [node, progress] : raft.progress()) {
    if (!raft.config().is_voter(node) || from.offered.contains(node)) continue;
    if (next != raft::kNobody && progress.match() <= most) continue;
    next = node;
    most = progress.match();
  }
  if (next == raft::kNobody) return from.offered.clear();
  from.offered.insert(next);
  (void)raft.transfer_to(next);
}

/// Whether the group is to be told of it.
bool MultiRaft::takes(Group& into, const raft::Message& m) {
  const raft::Raft& raft = *into.raft;
  if (m.term.value > raft.term().value + kMaxTermsAhead && !PYRALOG_PLANT("multiraft.any_term")) {
    return false;
  }
  // Who does not even know who took part at the beginning learns it by a snapshot, not by the changes
  // since.
  const bool from_the_beginning = !m.entries.empty() && m.index == raft::Index(0);
  if (raft.config().voters.empty() && from_the_beginning) return false;
  const bool other = raft.leader() != raft::kNobody && raft.leader() != m.from;
  if (from_leader(m) && other && m.term == raft.term()) {
    if (std::exchange(into.two_leaders, m.term) != m.term) {
      observe::log_error("raft.two_leaders", {{"group", into.id.value},
                                              {"term", m.term.value},
                                              {"known", raft.leader().value},
                                              {"from", m.from.value}});
    }
    return false;
  }
  // What found no room is not to grow; the leader says it again.
  if (!no_space_ || PYRALOG_PLANT("multiraft.wait_without_bound")) return true;
  if (waiting_bytes_ >= 2 * options_.max_waiting_bytes) return false;
  return m.entries.empty() || waiting_bytes_ < options_.max_waiting_bytes;
}

void MultiRaft::receive(NodeId from, std::vector<GroupMessage> messages) {
  if (stopping_ || dead_) return;
  catch_up();
  for (GroupMessage& each : messages) {
    const auto found = groups_.find(each.group);
    if (found == groups_.end() || !is_sound(each.message, from, options_.self)) continue;
    if (takes(found->second, each.message)) found->second.raft->step(std::move(each.message));
  }
  wake();
}

Result<void> MultiRaft::install(NodeId from, GroupMessage message, SharedBytes content) {
  if (dead_) return fail(*dead_);
  if (stopping_) return fail(Code::kUnavailable, "the node is stopping");
  catch_up();
  raft::Message& m = message.message;
  const std::string name = "snapshot of group " + std::to_string(message.group.value) +
                           " from node " + std::to_string(from.value);
  const auto found = groups_.find(message.group);
  if (found == groups_.end() || !is_sound_snapshot(m, from, options_.self)) {
    return fail(Code::kInvalidArgument, name + ": it is none for this node");
  }
  Group& into = found->second;
  if (m.term < into.raft->term())
    return fail(Code::kFenced, name + ": a newer leader is known here");
  if (no_space_) return fail(Code::kExhausted, name + ": the disk is full here; free space");
  if (!takes(into, m)) return fail(Code::kInvalidArgument, name + ": its sender does not lead");
  if (into.raft->would_restore(*m.snapshot)) {
    if (auto sound = into.machine->check(content.view()); !sound) {
      observe::log_error("raft.bad_snapshot", {{"group", message.group.value},
                                               {"from", from.value},
                                               {"reason", sound.error().message}});
      return fail(std::move(sound.error()));
    }
  }
  turn();  // what came before is not mixed with it
  if (dead_) return fail(*dead_);
  into.arrived = std::move(content);
  into.raft->step(std::move(m));
  turn();
  into.arrived.reset();
  if (dead_) return fail(*dead_);
  return {};
}

void MultiRaft::turn() {
  for (int round = 0; round < kRounds && !dead_; ++round) {
    Writer frame;
    bool any = false;
    for (auto& [id, each] : groups_) {
      while (each.raft->has_ready()) {
        any = true;
        take_ready(each, frame);
        // What was taken and could not be applied, or stored, is not built upon.
        if (dead_ && !PYRALOG_PLANT("multiraft.go_on_when_dead")) return;
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
  if (dead_) return;
  for (auto& [id, each] : groups_) {
    const bool settled = settled_leader(id);
    if (!std::exchange(each.settled, settled) && settled && on_settled_) on_settled_();
  }
  flush();
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
    auto restored = restore(from, *ready.snapshot);
    if (!restored) return die(restored.error());
    content = std::move(*restored);
  }
  if (ready.must_store()) {
    write_record(frame, from.id, ready, content);
    storing_.push_back(
        {&from, ready.number, std::move(ready.after), ready.sync, next_frame_, std::nullopt});
    from.newest = &storing_.back();
  } else if (from.newest == nullptr) {
    post(from, std::move(ready.after));
  } else {
    auto& after = from.newest->after;
    after.insert(after.end(), std::make_move_iterator(ready.after.begin()),
                 std::make_move_iterator(ready.after.end()));
    if (after.size() > kMaxAfter && !PYRALOG_PLANT("multiraft.answer_without_bound")) {
      after.erase(after.begin(), after.end() - kMaxAfter);
    }
  }
  answer_reads(from, ready.reads);
  if (!ready.committed.empty()) apply(from, std::move(ready.committed));
}

Result<SharedBytes> MultiRaft::restore(Group& into, const raft::SnapshotMark& mark) {
  PYRALOG_ASSERT(into.arrived);
  SharedBytes content = *std::exchange(into.arrived, std::nullopt);
  PYRALOG_TRY(into.machine->restore(content.view()));
  ++stats_.snapshots_taken;
  settle(into, mark.index, std::nullopt);
  return content;
}

void MultiRaft::answer_reads(Group& from, const std::vector<raft::ReadReady>& reads) {
  for (const raft::ReadReady& read : reads) {
    const auto asked = from.reads.find(read.context);
    if (asked == from.reads.end()) continue;
    asked->second->state = read.index ? Read::State::kAt : Read::State::kRefused;
    asked->second->index = read.index.value_or(raft::Index(0));
    asked->second->done.wake_all();
    from.reads.erase(asked);
  }
}

void MultiRaft::apply(Group& to, std::vector<raft::Entry> committed) {
  for (const raft::Entry& entry : committed) {
    if (entry.kind == raft::EntryKind::kNormal && !entry.data.empty()) {
      const auto applied = to.machine->apply(entry.index, entry.data);
      if (!applied) return die(applied.error());
    }
    // One by one: should the machine refuse the next one, a snapshot of it is as of this one.
    if (!PYRALOG_PLANT("multiraft.applied_all_or_none")) to.raft->applied(entry.index);
    settle(to, entry.index, entry.term);
  }
  to.raft->applied(committed.back().index);
}

void MultiRaft::settle(Group& in, raft::Index index, std::optional<raft::Term> term) {
  while (!in.waiters.empty() && in.waiters.begin()->first <= index) {
    const auto first = in.waiters.begin();
    Waiter& waiter = *first->second;
    if (waiter.term == raft::Term(0)) {
      waiter.fate = Fate::kApplied;
    } else if (!term || first->first < index) {
      waiter.fate = Fate::kUnknown;
    } else {
      waiter.fate = waiter.term == *term ? Fate::kApplied : Fate::kReplaced;
    }
    waiter.done.wake_all();
    in.waiters.erase(first);
  }
}

void MultiRaft::end_frame(Writer& frame) {
  if (frame.size() == 0) return;
  waiting_bytes_ += frame.size();
  frames_.push_back(frame.take());
  frame = Writer();
  ++next_frame_;
}

void MultiRaft::store() {
  while (!frames_.empty() && !dead_) {
    const auto at = journal_->append(frames_.front());
    if (!at) {
      // No space: nothing of it is promised, and the next tick tries again.
      if (at.error().code != Code::kExhausted) return die(at.error());
      if (!no_space_) {
        observe::log_error("raft.no_space",
                           {{"file", journal_->path()}, {"reason", at.error().message}});
      }
      return set_no_space(true);
    }
    const std::uint64_t number = next_frame_ - frames_.size();
    waiting_bytes_ -= frames_.front().size();
    frames_.pop_front();
    for (Storing& each : storing_) {
      if (each.frame == number) each.position = *at;
    }
  }
  set_no_space(false);
}

void MultiRaft::set_no_space(bool none) {
  if (std::exchange(no_space_, none) == none) return;
  for (auto& [id, each] : groups_) {
    each.offered.clear();
    each.raft->may_lead(!none);
  }
}

void MultiRaft::complete() {
  while (!storing_.empty() && !dead_) {
    Storing& next = storing_.front();
    const bool durable = next.position && *next.position <= journal_->durable();
    if (next.sync && !durable && !PYRALOG_PLANT("multiraft.answer_before_sync")) break;
    if (next.group->newest == &next) next.group->newest = nullptr;
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
    catch_up();
    complete();
    wake();
  }
  syncing_ = false;
}

void MultiRaft::post(Group& from, std::vector<raft::Message> messages) {
  for (raft::Message& m : messages) {
    if (m.kind == raft::MessageKind::kSnapshot) {
      begin_snapshot(from, std::move(m));
    } else {
      outbox_[m.to].push_back({from.id, std::move(m)});
    }
  }
}

void MultiRaft::flush() {
  for (auto& [to, messages] : std::exchange(outbox_, {})) {
    std::vector<GroupId> carried;
    for (const GroupMessage& each : messages) {
      if (!each.message.entries.empty()) carried.push_back(each.group);
    }
    ++stats_.frames_sent;
    stats_.messages_sent += messages.size();
    if (transport_->send(to, std::move(messages))) continue;
    ++stats_.frames_dropped;
    // What was on its way is known to be lost: it is not waited for until its place is refused.
    if (PYRALOG_PLANT("multiraft.forget_what_was_dropped")) continue;
    for (const GroupId id : carried) group(id).raft->unreachable(to);
  }
}

void MultiRaft::die(const Error& cause) {
  if (dead_) return;
  dead_ = cause;
  observe::log_error("raft.takes_no_part", {{"file", journal_->path()}, {"reason", cause.message}});
  outbox_.clear();
  halted_.wake_all();
  wake_everybody();
  wake();
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
