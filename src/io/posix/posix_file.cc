#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <coroutine>
#include <utility>

#include "base/plant.h"
#include "io/pools.h"
#include "io/posix/descriptors.h"
#include "io/posix/errors.h"
#include "io/posix/posix_disk.h"

namespace pyralog::io::posix {

namespace {

constexpr std::size_t kMaxPieces = 64;
constexpr std::uint64_t kPageBytes = 4096;
// One byte of so many is looked at to guess whether all are in memory.
constexpr std::uint64_t kSampleBytes = 1024 * 1024;

// Whether the file systems here know RWF_NOWAIT; asked again by nobody once one has refused it.
std::atomic<bool> nowait_works{true};

off_t offset_of(std::uint64_t position) {
  PYRALOG_ASSERT(position <= INT64_MAX);
  return static_cast<off_t>(position);
}

/// Reads until `out` is full or the file ends.
Result<std::size_t> read_all(int fd, const std::string& path, std::uint64_t position,
                             MutableBytes out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(fd, out.data() + done, out.size() - done, offset_of(position + done));
    if (got == 0) break;
    if (got < 0) {
      if (errno == EINTR) continue;
      return fail(system_error(errno, path, "read"));
    }
    done += static_cast<std::size_t>(got);
  }
  return done;
}

/// Reads what is in memory; kMore if the rest has to come from the device.
struct Immediate {
  std::size_t bytes = 0;
  bool complete = false;
};
Immediate read_cached(int fd, std::uint64_t position, MutableBytes out) {
  Immediate result;
  while (nowait_works.load(std::memory_order_relaxed) && result.bytes < out.size()) {
    const iovec piece{out.data() + result.bytes, out.size() - result.bytes};
    const ssize_t got =
        ::preadv2(fd, &piece, 1, offset_of(position + result.bytes), RWF_NOWAIT);
    if (got > 0) {
      result.bytes += static_cast<std::size_t>(got);
    } else if (got == 0) {
      result.complete = true;
      return result;
    } else if (errno == EOPNOTSUPP || errno == ENOSYS) {
      nowait_works.store(false, std::memory_order_relaxed);
    } else if (errno != EINTR) {
      return result;
    }
  }
  result.complete = result.bytes == out.size();
  return result;
}

}  // namespace

PosixFile::PosixFile(std::string path, int fd, std::uint64_t size)
    : path_(std::move(path)), fd_(fd), size_(size), queue_([this](SyncQueue::Sync& sync) { return sync_once(sync); }) {
  count_opened();
}

PosixFile::~PosixFile() {
  ::close(fd_);
  count_closed();
  if (const int direct = direct_fd_.load(); direct >= 0) {
    ::close(direct);
    count_closed();
  }
}

Result<void> PosixFile::write_at(std::uint64_t position, std::span<const ByteView> pieces) {
  std::array<iovec, kMaxPieces> batch;
  std::size_t next = 0;   // the first piece that is not in the batch
  std::size_t first = 0;  // the first of the batch that is not written
  std::size_t count = 0;
  while (true) {
    if (first == count) {
      first = count = 0;
      while (count < kMaxPieces && next < pieces.size()) {
        const ByteView piece = pieces[next++];
        if (!piece.empty()) {
          batch[count++] = {const_cast<std::uint8_t*>(piece.data()), piece.size()};
        }
      }
      if (count == 0) return {};
    }
    const ssize_t wrote = ::pwritev(fd_, batch.data() + first, static_cast<int>(count - first),
                                    offset_of(position));
    if (wrote < 0) {
      if (errno == EINTR) continue;
      return fail(system_error(errno, path_, "write"));
    }
    auto left = static_cast<std::size_t>(wrote);
    position += left;
    size_ = std::max(size_, position);
    while (first < count && left >= batch[first].iov_len) left -= batch[first++].iov_len;
    if (left > 0) {
      batch[first].iov_base = static_cast<std::uint8_t*>(batch[first].iov_base) + left;
      batch[first].iov_len -= left;
    }
  }
}

/// A descriptor of the same file without the page cache; that of the file itself where there is none.
int PosixFile::direct_fd() {
  std::call_once(direct_opened_, [this] {
    const int fd = ::open(fmt::format("/proc/self/fd/{}", fd_).c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) count_opened();
    direct_fd_ = fd;
  });
  const int fd = direct_fd_;
  return fd >= 0 ? fd : fd_;
}

Result<bool> PosixFile::write_past_cache(std::uint64_t position, ByteView bytes) {
  const auto fits = [](std::uint64_t value) { return value % kDirectBlock == 0; };
  bool direct = fits(position) && fits(bytes.size()) && fits(reinterpret_cast<std::uintptr_t>(bytes.data()));
  if (!direct && PYRALOG_PLANT("io.direct_write_stops_half_way")) bytes = bytes.first(bytes.size() / 2);
  bool all = true;
  while (!bytes.empty()) {
    const int fd = direct ? direct_fd() : fd_;
    all = all && fd != fd_;
    const ssize_t wrote = ::pwrite(fd, bytes.data(), bytes.size(), offset_of(position));
    if (wrote < 0) {
      if (errno == EINTR) continue;
      // Devices with longer blocks, and file systems that think better of it.
      if ((errno == EINVAL || errno == EOPNOTSUPP) && fd != fd_) {
        direct = false;
        continue;
      }
      return fail(system_error(errno, path_, "write"));
    }
    if (wrote == 0) return fail(system_error(EIO, path_, "write"));
    position += static_cast<std::uint64_t>(wrote);
    bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    direct = direct && fits(position);
  }
  return all;
}

Task<Result<void>> PosixFile::write_direct(std::uint64_t position, ByteView bytes) {
  const auto alive = shared_from_this();
  PYRALOG_CO_TRY(co_await run_in(Pool::kSync, [&] { return write_past_cache(position, bytes); }));
  size_ = std::max(size_, position + bytes.size());
  co_return Result<void>{};
}

Task<Result<void>> PosixFile::write_durably(std::uint64_t position, ByteView bytes) {
  const auto alive = shared_from_this();
  if (queue_.error()) co_return fail(*queue_.error());
  Result<void> synced;
  PYRALOG_CO_ASSIGN(const bool direct, co_await run_in(Pool::kSync, [&]() -> Result<bool> {
                      PYRALOG_ASSIGN(const bool past_cache, write_past_cache(position, bytes));
                      // What went past the page cache fails to whoever wrote it, so these need not take
                      // turns as syncs of that do.
                      const bool not_synced = PYRALOG_PLANT("io.durable_write_not_synced");
                      if (past_cache && !not_synced) synced = sync_by(direct_fd());
                      return past_cache;
                    }));
  size_ = std::max(size_, position + bytes.size());
  if (!direct) co_return co_await sync();
  queue_.count(synced);
  co_return synced;
}

Task<Result<std::size_t>> PosixFile::read_at(std::uint64_t position, MutableBytes out) {
  const Immediate now = read_cached(fd_, position, out);
  if (now.complete) co_return now.bytes;
  const auto alive = shared_from_this();
  PYRALOG_CO_ASSIGN(const std::size_t rest, co_await run_in(Pool::kDisk, [&] {
                      return read_all(fd_, path_, position + now.bytes, out.subspan(now.bytes));
                    }));
  co_return now.bytes + rest;
}

Task<Result<std::size_t>> PosixFile::read_stored(std::uint64_t position, MutableBytes out) {
  const auto alive = shared_from_this();
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<std::size_t> {
    // Pages that are only covered in part would stay.
    const std::uint64_t from = position / kPageBytes * kPageBytes;
    const std::uint64_t to = (position + out.size() + kPageBytes - 1) / kPageBytes * kPageBytes;
    const auto drop = [&] {
      ::posix_fadvise(fd_, offset_of(from), offset_of(to - from), POSIX_FADV_DONTNEED);
    };
    const bool cached = probably_cached(position, out.size());
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_RANDOM);
    drop();
    auto got = read_all(fd_, path_, position, out);
    if (!cached) drop();
    return got;
  });
}

/// Runs `job` unless another one runs; that thread runs it then, and this one is free for other files.
void PosixFile::sync_in_turn(SyncJob job) {
  const bool side_by_side = PYRALOG_PLANT("io.syncs_side_by_side");
  {
    const std::lock_guard lock(sync_mutex_);
    if (syncing_ && !side_by_side) {
      lined_up_ = std::move(job);
      return;
    }
    syncing_ = true;
  }
  while (job) {
    auto done = job();
    {
      const std::lock_guard lock(sync_mutex_);
      job = std::exchange(lined_up_, nullptr);
      if (!job) syncing_ = false;
    }
    done();  // without a next one nothing keeps the file alive from here on
  }
}

Result<void> PosixFile::sync_now(SyncQueue::Sync& sync) {
  sync.begin();
  if (sync_failed_ && !PYRALOG_PLANT("io.sync_after_failure")) return fail(*sync_failed_);
  auto synced = sync_by(fd_);
  if (!synced) sync_failed_ = synced.error();
  return synced;
}

Result<void> PosixFile::sync_by(int fd) {
  if (PYRALOG_PLANT("io.sync_without_fdatasync")) return {};
  // What has failed is not tried again, not even by one that waited for a thread meanwhile.
  if (const int other = failed_with_; other != 0 && !PYRALOG_PLANT("io.sync_behind_a_failed_one")) {
    return fail(system_error(other, path_, "fdatasync"));
  }
  int failed = 0;
  do {
    failed = ::fdatasync(fd);
  } while (failed != 0 && errno == EINTR);
  if (failed != 0 && !PYRALOG_PLANT("io.failed_sync_is_success")) {
    failed_with_ = errno;
    return fail(system_error(errno, path_, "fdatasync"));
  }
  // Another one may have failed meanwhile: what this one was to make durable may have gone with that.
  if (const int other = failed_with_; other != 0 && !PYRALOG_PLANT("io.sync_beside_a_failed_one")) {
    return fail(system_error(other, path_, "fdatasync"));
  }
  return {};
}

// One after the other: the system tells of a failure once for each descriptor, so of two at a time one
// would call good what the other knows to be lost.
Task<Result<void>> PosixFile::sync_once(SyncQueue::Sync& sync) {
  struct Awaiter {
    PosixFile& file;
    SyncQueue::Sync& sync;
    Result<void> result{};
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
      Shard& home = Shard::current();
      home.pools().submit(Pool::kSync, [this, h, &home] {
        file.sync_in_turn([this, h, &home]() -> std::move_only_function<void()> {
          result = file.sync_now(sync);
          return [h, &home] { home.post([h] { h.resume(); }); };
        });
      });
    }
    Result<void> await_resume() { return std::move(result); }
  };
  co_return co_await Awaiter{*this, sync};
}

// In a pool, for it waits where the device's queue is full.
Task<void> PosixFile::write_out(std::uint64_t position, std::uint64_t count) {
  const auto alive = shared_from_this();
  (void)co_await run_in(Pool::kDisk, [&] {
    return ::sync_file_range(fd_, offset_of(position), offset_of(count), SYNC_FILE_RANGE_WRITE);
  });
}

Task<Result<void>> PosixFile::truncate(std::uint64_t size) {
  const auto alive = shared_from_this();
  PYRALOG_CO_TRY(co_await run_in(Pool::kDisk, [&]() -> Result<void> {
    int failed = 0;
    do {
      failed = ::ftruncate(fd_, offset_of(size));
    } while (failed != 0 && errno == EINTR);
    if (failed != 0) return fail(system_error(errno, path_, "truncate"));
    return {};
  }));
  size_ = size;
  co_return Result<void>{};
}

Task<Result<void>> PosixFile::allocate(std::uint64_t size) {
  const auto alive = shared_from_this();
  PYRALOG_CO_TRY(co_await run_in(Pool::kDisk, [&]() -> Result<void> {
    int failed = 0;
    do {
      failed = PYRALOG_PLANT("io.sparse_allocation") ? ::ftruncate(fd_, offset_of(size))
                                                     : ::fallocate(fd_, 0, 0, offset_of(size));
    } while (failed != 0 && errno == EINTR);
    if (failed == 0) return {};
    if (errno != EOPNOTSUPP && errno != ENOSYS) {
      return fail(system_error(errno, path_, "allocate"));
    }
    // The file system cannot; what is written takes its space, too.
    const Bytes zeros(static_cast<std::size_t>(std::min<std::uint64_t>(size, 256 * 1024)));
    for (std::uint64_t done = size_; done < size;) {
      const ssize_t wrote = ::pwrite(
          fd_, zeros.data(), std::min<std::uint64_t>(zeros.size(), size - done), offset_of(done));
      if (wrote < 0 && errno != EINTR) return fail(system_error(errno, path_, "write"));
      if (wrote > 0) done += static_cast<std::uint64_t>(wrote);
    }
    return {};
  }));
  size_ = std::max(size_, size);
  co_return Result<void>{};
}

void PosixFile::drop_cache() { ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

bool PosixFile::probably_cached(std::uint64_t position, std::uint64_t count) const {
  if (count == 0 || !nowait_works.load(std::memory_order_relaxed)) return true;
  std::uint8_t byte = 0;
  const std::uint64_t last = position + count - 1;
  for (std::uint64_t at = position;; at = std::min(last, at + kSampleBytes)) {
    if (!read_cached(fd_, at, {&byte, 1}).complete) return false;
    if (at == last) return true;
  }
}

Task<Result<void>> PosixFile::warm(std::uint64_t position, std::uint64_t count) {
  const auto alive = shared_from_this();
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<void> {
    Bytes scratch(static_cast<std::size_t>(std::min<std::uint64_t>(count, 256 * 1024)));
    for (std::uint64_t done = 0; done < count;) {
      const auto part = std::min<std::uint64_t>(scratch.size(), count - done);
      PYRALOG_ASSIGN(const std::size_t got,
                     read_all(fd_, path_, position + done, MutableBytes(scratch).first(part)));
      if (got == 0) break;
      done += got;
    }
    return {};
  });
}

}  // namespace pyralog::io::posix
