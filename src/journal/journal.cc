#include "journal/journal.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/crc32c.h"
#include "base/plant.h"
#include "io/rng.h"
#include "journal/format.h"

namespace pyralog::journal {

namespace {

Error read_error(const std::string& path, std::size_t got, std::size_t want) {
  return Error{Code::kIo,
               fmt::format("journal {}: read {} of {} bytes; the file shrank while it was opened",
                           path, got, want),
               0};
}

/// Everything that the device has of `file`, not what an earlier process left in memory only.
io::Task<Result<Bytes>> read_whole(std::shared_ptr<io::File> file) {
  file->drop_cache();
  Bytes content(file->size());
  PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(0, content));
  if (got != content.size()) co_return fail(read_error(file->path(), got, content.size()));
  co_return content;
}

/// Checks a journal's content and shows its frames; returns where the sound ones end.
Result<std::uint64_t> visit_frames(ByteView content, const std::string& path,
                                   const Options& options, const Journal::Visitor& visit) {
  PYRALOG_ASSIGN(const FileHeader header, decode_file_header(content, path));
  if (header.kind != options.kind || header.owner != options.owner) {
    return fail(Code::kInvalidArgument,
                fmt::format("journal {} belongs to another owner or holds other things (kind "
                            "{:#x}, owner {}); check the data directory",
                            path, header.kind, to_string(header.owner)));
  }
  const std::uint32_t seed = crc32c(content.first(kFileHeaderBytes));
  std::uint64_t at = kFileHeaderBytes;
  while (at < content.size()) {
    const auto frame = read_frame(content, at, seed, options.max_frame_bytes);
    if (!frame) break;
    PYRALOG_TRY(visit(frame->payload));
    at += kFrameHeaderBytes + frame->payload.size();
  }
  if (at < content.size() && !PYRALOG_PLANT("journal.damage_is_torn")) {
    if (const auto witness = find_witness(content, at, seed, options.max_frame_bytes)) {
      return fail(Code::kCorrupt,
                  fmt::format("journal {} is damaged at byte {}: a later frame, at byte {}, says "
                              "that this had been durable; restore the file from a copy",
                              path, at, *witness));
    }
  }
  return at;
}

}  // namespace

Journal::Journal(io::Disk& disk, std::string path, Options options)
    : disk_(disk), path_(std::move(path)), options_(options) {}

Journal::~Journal() = default;

std::uint64_t Journal::size_bytes() const { return out_.end; }

std::unexpected<Error> Journal::die(const Error& cause) {
  if (!dead_) {
    dead_ = Error{Code::kIo,
                  fmt::format("journal {} is closed to further use after a failed call ({}); "
                              "restart to open it anew from disk",
                              path_, cause.message),
                  cause.sys_errno};
    synced_.wake_all();
  }
  return fail(*dead_);
}

io::Task<Result<std::unique_ptr<Journal>>> Journal::open(io::Disk& disk, std::string path,
                                                         Options options, Visitor visit) {
  std::unique_ptr<Journal> journal(new Journal(disk, std::move(path), options));
  PYRALOG_CO_ASSIGN(const bool there, co_await disk.exists(journal->path_));
  if (!there) {
    PYRALOG_CO_TRY(co_await journal->create());
    co_return journal;
  }
  PYRALOG_CO_ASSIGN(journal->out_.file, co_await disk.open(journal->path_, io::OpenMode::kReadWrite));
  // What an earlier process wrote, created or renamed and could not sync may be in memory only.
  if (!PYRALOG_PLANT("journal.trust_names")) {
    PYRALOG_CO_TRY(co_await disk.sync_dir(io::parent_dir(journal->path_)));
  }
  PYRALOG_CO_TRY(co_await journal->out_.file->sync());
  PYRALOG_CO_ASSIGN(Bytes content, co_await read_whole(journal->out_.file));
  PYRALOG_CO_TRY(co_await journal->recover(std::move(content), visit));
  co_return journal;
}

io::Task<Result<void>> Journal::peek(io::Disk& disk, std::string path, Options options,
                                     Visitor visit) {
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file, co_await disk.open(path, io::OpenMode::kRead));
  PYRALOG_CO_ASSIGN(const Bytes content, co_await read_whole(std::move(file)));
  PYRALOG_CO_ASSIGN(const std::uint64_t end, visit_frames(content, path, options, visit));
  (void)end;
  co_return Result<void>{};
}

io::Task<Result<Journal::Output>> Journal::create_output(std::string path) {
  Output out;
  PYRALOG_CO_ASSIGN(out.file, co_await disk_.open(path, io::OpenMode::kOpenOrCreate));
  if (out.file->size() != 0) PYRALOG_CO_TRY(co_await out.file->truncate(0));
  const FileHeader header{options_.kind, options_.owner, io::Shard::current().rng().next()};
  const Bytes bytes = encode(header);
  out.seed = crc32c(bytes);
  PYRALOG_CO_TRY(out.file->write_at(0, bytes));
  out.end = kFileHeaderBytes;
  co_return out;
}

io::Task<Result<void>> Journal::create() {
  PYRALOG_CO_ASSIGN(Output out, co_await create_output(path_ + ".new"));
  PYRALOG_CO_TRY(co_await out.file->sync());
  PYRALOG_CO_TRY(co_await disk_.rename(path_ + ".new", path_));
  PYRALOG_CO_TRY(co_await disk_.sync_dir(io::parent_dir(path_)));
  out.durable = out.end;
  end_ = durable_ = Position(out.end);
  out_ = std::move(out);
  co_return Result<void>{};
}

io::Task<Result<void>> Journal::recover(Bytes content, const Visitor& visit) {
  PYRALOG_CO_ASSIGN(std::uint64_t at, visit_frames(content, path_, options_, visit));
  out_.seed = crc32c(ByteView(content).first(kFileHeaderBytes));
  torn_bytes_ = content.size() - at;
  if (torn_bytes_ != 0 && !PYRALOG_PLANT("journal.keep_torn_tail")) {
    PYRALOG_CO_TRY(co_await out_.file->truncate(at));
    PYRALOG_CO_TRY(co_await out_.file->sync());
  }
  if (PYRALOG_PLANT("journal.keep_torn_tail")) at = content.size();
  out_.end = out_.durable = at;
  end_ = durable_ = Position(at);
  co_return Result<void>{};
}

Result<void> Journal::write_frame(Output& out, ByteView payload) {
  scratch_.clear();
  encode_frame_header(scratch_, payload, out.end, out.durable, out.seed);
  const ByteView pieces[] = {scratch_, payload};
  PYRALOG_TRY(out.file->write_at(out.end, pieces));
  out.end += kFrameHeaderBytes + payload.size();
  return {};
}

Result<Position> Journal::append(ByteView payload) {
  if (dead_) return fail(*dead_);
  if (payload.size() > options_.max_frame_bytes) {
    return fail(Code::kTooLarge, fmt::format("journal {}: a frame of {} bytes is over the limit of {}",
                                             path_, payload.size(), options_.max_frame_bytes));
  }
  if (auto written = write_frame(out_, payload); !written) {
    // The frame's place may hold a part of it; the next append writes over that.
    if (written.error().code == Code::kExhausted) return fail(std::move(written.error()));
    return die(written.error());
  }
  if (next_) {
    if (auto written = write_frame(*next_, payload); !written) {
      // The new file may be the journal already: what it lacks must never be acknowledged.
      if (renaming_ && !PYRALOG_PLANT("journal.give_up_too_late")) return die(written.error());
      next_.reset();  // the rewrite gives up
    }
  }
  end_.value += kFrameHeaderBytes + payload.size();
  return end_;
}

io::Task<Result<void>> Journal::sync_now() {
  syncing_ = true;
  co_await io::yield();  // whoever appends in this turn of the loop shares this sync
  if (dead_) {
    syncing_ = false;
    co_return fail(*dead_);
  }
  Position target = end_;
  std::uint64_t file_end = out_.end;
  std::vector<std::shared_ptr<io::File>> files{out_.file};
  if (next_) files.push_back(next_->file);
  std::vector<Result<void>> results;
  if (!PYRALOG_PLANT("journal.skip_fsync")) results = co_await disk_.sync(files);
  if (PYRALOG_PLANT("journal.late_position")) {
    target = end_;
    file_end = out_.end;
  }
  syncing_ = false;
  if (!results.empty() && !results[0]) co_return die(results[0].error());
  if (results.size() > 1 && !results[1]) {
    // The new file may be the one in place already.
    if (next_ && next_->file == files[1] && !renaming_) {
      next_.reset();
    } else {
      co_return die(results[1].error());
    }
  }
  // Only the old file was synced, and which one a restart finds is open.
  if (dead_ && renaming_ && files.size() == 1) co_return fail(*dead_);
  if (out_.file == files[0]) out_.durable = std::max(out_.durable, file_end);
  durable_ = std::max(durable_, target);
  synced_.wake_all();
  co_return Result<void>{};
}

io::Task<Result<void>> Journal::commit(Position position) {
  PYRALOG_ASSERT(position <= end_);
  while (durable_ < position) {
    if (dead_) co_return fail(*dead_);
    if (syncing_) {
      co_await synced_.wait(Instant::never());
    } else {
      PYRALOG_CO_TRY(co_await sync_now());
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> Journal::rewrite(Snapshot snapshot) {
  if (dead_) co_return fail(*dead_);
  if (rewriting_) {
    co_return fail(Code::kUnavailable, fmt::format("journal {} is being rewritten already", path_));
  }
  rewriting_ = true;
  auto out = co_await create_output(path_ + ".new");
  if (!out || dead_) {
    rewriting_ = false;
    co_return fail(dead_ ? *dead_ : std::move(out.error()));
  }
  const std::optional<std::vector<Bytes>> frames = snapshot();
  if (!frames) {
    rewriting_ = false;
    co_return fail(Code::kCancelled,
                   fmt::format("journal {}: the rewrite was given up by who asked for it", path_));
  }
  for (const Bytes& payload : *frames) {
    if (payload.size() > options_.max_frame_bytes) {
      rewriting_ = false;
      co_return fail(Code::kTooLarge,
                     fmt::format("journal {}: a frame of {} bytes is over the limit of {}", path_,
                                 payload.size(), options_.max_frame_bytes));
    }
    if (auto written = write_frame(*out, payload); !written) {
      rewriting_ = false;
      co_return written;
    }
  }
  next_ = std::move(*out);
  auto replaced = co_await replace();
  next_.reset();
  rewriting_ = false;
  renaming_ = renaming_ && dead_;  // for good, if it died meanwhile
  co_return replaced;
}

io::Task<Result<void>> Journal::replace() {
  const std::shared_ptr<io::File> file = next_->file;
  const std::uint64_t covered = next_->end;
  if (!PYRALOG_PLANT("journal.rewrite_no_sync")) PYRALOG_CO_TRY(co_await file->sync());
  if (dead_) co_return fail(*dead_);
  if (!next_) {
    co_return fail(Code::kExhausted,
                   fmt::format("journal {}: the rewrite was given up, its new file could not be "
                               "written; free space",
                               path_));
  }
  next_->durable = std::max(next_->durable, covered);
  // From here on either file may be the journal; frames that come meanwhile go to both.
  renaming_ = true;
  if (auto renamed = co_await disk_.rename(path_ + ".new", path_); !renamed) {
    co_return die(renamed.error());
  }
  if (auto synced = co_await disk_.sync_dir(io::parent_dir(path_)); !synced) {
    co_return die(synced.error());
  }
  if (dead_) co_return fail(*dead_);
  if (!next_) {
    co_return die(Error{Code::kExhausted, "a frame could not be written to the new file", 0});
  }
  out_ = std::move(*next_);
  co_return Result<void>{};
}

}  // namespace pyralog::journal
