#include "log/write_ahead.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/plant.h"
#include "io/rng.h"
#include "log/shard_logs.h"
#include "log/write_ahead_replay.h"
#include "model/record_batch.h"
#include "observe/log.h"

namespace pyralog::log {

namespace {
/// Beyond, the device's time is in the bytes and no longer in the flush.
constexpr std::uint64_t kMaxRange = 256u << 10;
/// Of a small disk no more than this part is taken, by all shards.
constexpr std::uint64_t kShareOfDisk = 32;
constexpr std::uint64_t kMinHalfBytes = 8 * kWriteAheadBlock;
/// Files that are synced at a time in the background: the pool's other threads serve group commits.
constexpr std::size_t kSettleAtOnce = 8;
/// So much of them at a time, as long as nobody waits: a round's sync comes to wait for no more than that.
constexpr std::uint64_t kSettleStep = 1u << 20;
/// How long a step waits at most for what is written meanwhile.
constexpr Duration kSettlePause = 10ms;
/// The segments are synced when so much of the other file is full.
constexpr double kSettledAt = 0.75;
/// Files of ended segments that it keeps open, beside those of the active ones.
constexpr std::size_t kSpareFiles = 1024;
/// A frame is written when it has grown to kWriteAheadFrameBytes; one item may come on top.
constexpr std::size_t kFrameBuffer = kWriteAheadFrameBytes + kMaxRange + kWriteAheadBlock;
static_assert(kWriteAheadBlock == io::File::kDirectBlock && kFrameBuffer % kWriteAheadBlock == 0);

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + kWriteAheadBlock - 1) / kWriteAheadBlock * kWriteAheadBlock;
}

/// Whether `bytes`, read back from position `from` of a segment, are the batches that were appended. A sync
/// of that file that fails, and has not said so yet, may have taken the pages along: then what is read is
/// what the device has.
bool still_there(ByteView bytes, std::uint64_t from) {
  if (PYRALOG_PLANT("log.write_ahead_trusts_memory")) return true;
  std::int64_t due = -1;
  if (from < kSegmentHeaderBytes) {
    const std::uint64_t header = kSegmentHeaderBytes - from;
    if (bytes.size() < header) return true;
    bytes = bytes.subspan(header);
  }
  while (!bytes.empty()) {
    const auto header = parse_batch_header(bytes);
    if (!header || header->total_bytes() > bytes.size()) return false;
    if (due >= 0 && header->base_offset != due) return false;
    if (batch_crc(bytes.first(header->total_bytes())) != header->crc) return false;
    due = header->next_offset();
    bytes = bytes.subspan(header->total_bytes());
  }
  return true;
}
}  // namespace

bool WriteAhead::usable() const { return !dead_ && shard_.options().write_ahead_bytes > 0; }

bool WriteAhead::wants(std::size_t files) const {
  return usable() && files >= shard_.options().write_ahead_min_files;
}

bool WriteAhead::takes(std::uint64_t bytes) { return bytes <= kMaxRange; }

std::string WriteAhead::path_of(unsigned half) const {
  return shard_.options().data_dir + "/" + write_ahead_name(shard_.options().shard, half);
}

/// Makes the files, with durable names; they are empty, or what an earlier start has seen to.
io::Task<Result<void>> WriteAhead::open() {
  PYRALOG_CO_ASSIGN(const io::SpaceInfo space,
                    co_await shard_.disk_.space(shard_.options().data_dir));
  const std::uint64_t all =
      std::min(shard_.options().write_ahead_bytes,
               space.total_bytes / kShareOfDisk / std::max(1u, shard_.options().shards));
  const std::uint64_t each = all / 2 / kWriteAheadBlock * kWriteAheadBlock;
  if (each < kMinHalfBytes) {
    dead_ = true;
    co_return fail(Code::kUnavailable, "there is no space for write-ahead files");
  }
  for (unsigned i = 0; i < 2; ++i) {
    Half& half = halves_[i];
    PYRALOG_CO_ASSIGN(half.file, co_await shard_.disk_.open(path_of(i), io::OpenMode::kOpenOrCreate));
    half.end = each;  // full: a use begins with a header of its own
    // From here on one of two headers is there, whatever a crash leaves of a later one.
    begin_use(half);
    PYRALOG_CO_TRY(half.file->write_at(0, encode(half.header)));
    PYRALOG_CO_TRY(co_await half.file->sync());
  }
  PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(shard_.options().data_dir));
  half_bytes_ = each;
  co_return Result<void>{};
}

void WriteAhead::begin_use(Half& half) {
  half.header.shard = shard_.options().shard;
  half.header.generation = ++generation_;
  half.header.salt = io::Shard::current().rng().next();
  half.begun = false;
}

bool WriteAhead::stuck(const Half& half) {
  return std::ranges::any_of(half.kept, [](const auto& kept) { return kept.second.failed; });
}

/// Goes over to the other half if this one is full and that one's segments are synced.
Result<void> WriteAhead::make_room(std::uint64_t bytes) {
  if (halves_[current_].end + bytes <= half_bytes_) return {};
  const unsigned next = current_ ^ 1u;
  Half& half = halves_[next];
  const bool early = PYRALOG_PLANT("log.write_ahead_too_early");
  const bool busy = half.settling || half.unsettled || half.in_flight > 0 || !half.kept.empty();
  if (busy && !early) {
    hurry(half);
    if (!half.settling && !stuck(half)) shard_.spawn(settle(next));  // what failed before may go now
    return fail(Code::kUnavailable, "the write-ahead files are full");
  }
  if (kWriteAheadFirst + bytes > half_bytes_) {
    return fail(Code::kUnavailable, "the round is too large for the write-ahead files");
  }
  shard_.spawn(settle(current_));
  current_ = next;
  begin_use(half);
  // Until a round of this use is durable the device may have the last one's.
  half.held_before.merge(half.held);
  half.held.clear();
  half.end = half_bytes_;  // until its header is written it takes nothing
  PYRALOG_TRY(half.file->write_at(0, encode(half.header)));
  half.end = kWriteAheadFirst;
  return {};
}

/// What frames are made in, one after the other.
struct WriteAhead::Frame {
  FrameSpace space;
  MutableBytes buffer;     ///< of it; begins where a direct write may
  std::size_t bytes = 0;   ///< in use
  std::uint64_t at = 0;    ///< where it goes
  std::uint64_t length = 0;  ///< with its last block; 0 = has no place yet

  explicit Frame(FrameSpace from) : space(std::move(from)) {
    // Memory that no frame was long enough for is never touched.
    constexpr std::size_t kSize = kFrameBuffer + io::File::kDirectBlock;
    if (space == nullptr) space = std::make_unique_for_overwrite<std::uint8_t[]>(kSize);
    const auto begin = reinterpret_cast<std::uintptr_t>(space.get());
    buffer = MutableBytes(space.get(), kSize).subspan(round_up(begin) - begin, kFrameBuffer);
    begin_next();
  }
  void begin_next() {
    bytes = kWriteAheadFrameHeaderBytes;
    length = 0;
  }
  void put(ByteView more) {
    std::memcpy(buffer.data() + bytes, more.data(), more.size());
    bytes += more.size();
  }
  [[nodiscard]] bool full() const { return bytes >= kWriteAheadFrameBytes; }
  [[nodiscard]] bool empty() const { return bytes == kWriteAheadFrameHeaderBytes; }
  [[nodiscard]] ByteView sealed() const { return ByteView(buffer).first(length); }
};

/// What a commit has a place for and waits for.
struct WriteAhead::Written {
  unsigned half = 0;
  std::uint64_t first = 0;  ///< where its frames begin
  std::vector<std::pair<Key, Kept>> kept;
  Frame frame;  ///< sealed and not written yet; empty: all are written
};

/// Gives a frame its place; what is put next comes behind it.
Result<void> WriteAhead::seal(Frame& frame) {
  Half& half = halves_[current_];
  frame.length = round_up(frame.bytes);
  // A round before may have failed meanwhile, and nobody writes behind that.
  if (frame.length > half_bytes_ - half.end) {
    return fail(Code::kUnavailable, "the write-ahead file is not written any more");
  }
  frame.at = half.end;
  half.end += frame.length;
  seal_write_ahead_frame(frame.buffer.first(frame.bytes), frame.at, half.header.salt);
  std::memset(frame.buffer.data() + frame.bytes, 0, frame.length - frame.bytes);
  shard_.stats_.write_ahead_bytes += frame.bytes;
  return {};
}

/// Writes what has been put, and begins the next frame.
io::Task<Result<void>> WriteAhead::write_frame(Frame& frame) {
  PYRALOG_CO_TRY(seal(frame));
  PYRALOG_CO_TRY(co_await halves_[current_].file->write_direct(frame.at, frame.sealed()));
  frame.begin_next();
  co_return Result<void>{};
}

/// Writes all frames but what the last one holds.
io::Task<Result<void>> WriteAhead::make_frames(Frame& frame, std::vector<UnsyncedRange> ranges,
                                               std::vector<SyncedEntry> evidence) {
  Bytes item;
  for (const SyncedEntry& entry : evidence) {
    if (frame.full()) PYRALOG_CO_TRY(co_await write_frame(frame));
    item.clear();
    put_evidence(item, entry);
    frame.put(item);
  }
  for (const UnsyncedRange& range : ranges) {
    if (frame.full()) PYRALOG_CO_TRY(co_await write_frame(frame));
    const auto length = static_cast<std::uint32_t>(range.bytes());
    item.clear();
    put_data_header(item, {range.partition, range.segment, range.kind, range.from, {}}, length);
    frame.put(item);
    if (!range.content.empty()) {
      frame.put(range.content.view());
      continue;
    }
    const MutableBytes bytes = frame.buffer.subspan(frame.bytes, length);
    const auto got = co_await range.file->read_at(range.from, bytes);
    // Its own sync will tell what is wrong with that file.
    const bool lost = got && range.kind == WriteAheadFile::kLog &&
                      !still_there(bytes, range.from);
    if (!got || *got != length || lost) {
      co_return fail(Code::kUnavailable, fmt::format("{} cannot be read back", range.file->path()));
    }
    frame.bytes += length;
  }
  co_return Result<void>{};
}

io::Task<Result<WriteAhead::Written>> WriteAhead::write(std::vector<UnsyncedRange> ranges,
                                                        std::vector<SyncedEntry> evidence) {
  const auto guard = co_await turn_.lock();
  if (dead_) co_return fail(Code::kUnavailable, "the write-ahead files are not used any more");
  if (half_bytes_ == 0) PYRALOG_CO_TRY(co_await open());
  // An upper bound: the item headers, and a block that is not full for each frame.
  std::uint64_t bytes = 2 * kWriteAheadBlock + 128 * (ranges.size() + evidence.size());
  for (const UnsyncedRange& range : ranges) bytes += range.bytes();
  bytes += (bytes / kWriteAheadFrameBytes + 1) * kWriteAheadBlock;
  if (auto room = make_room(bytes); !room) {
    if (room.error().code == Code::kUnavailable) co_return fail(room.error());
    co_return give_up(halves_[current_], room.error());
  }
  Half& half = halves_[current_];
  FrameSpace space;
  if (!frame_spaces_.empty()) {
    space = std::move(frame_spaces_.back());
    frame_spaces_.pop_back();
  }
  Written written{.half = current_, .first = half.end, .kept = {}, .frame = Frame(std::move(space))};
  for (const SyncedEntry& entry : evidence) {
    if (!PYRALOG_PLANT("log.write_ahead_lets_evidence_stay")) half.held.insert(entry.partition);
  }
  for (const UnsyncedRange& range : ranges) {
    half.held.insert(range.partition);
    written.kept.emplace_back(Key(range.partition, range.segment, range.kind),
                              Kept{range.partition, range.file, range.from, range.to});
  }
  ++half.in_flight;
  Result<void> made = co_await make_frames(written.frame, std::move(ranges), std::move(evidence));
  // One frame is written and synced at one go, beside those of other commits. What is more, or the first
  // of a use, whose header has to become durable with it, goes by a sync of the file.
  const bool at_one_go = half.begun && half.end == written.first;
  if (made && !written.frame.empty()) {
    made = at_one_go ? seal(written.frame) : co_await write_frame(written.frame);
  }
  if (!made) {
    end(written);
    co_return give_up(half, made.error());
  }
  co_return written;
}

/// A commit is over; whoever waits for it goes on when its caller has come to an end, or waits again.
void WriteAhead::end(Written& written) {
  Half& half = halves_[written.half];
  --half.in_flight;
  frame_spaces_.push_back(std::move(written.frame.space));
  settled_.wake_all();
}

/// What comes before it may be missing: a replay steps over that, and rounds come to their end in order.
io::Task<Result<void>> WriteAhead::make_durable(const Written& written) {
  Half& half = halves_[written.half];
  const std::shared_ptr<io::File> file = half.file;
  const bool not_at_all = PYRALOG_PLANT("log.write_ahead_no_sync");
  if (const Frame& frame = written.frame; frame.length > 0) {
    PYRALOG_CO_TRY(not_at_all ? co_await file->write_direct(frame.at, frame.sealed())
                              : co_await file->write_durably(frame.at, frame.sealed()));
    ++shard_.stats_.syncs;
  } else if (!not_at_all) {
    PYRALOG_CO_TRY(co_await file->sync());
    half.begun = true;
  }
  co_return Result<void>{};
}

io::Task<Result<std::shared_ptr<io::File>>> WriteAhead::commit(std::vector<UnsyncedRange> ranges,
                                                               std::vector<SyncedEntry> evidence) {
  PYRALOG_CO_ASSIGN(Written written, co_await write(std::move(ranges), std::move(evidence)));
  Half& half = halves_[written.half];
  const std::shared_ptr<io::File> file = half.file;
  const bool at_one_go = written.frame.length > 0;
  const Result<void> durable = co_await make_durable(written);
  end(written);
  if (!durable) co_return give_up(half, durable.error());
  half.held_before.clear();
  half.unsettled = true;
  for (auto& [key, kept] : written.kept) {
    const auto [known, is_new] = half.kept.try_emplace(key, kept);
    if (is_new) continue;
    kept.from = std::min(kept.from, known->second.from);
    kept.to = std::max(kept.to, known->second.to);
    known->second = std::move(kept);
  }
  written_.wake_all();
  // Segments that were ended stay open as long as it vouches for them.
  if (half.kept.size() > 2 * shard_.logs_.size() + kSpareFiles) half.end = half_bytes_;
  ++shard_.stats_.write_ahead_rounds;
  co_return at_one_go ? nullptr : file;
}

/// Nobody may write behind what a round left that failed.
std::unexpected<Error> WriteAhead::give_up(Half& half, const Error& cause) {
  half.end = half_bytes_;
  // Those behind it fail as well.
  if (cause.code == Code::kIo && !failed_) {
    dead_ = true;
    failed_ = true;
    observe::log_error("log.write_ahead_failed",
                       {{"file", half.file->path()}, {"reason", cause.message}});
    for (const unsigned i : {0u, 1u}) {
      hurry(halves_[i]);
      shard_.spawn(settle(i));
    }
  }
  return fail(cause);
}

void WriteAhead::hurry(Half& half) {
  half.hurry = true;
  written_.wake_all();
}

/// How far a half is settled, in bytes that its segments are to become durable of.
struct WriteAhead::Settling {
  std::uint64_t all = 0;
  std::uint64_t done = 0;
};

/// Waits until as much of the other half is full as this one is settled; where little is written, not long.
io::Task<void> WriteAhead::keep_pace(const Half& half, const Settling& so_far) {
  const Half& other = halves_[&half == halves_ ? 1 : 0];
  const Instant last = io::Shard::current().now() + kSettlePause;
  const double settled = static_cast<double>(so_far.done) / static_cast<double>(so_far.all);
  while (!half.hurry && so_far.done < so_far.all && !PYRALOG_PLANT("log.settle_all_at_once")) {
    const double full = static_cast<double>(other.end) / static_cast<double>(half_bytes_);
    if (settled * kSettledAt <= full || !co_await written_.wait(last)) break;
  }
}

/// Syncs the next few files for which a half vouches. A sync that failed is not tried again: io::SyncQueue
/// lets every later one of that file fail.
io::Task<void> WriteAhead::settle_some(Half& half, Settling& so_far) {
  std::vector<std::pair<Key, Kept>> some;
  std::uint64_t bytes = 0;
  for (const auto& [key, kept] : half.kept) {
    if (kept.failed) continue;
    some.emplace_back(key, kept);
    bytes += kept.to - kept.from;
    if (some.size() == kSettleAtOnce || (bytes >= kSettleStep && !half.hurry)) break;
  }
  if (some.empty()) co_return;
  // What comes at last may be much; all before it is less than a step.
  const Kept& last = some.back().second;
  std::uint64_t at = last.from;
  for (; last.to - at > kSettleStep && !half.hurry; at += kSettleStep) {
    co_await last.file->write_out(at, kSettleStep);
    so_far.done += kSettleStep;
    co_await keep_pace(half, so_far);
  }
  so_far.done += bytes - (at - last.from);
  co_await sync_own_files(half, std::move(some));
}

io::Task<void> WriteAhead::sync_own_files(Half& half, std::vector<std::pair<Key, Kept>> some) {
  std::vector<std::shared_ptr<io::File>> files;
  for (const auto& [key, kept] : some) files.push_back(kept.file);
  const auto results = co_await shard_.disk_.sync(std::move(files));
  for (std::size_t i = 0; i < some.size(); ++i) {
    // It may have been removed meanwhile.
    const auto kept = half.kept.find(some[i].first);
    if (kept == half.kept.end() || kept->second.file != some[i].second.file) continue;
    if (results[i]) {
      half.kept.erase(kept);
      continue;
    }
    kept->second.failed = true;
    ++shard_.stats_.failed_syncs;
    const auto log = shard_.find(some[i].second.partition);
    if (log != nullptr) (void)log->go_offline(results[i].error());
  }
}

io::Task<void> WriteAhead::settle_segment(PartitionId partition, Offset segment) {
  for (Half& half : halves_) {
    const auto kept = half.kept.find(Key(partition, segment, WriteAheadFile::kLog));
    if (kept == half.kept.end() || kept->second.failed) continue;
    std::vector<std::pair<Key, Kept>> one{{kept->first, kept->second}};
    co_await sync_own_files(half, std::move(one));
  }
}

/// Syncs the files for which a half vouches, and then what it alone says of them.
io::Task<void> WriteAhead::settle(unsigned index) {
  Half& half = halves_[index];
  if (half.settling) co_return;
  half.settling = true;
  // What is not durable in it yet comes to `kept` when it is.
  while (half.in_flight > 0) co_await settled_.wait(Instant::never());
  Settling so_far;
  for (const auto& [key, kept] : half.kept) so_far.all += kept.to - kept.from;
  const auto waiting = [&half] {
    return std::ranges::any_of(half.kept, [](const auto& kept) { return !kept.second.failed; });
  };
  while (waiting()) {
    co_await settle_some(half, so_far);
    co_await keep_pace(half, so_far);
  }
  if (half.unsettled && !PYRALOG_PLANT("log.write_ahead_drops_evidence")) {
    half.unsettled = !co_await shard_.committer_.flush();
  } else {
    half.unsettled = false;
  }
  half.settling = false;
  half.hurry = false;
  settled_.wake_all();
}

bool WriteAhead::holds(const PartitionId& partition) const {
  return std::ranges::any_of(halves_, [&](const Half& half) {
    return half.held.contains(partition) || half.held_before.contains(partition);
  });
}

io::Task<Result<void>> WriteAhead::let_go() {
  if (half_bytes_ == 0) co_return Result<void>{};
  for (const unsigned i : {0u, 1u}) {
    hurry(halves_[i]);
    while (halves_[i].settling) co_await settled_.wait(Instant::never());
    co_await settle(i);
  }
  if (!halves_[0].kept.empty() || !halves_[1].kept.empty()) {
    co_return fail(Code::kIo,
                   fmt::format("{} and its sister hold records whose own files cannot be synced; they "
                               "are put in place by the next start",
                               path_of(0)));
  }
  if (halves_[0].unsettled || halves_[1].unsettled) {
    co_return fail(Code::kIo, fmt::format("the evidence that {} holds cannot be written elsewhere",
                                          path_of(0)));
  }
  // As long as a file may be there, or come back, what it holds counts; so this can be tried again.
  dead_ = true;
  for (const unsigned i : {0u, 1u}) {
    auto removed = co_await shard_.disk_.remove(path_of(i));
    if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  }
  PYRALOG_CO_TRY(co_await shard_.disk_.sync_dir(shard_.options().data_dir));
  for (Half& half : halves_) half = Half{};
  half_bytes_ = 0;
  dead_ = false;
  failed_ = false;
  co_return Result<void>{};
}

io::Task<Result<void>> WriteAhead::retire(PartitionId partition) {
  const auto guard = co_await turn_.lock();
  // Not by `kept`: what is in place already is still in the file, and would be put there again.
  if (!holds(partition) || PYRALOG_PLANT("log.write_ahead_keeps_cut")) co_return Result<void>{};
  co_return co_await let_go();
}

io::Task<Result<void>> WriteAhead::restore(PartitionId partition) {
  const auto guard = co_await turn_.lock();
  if (!holds(partition)) co_return Result<void>{};
  PYRALOG_CO_TRY(co_await place_partition(shard_.disk_, shard_.options().data_dir, partition,
                                          shard_.committer_.latest(partition)));
  for (Half& half : halves_) {
    std::erase_if(half.kept, [&](const auto& kept) { return kept.second.partition == partition; });
  }
  co_return co_await let_go();
}

io::Task<Result<void>> WriteAhead::close() {
  const auto guard = co_await turn_.lock();
  co_return co_await let_go();
}

void WriteAhead::forget(const std::string& path) {
  for (Half& half : halves_) {
    std::erase_if(half.kept, [&](const auto& kept) { return kept.second.file->path() == path; });
  }
}

}  // namespace pyralog::log
