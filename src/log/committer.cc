#include "log/committer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/plant.h"
#include "log/partition_log.h"
#include "log/shard_logs.h"

namespace pyralog::log {

namespace {
/// While the device makes some durable the next is made and lined up. More would be smaller, and each costs
/// what it costs.
constexpr std::uint64_t kRoundsAtOnce = 3;
/// How long rounds of a few files go where those of many went: going to and fro costs the syncs of both.
constexpr Duration kAheadFor = 200ms;

journal::Options journal_options() {
  journal::Options options;
  options.kind = kSyncedJournalKind;
  return options;
}
}  // namespace

io::Task<Result<void>> Committer::open() {
  const auto take = [this](ByteView payload) -> Result<void> {
    PYRALOG_ASSIGN(const SyncedEntry entry, decode_synced_entry(payload));
    latest_[entry.partition] = entry;
    // The start has put in place what write-ahead files held, so nothing contradicts it any more.
    if (entry.kind == SyncedEntry::Kind::kForgotten && !PYRALOG_PLANT("log.keep_forgotten")) {
      latest_.erase(entry.partition);
    }
    return {};
  };
  const std::string path =
      shard_.options().data_dir + "/" + synced_journal_name(shard_.options().shard);
  PYRALOG_CO_ASSIGN(journal_,
                    co_await journal::Journal::open(shard_.disk_, path, journal_options(), take));
  co_return Result<void>{};
}

const SyncedEntry* Committer::latest(const PartitionId& id) const {
  const auto found = latest_.find(id);
  return found == latest_.end() || found->second.kind != SyncedEntry::Kind::kSynced ? nullptr
                                                                                  : &found->second;
}

void Committer::note(SyncedEntry entry) {
  note_later(entry);
  write_entry(entry.partition);
}

/// Its bytes go to the journal when that is synced, or when nothing else is to be done: under load many
/// rounds speak of the same log.
void Committer::note_later(SyncedEntry entry) {
  entry.generation = shard_.evidence_->generation();
  SyncedEntry& latest = latest_[entry.partition];
  // A round may have begun before the log's start was raised.
  if (entry.kind == SyncedEntry::Kind::kSynced) entry.start = std::max(entry.start, latest.start);
  latest = entry;
  unwritten_.insert(entry.partition);
}

void Committer::write_entry(const PartitionId& id) {
  unwritten_.erase(id);
  if (journal_ != nullptr && journal_->append(encode(latest_.at(id)))) return;
  ++shard_.stats_.lost_evidence;
  evidence_missing_ = true;
}

void Committer::write_noted() {
  while (!unwritten_.empty()) write_entry(PartitionId(*unwritten_.begin()));
}

void Committer::drop(const PartitionId& id) {
  if (PYRALOG_PLANT("log.keep_forgotten")) return;
  noted_.erase(id);
  unwritten_.erase(id);
  if (latest_.erase(id) > 0) gone_.insert(id);
}

void Committer::drop_if(const std::function<bool(const PartitionId&)>& gone) {
  std::vector<PartitionId> found;
  for (const auto& [id, entry] : latest_) {
    if (gone(id)) found.push_back(id);
  }
  for (const PartitionId& id : found) {
    SyncedEntry forgotten;
    forgotten.kind = SyncedEntry::Kind::kForgotten;
    forgotten.partition = id;
    note(forgotten);
    drop(id);
  }
}

/// What the journal must hold.
std::vector<Bytes> Committer::journal_frames() {
  std::vector<Bytes> frames;
  frames.reserve(latest_.size());
  for (const auto& [id, entry] : latest_) frames.push_back(encode(entry));
  std::erase_if(gone_, [&](const PartitionId& id) {
    return !shard_.write_ahead_.holds(id) || PYRALOG_PLANT("log.forget_forgotten_at_once");
  });
  for (const PartitionId& id : gone_) {
    SyncedEntry forgotten;
    forgotten.kind = SyncedEntry::Kind::kForgotten;
    forgotten.partition = id;
    forgotten.generation = shard_.evidence_->generation();
    frames.push_back(encode(forgotten));
  }
  return frames;
}

io::Task<Result<void>> Committer::lower(SyncedEntry entry) {
  if (evidence_missing_) PYRALOG_CO_TRY(co_await renew_journal());
  note(entry);
  co_return co_await flush();
}

io::Task<Result<void>> Committer::raise_start(SyncedEntry entry) {
  if (evidence_missing_) PYRALOG_CO_TRY(co_await renew_journal());
  // Rounds go on meanwhile: what they have noted is not to be taken back.
  if (const SyncedEntry* more = latest(entry.partition);
      more != nullptr && std::pair(more->segment, more->end_position) >
                             std::pair(entry.segment, entry.end_position)) {
    const Offset start = entry.start;
    entry = *more;
    entry.start = std::max(entry.start, start);
  }
  note(entry);
  co_return co_await flush();
}

io::Task<Result<void>> Committer::flush() {
  write_noted();
  if (evidence_missing_ || journal_ == nullptr) co_return co_await renew_journal();
  const std::shared_ptr<journal::Journal> journal = journal_;
  co_return co_await journal->commit(journal->end());
}

/// Writes the journal anew: it is too long, or entries are missing after a failure.
io::Task<Result<void>> Committer::renew_journal() {
  // A round and a cut may come together, and a journal that is dead may still be renaming its file.
  std::optional<io::Turn::Guard> turn;
  if (!PYRALOG_PLANT("log.renew_twice_at_once")) turn.emplace(co_await renewing_.lock());
  if (journal_ == nullptr || journal_->dead()) {
    journal_.reset();
    const std::string path =
        shard_.options().data_dir + "/" + synced_journal_name(shard_.options().shard);
    PYRALOG_CO_ASSIGN(journal_, co_await journal::Journal::open(
                                    shard_.disk_, path, journal_options(),
                                    [](ByteView) -> Result<void> { return {}; }));
  }
  evidence_missing_ = false;
  const std::shared_ptr<journal::Journal> journal = journal_;
  auto renewed = co_await journal->rewrite([this] { return journal_frames(); });
  if (!renewed) evidence_missing_ = true;
  co_return renewed;
}

/// Whether the journal must be written anew.
bool Committer::journal_due() const {
  return evidence_missing_ || journal_ == nullptr || journal_->dead() ||
         (journal_->size_bytes() > shard_.options().synced_journal_bytes &&
          journal_->size_bytes() > 4 * 100 * latest_.size());
}

/// The evidence of earlier rounds, made durable beside the files of this one.
io::Task<void> Committer::sync_journal() {
  syncing_journal_ = true;
  auto written = journal_due() ? co_await renew_journal() : co_await flush();
  syncing_journal_ = false;
  news_.wake_all();
  if (written) co_return;
  ++shard_.stats_.lost_evidence;
  evidence_missing_ = true;
}

struct Committer::Round {
  struct Part {
    std::shared_ptr<PartitionLog> log;
    PartitionLog::Capture capture;
    std::optional<Error> failed;
  };
  std::uint64_t number = 0;
  std::vector<std::shared_ptr<PartitionLog>> waiting;
  Instant waiting_since;  ///< the first of them
  Instant began;
  std::vector<Part> parts;
  std::shared_ptr<io::File> synced;  ///< one that made it durable
  bool over = false;
  io::WaitList done;

  [[nodiscard]] std::size_t files() const {
    std::size_t count = 0;
    for (const Part& part : parts) count += part.capture.ranges.size();
    return count;
  }
};

void Committer::note_times(const Round& round, Duration took) const {
  if (round.parts.empty()) return;
  if (shard_.options().sync_times != nullptr) shard_.options().sync_times->record(took);
  observe::SlowLog* slow = shard_.options().slow;
  if (slow == nullptr || !slow->is_slow(took)) return;
  slow->note(observe::SlowKind::kSync, took,
             {{"what", "group_commit"},
              {"partition", round.parts.front().log->name()},
              {"partitions", round.parts.size()},
              {"files", round.files()},
              {"queue_ms", observe::to_ms(round.began - round.waiting_since)}});
}

/// Syncs the files of a round by themselves: `all`, or those that the write-ahead files don't take.
io::Task<void> Committer::sync_files(Round* round, bool all) {
  std::vector<std::shared_ptr<io::File>> files;
  std::vector<Round::Part*> owners;
  for (Round::Part& part : round->parts) {
    for (const UnsyncedRange& range : part.capture.ranges) {
      if (!all && WriteAhead::takes(range.bytes())) continue;
      files.push_back(range.file);
      owners.push_back(&part);
    }
  }
  if (files.empty()) co_return;
  if (all) round->synced = files.front();
  const auto results = co_await shard_.disk_.sync(std::move(files));
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!results[i] && !owners[i]->failed) owners[i]->failed = results[i].error();
  }
}

/// Whether so many logs become durable at a time that one file for all is worth the second copy.
bool Committer::wants_ahead() {
  const Instant now = io::Shard::current().now();
  if (shard_.write_ahead_.wants(under_way_.size())) {
    ahead_until_ = now + kAheadFor;
    return true;
  }
  return goes_ahead();
}

bool Committer::goes_ahead() const {
  return io::Shard::current().now() < ahead_until_ && shard_.write_ahead_.usable();
}

/// The small ranges of a round by one sync of one file, with the evidence of the rounds before.
io::Task<Result<void>> Committer::sync_ahead(Round* round) {
  std::vector<UnsyncedRange> ranges;
  for (const Round::Part& part : round->parts) {
    std::ranges::copy_if(part.capture.ranges, std::back_inserter(ranges),
                         [](const UnsyncedRange& r) { return WriteAhead::takes(r.bytes()); });
  }
  std::vector<SyncedEntry> evidence;
  for (const PartitionId& id : std::exchange(noted_, {})) evidence.push_back(latest_[id]);
  io::TaskGroup beside;
  if (ranges.size() < round->files()) beside.spawn(sync_files(round, false));
  auto done = co_await shard_.write_ahead_.commit(std::move(ranges), evidence);
  co_await beside.join();
  if (done) {
    round->synced = *done;
    co_return Result<void>{};
  }
  // A later round has to take it along.
  for (const SyncedEntry& entry : evidence) {
    if (latest_.contains(entry.partition)) noted_.insert(entry.partition);
  }
  co_return fail(std::move(done.error()));
}

void Committer::settle(Round& round) {
  for (Round::Part& part : round.parts) {
    PartitionLog& log = *part.log;
    if (part.failed) {
      ++shard_.stats_.failed_syncs;
      (void)log.go_offline(*part.failed);
      continue;
    }
    if (log.offline_ || part.capture.cuts != log.cuts_) continue;
    if (PYRALOG_PLANT("log.late_position")) part.capture = log.capture();
    log.apply(part.capture);
    note_later(part.capture.entry);
    noted_.insert(part.capture.entry.partition);
  }
}

void Committer::capture(Round& round) {
  // By name: an order that depended on addresses could not be replayed.
  std::sort(round.waiting.begin(), round.waiting.end(),
            [](const auto& a, const auto& b) { return a->id() < b->id(); });
  round.waiting.erase(std::unique(round.waiting.begin(), round.waiting.end()), round.waiting.end());
  for (auto& log : std::exchange(round.waiting, {})) {
    if (log->offline_ || log->cutting_ || !log->dirty()) continue;
    PartitionLog::Capture captured = log->capture();
    if (PYRALOG_PLANT("log.evidence_ahead")) note(captured.entry);
    ++under_way_[log->id()];
    round.parts.push_back({std::move(log), std::move(captured), std::nullopt});
  }
}

io::Task<void> Committer::make_durable(Round* round) {
  if (round->files() == 0) co_return;  // rounds under way have captured all of it
  // A journal that is being written anew holds nobody up.
  const bool due = journal_due() && !syncing_journal_;
  if (wants_ahead() && !due && co_await sync_ahead(round)) co_return;
  if (!syncing_journal_) {
    noted_.clear();
    shard_.spawn(sync_journal());
  }
  if (!PYRALOG_PLANT("log.skip_fsync")) co_await sync_files(round, true);
}

io::Task<void> Committer::run_round(std::shared_ptr<Round> round) {
  co_await make_durable(round.get());
  note_times(*round, io::Shard::current().now() - round->began);
  for (std::size_t i = 0; PYRALOG_PLANT("log.sync_each_record") && i < round->parts.size(); ++i) {
    const auto records = round->parts[i].capture.entry.end_offset.value -
                         round->parts[i].log->synced_end_.value;
    co_await io::sleep_for(records * 1ms);
  }
  while (rounds_done_ + 1 < round->number && !PYRALOG_PLANT("log.settle_out_of_order")) {
    co_await news_.wait(Instant::never());
  }
  if (round->synced != nullptr) {
    const std::pair sync{std::as_const(round->synced).get(), round->synced->syncs()};
    if (std::exchange(last_sync_, {sync.first, sync.second}) != last_sync_) ++shard_.stats_.syncs;
  }
  settle(*round);
  for (const Round::Part& part : round->parts) {
    const auto found = under_way_.find(part.log->id());
    if (--found->second == 0) under_way_.erase(found);
  }
  rounds_done_ = std::max(rounds_done_, round->number);
  round->over = true;
  round->done.wake_all();
  news_.wake_all();
}

io::Task<void> Committer::run() {
  // What is noted last is written when the journal is durable up to there: each frame says how far it was.
  while (next_ != nullptr || rounds_done_ < rounds_begun_ || syncing_journal_) {
    if (next_ == nullptr || rounds_begun_ - rounds_done_ >= kRoundsAtOnce) {
      co_await news_.wait(Instant::never());
      continue;
    }
    co_await io::yield();  // whoever appends in this turn of the loop shares the round
    const std::shared_ptr<Round> round = std::exchange(next_, nullptr);
    round->number = ++rounds_begun_;
    round->began = io::Shard::current().now();
    capture(*round);
    shard_.spawn(run_round(round));
  }
  write_noted();
  running_ = false;
  news_.wake_all();
}

io::Task<Result<Offset>> Committer::sync(std::shared_ptr<PartitionLog> log) {
  if (log->offline_) co_return log->refuse();
  if (log->memory_ || !log->dirty()) co_return log->synced_end();
  if (next_ == nullptr) {
    next_ = std::make_shared<Round>();
    next_->waiting_since = io::Shard::current().now();
    news_.wake_all();
  }
  const std::shared_ptr<Round> mine = next_;
  mine->waiting.push_back(log);
  if (!running_) {
    running_ = true;
    shard_.spawn(run());
  }
  while (!mine->over) co_await mine->done.wait(Instant::never());
  if (log->offline_) co_return log->refuse();
  co_return log->synced_end();
}

io::Task<void> Committer::forget_noted(PartitionId id) {
  noted_.erase(id);
  co_await drain();  // a round that has taken it along is over then
}

io::Task<void> Committer::drain() {
  // Not until no round runs at all: under load one follows upon another.
  const std::uint64_t begun = rounds_begun_;
  const bool all = PYRALOG_PLANT("log.drain_every_round");
  while (all ? running_ : rounds_done_ < begun) co_await news_.wait(Instant::never());
}

}  // namespace pyralog::log
