#include "obelisk/ceiling_file.h"

#include <algorithm>
#include <limits>

#include "base/crc32c.h"
#include "base/plant.h"

namespace pyralog::obelisk {
namespace {

constexpr std::string_view kMagic = "OBELISK1";
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kFieldBytes = 48;
constexpr std::uint16_t kMachines = 1024;

std::unexpected<Error> corrupt(const std::string& path, std::string_view what) {
  return fail(Code::kCorrupt, path + ": " + std::string(what) +
                                  "; restore it, or begin a new one above every id ever issued");
}

/// The ceiling that a file of `bytes` stands for.
Result<std::uint64_t> ceiling_of(const Header& header, std::uint64_t bytes,
                                 const std::string& path) {
  if (bytes < kHeaderBytes) return corrupt(path, "shorter than an Obelisk's header block");
  const std::uint64_t steps = bytes - kHeaderBytes;
  if (steps > (std::numeric_limits<std::uint64_t>::max() - header.base) / header.granule) {
    return corrupt(path, "its length is beyond any counter");
  }
  return header.base + steps * header.granule;
}

io::Task<Result<Header>> read_header(std::shared_ptr<io::File> file) {
  Bytes block(kFieldBytes + 4);
  PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(0, block));
  block.resize(got);
  co_return decode_header(block, file->path());
}

}  // namespace

const char* name(Mode mode) {
  switch (mode) {
    case Mode::kStrict:
      return "strict";
    case Mode::kLease:
      return "lease";
    case Mode::kRelaxed:
      return "relaxed";
  }
  return "unknown";
}

Result<Mode> parse_mode(std::string_view text) {
  for (const Mode mode : {Mode::kStrict, Mode::kLease, Mode::kRelaxed}) {
    if (text == name(mode)) return mode;
  }
  return fail(Code::kInvalidArgument, "mode \"" + std::string(text.substr(0, 64)) +
                                          "\" does not exist; use strict, lease or relaxed");
}

Bytes encode_header(const Header& header) {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(static_cast<std::uint16_t>(header.mode));
  out.le(header.granule).le(header.base).le(header.machine_id).le(header.name_space);
  out.le(header.generation).raw(header.cluster.bytes);
  PYRALOG_ASSERT(out.size() == kFieldBytes);
  out.le(crc32c(out.view()));
  Bytes block = out.take();
  block.resize(kHeaderBytes);
  return block;
}

Result<Header> decode_header(ByteView bytes, const std::string& path) {
  if (bytes.size() < kFieldBytes + 4) return corrupt(path, "shorter than an Obelisk's header");
  Reader in(bytes);
  if (as_text(in.raw(kMagic.size())) != kMagic) return corrupt(path, "not an Obelisk file");
  const auto version = in.le<std::uint16_t>();
  if (version > kVersion) {
    return fail(Code::kUnsupported, path + ": format version " + std::to_string(version) +
                                        " is newer than this program; use the newer one");
  }
  const bool sound =
      crc32c(bytes.first(kFieldBytes)) == load_le<std::uint32_t>(bytes.data() + kFieldBytes);
  if (!sound && !PYRALOG_PLANT("obelisk.skip_header_crc")) {
    return corrupt(path, "its header's checksum is wrong");
  }
  const auto mode = in.le<std::uint16_t>();
  Header header;
  header.mode = static_cast<Mode>(mode);
  header.granule = in.le<std::uint32_t>();
  header.base = in.le<std::uint64_t>();
  header.machine_id = in.le<std::uint16_t>();
  header.name_space = in.le<std::uint16_t>();
  header.generation = in.le<std::uint32_t>();
  std::ranges::copy(in.raw(header.cluster.bytes.size()), header.cluster.bytes.begin());
  if (version == 0 || mode < 1 || mode > 3 || header.granule == 0 ||
      header.machine_id >= kMachines || header.generation == 0) {
    return corrupt(path, "its header says something impossible");
  }
  return header;
}

io::Task<Result<Inspection>> inspect(io::Disk& disk, std::string path) {
  PYRALOG_CO_ASSIGN(const auto file, co_await disk.open(path, io::OpenMode::kRead));
  Inspection out;
  PYRALOG_CO_ASSIGN(out.header, co_await read_header(file));
  out.file_bytes = file->size();
  PYRALOG_CO_ASSIGN(out.ceiling, ceiling_of(out.header, out.file_bytes, path));
  co_return out;
}

io::Task<Result<void>> CeilingFile::create(io::Disk& disk, std::string path, Header header) {
  if (header.granule == 0 || header.machine_id >= kMachines || header.generation == 0) {
    co_return fail(Code::kInvalidArgument,
                   path +
                       ": an Obelisk needs a granule and a generation of at least 1 and a "
                       "machine id below 1024");
  }
  PYRALOG_CO_ASSIGN(const auto lock, co_await disk.lock(path + ".lock"));
  PYRALOG_CO_ASSIGN(const bool there, co_await disk.exists(path));
  if (there) co_return fail(Code::kAlreadyExists, path + ": exists already; open it instead");
  co_return co_await io::replace_file(disk, path, encode_header(header));
}

io::Task<Result<CeilingFile>> CeilingFile::open(io::Disk& disk, std::string path) {
  // The lock is a file of its own, because `renew` replaces the one with the number.
  PYRALOG_CO_ASSIGN(const bool there, co_await disk.exists(path));
  if (!there) co_return fail(Code::kNotFound, path + ": no such Obelisk; create it first");
  CeilingFile out;
  PYRALOG_CO_ASSIGN(out.lock_, co_await disk.lock(path + ".lock"));
  // A process that was killed may have put the file in place without syncing its name.
  if (!PYRALOG_PLANT("obelisk.trust_name")) {
    PYRALOG_CO_TRY(co_await disk.sync_dir(io::parent_dir(path)));
  }
  PYRALOG_CO_ASSIGN(out.file_, co_await disk.open(path, io::OpenMode::kReadWrite));
  PYRALOG_CO_ASSIGN(out.header_, co_await read_header(out.file_));
  PYRALOG_CO_ASSIGN(out.ceiling_, ceiling_of(out.header_, out.file_->size(), path));
  out.disk_ = &disk;
  out.path_ = std::move(path);
  out.asked_ = out.ceiling_;
  if (PYRALOG_PLANT("obelisk.forget_ceiling")) out.ceiling_ = out.header_.base;
  co_return out;
}

io::Task<Result<void>> CeilingFile::grow(std::uint64_t target) {
  // The plant's ceiling may lie below the file's length; a file never shrinks.
  const std::uint64_t steps = (target - header_.base - 1) / header_.granule + 1;
  const std::uint64_t bytes = std::max(kHeaderBytes + steps, file_->size());
  PYRALOG_CO_TRY(co_await file_->truncate(bytes));
  if (header_.mode != Mode::kRelaxed && !PYRALOG_PLANT("obelisk.skip_fsync")) {
    PYRALOG_CO_TRY(co_await file_->sync());
  }
  ceiling_ = header_.base + steps * header_.granule;
  co_return Result<void>{};
}

io::Task<Result<void>> CeilingFile::raise(std::uint64_t target) {
  if (stopped_) {
    co_return fail(Code::kUnavailable, path_ + ": stopped at " + std::to_string(ceiling_) +
                                           " after a failed sync; check the disk and restart");
  }
  if (target <= ceiling_) co_return Result<void>{};
  if (target > std::numeric_limits<std::uint64_t>::max() - header_.granule) {
    co_return fail(Code::kExhausted, path_ + ": the counter has reached its end");
  }
  const std::uint64_t steps = (target - header_.base - 1) / header_.granule + 1;
  asked_ = std::max(asked_, header_.base + steps * header_.granule);
  if (steps > kMaxFileBytes - kHeaderBytes) {
    PYRALOG_CO_TRY(co_await renew());
    if (target <= ceiling_) co_return Result<void>{};
  }
  auto grown = co_await grow(target);
  if (!grown) {
    stopped_ = true;
    co_return fail(std::move(grown.error()));
  }
  co_return Result<void>{};
}

io::Task<Result<void>> CeilingFile::renew() {
  stopped_ = true;
  Header fresh = header_;
  fresh.base = asked_;
  ++fresh.generation;
  PYRALOG_CO_TRY(co_await io::replace_file(*disk_, path_, encode_header(fresh)));
  PYRALOG_CO_ASSIGN(file_, co_await disk_->open(path_, io::OpenMode::kReadWrite));
  header_ = fresh;
  ceiling_ = fresh.base;
  stopped_ = false;
  co_return Result<void>{};
}

}  // namespace pyralog::obelisk
