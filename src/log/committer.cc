#include "log/committer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/plant.h"
#include "log/partition_log.h"
#include "log/shard_logs.h"

namespace pyralog::log {

namespace {
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
  entry.generation = shard_.evidence_->generation();
  SyncedEntry& latest = latest_[entry.partition];
  // A round may have begun before the log's start was raised.
  if (entry.kind == SyncedEntry::Kind::kSynced) entry.start = std::max(entry.start, latest.start);
  latest = entry;
  if (journal_ == nullptr || !journal_->append(encode(entry))) {
    ++shard_.stats_.lost_evidence;
    evidence_missing_ = true;
  }
}

void Committer::drop(const PartitionId& id) {
  if (PYRALOG_PLANT("log.keep_forgotten")) return;
  noted_.erase(id);
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

io::Task<Result<void>> Committer::flush() {
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
  auto written = journal_due() ? co_await renew_journal() : co_await flush();
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
  std::vector<Part> parts;

  [[nodiscard]] std::size_t ranges(bool ahead) const {
    std::size_t count = 0;
    for (const Part& part : parts) {
      for (const UnsyncedRange& range : part.capture.ranges) {
        count += !ahead || WriteAhead::takes(range.bytes()) ? 1 : 0;
      }
    }
    return count;
  }
};

void Committer::note_times(const Round& round, Duration queued, Duration took) const {
  if (round.parts.empty()) return;
  if (shard_.options().sync_times != nullptr) shard_.options().sync_times->record(took);
  observe::SlowLog* slow = shard_.options().slow;
  if (slow == nullptr || !slow->is_slow(took)) return;
  slow->note(observe::SlowKind::kSync, took,
             {{"what", "group_commit"},
              {"partition", round.parts.front().log->name()},
              {"partitions", round.parts.size()},
              {"files", round.ranges(false)},
              {"queue_ms", observe::to_ms(queued)}});
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
  const auto results = co_await shard_.disk_.sync(std::move(files));
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!results[i] && !owners[i]->failed) owners[i]->failed = results[i].error();
  }
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
  beside.spawn(sync_files(round, false));
  auto done = co_await shard_.write_ahead_.commit(std::move(ranges), std::move(evidence));
  co_await beside.join();
  co_return done;
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
    note(part.capture.entry);
    noted_.insert(part.capture.entry.partition);
  }
}

io::Task<void> Committer::run_round() {
  co_await io::yield();  // whoever appends in this turn of the loop shares the round
  std::vector<std::shared_ptr<PartitionLog>> waiting = std::move(waiting_);
  waiting_.clear();
  const Duration queued = io::Shard::current().now() - waiting_since_;
  ++rounds_begun_;
  // By name: an order that depended on addresses could not be replayed.
  std::sort(waiting.begin(), waiting.end(),
            [](const auto& a, const auto& b) { return a->id() < b->id(); });
  waiting.erase(std::unique(waiting.begin(), waiting.end()), waiting.end());
  Round round;
  for (auto& log : waiting) {
    if (log->offline_ || log->cutting_ || !log->dirty()) continue;
    PartitionLog::Capture captured = log->capture();
    if (PYRALOG_PLANT("log.evidence_ahead")) note(captured.entry);
    round.parts.push_back({std::move(log), std::move(captured), std::nullopt});
  }
  const Instant began = io::Shard::current().now();
  io::TaskGroup beside;
  const bool ahead = shard_.write_ahead_.wants(round.ranges(true)) && !journal_due() &&
                     co_await sync_ahead(&round);
  if (!ahead) {
    noted_.clear();
    beside.spawn(sync_journal());
    if (!PYRALOG_PLANT("log.skip_fsync")) co_await sync_files(&round, true);
  }
  note_times(round, queued, io::Shard::current().now() - began);
  for (std::size_t i = 0; PYRALOG_PLANT("log.sync_each_record") && i < round.parts.size(); ++i) {
    const auto records = round.parts[i].capture.entry.end_offset.value -
                         round.parts[i].log->synced_end_.value;
    co_await io::sleep_for(records * 1ms);
  }
  ++shard_.stats_.syncs;
  settle(round);
  rounds_done_ = rounds_begun_;
  done_.wake_all();
  co_await beside.join();
}

io::Task<void> Committer::run() {
  while (!waiting_.empty()) co_await run_round();
  running_ = false;
  done_.wake_all();
}

io::Task<Result<Offset>> Committer::sync(std::shared_ptr<PartitionLog> log) {
  if (log->offline_) co_return log->refuse();
  if (log->memory_ || !log->dirty()) co_return log->synced_end();
  if (waiting_.empty()) waiting_since_ = io::Shard::current().now();
  waiting_.push_back(log);
  const std::uint64_t mine = rounds_begun_ + 1;
  if (!running_) {
    running_ = true;
    shard_.spawn(run());
  }
  while (rounds_done_ < mine) co_await done_.wait(Instant::never());
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
  while (all ? running_ : rounds_done_ < begun) co_await done_.wait(Instant::never());
}

}  // namespace pyralog::log
