#include "io/sim/sim_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/plant.h"
#include "io/shard.h"

namespace pyralog::io::sim {

std::shared_ptr<SimFile> SimFile::make(SimDisk& disk, std::string path,
                                       std::shared_ptr<Inode> inode, bool writable) {
  return std::make_shared<SimFile>(disk, std::move(path), std::move(inode), writable);
}

SimFile::SimFile(SimDisk& disk, std::string path, std::shared_ptr<Inode> inode, bool writable)
    : disk_(disk),
      path_(std::move(path)),
      inode_(std::move(inode)),
      writable_(writable),
      queue_([this](SyncQueue::Sync& sync) { return sync_once(sync); }) {}

void SimFile::put(std::uint64_t position, ByteView bytes) {
  if (bytes.empty()) return;
  Inode& inode = *inode_;
  const std::uint64_t end = position + bytes.size();
  const std::uint64_t first_dirty = std::min<std::uint64_t>(position, inode.content.size());
  if (inode.content.size() < end) {
    if (inode.linked) disk_.used_ += end - inode.content.size();
    inode.content.resize(end);
  }
  std::copy(bytes.begin(), bytes.end(),
            inode.content.begin() + static_cast<std::ptrdiff_t>(position));
  for (std::uint64_t page = first_dirty / kPage; page <= (end - 1) / kPage; ++page) {
    inode.dirty.insert(page);
  }
}

Result<void> SimFile::write_at(std::uint64_t position, std::span<const ByteView> pieces) {
  if (!writable_) {
    return fail(Code::kInvalidArgument, fmt::format("{}: was opened for reading only", path_),
                EBADF);
  }
  DiskFault fault = disk_.judge(DiskOp::kWrite, path_, disk_.options_.write_error);
  if (fault == DiskFault::kKill || fault == DiskFault::kPowerLoss) {
    return disk_.refused(fault, DiskOp::kWrite, path_);
  }
  std::uint64_t total = 0;
  for (const ByteView& piece : pieces) total += piece.size();
  std::uint64_t may = total;
  if (fault != DiskFault::kNone && total > 0) {
    may = disk_.rng_.below(total);
    disk_.stats_.add(may > 0 ? "disk.write_cut_short" : "disk.write_refused");
  }
  const std::uint64_t size = inode_->content.size();
  if (inode_->linked && position + may > size) {
    const std::uint64_t room = disk_.room();
    if (position + may - size > room) {
      fault = DiskFault::kNoSpace;
      disk_.stats_.add("disk.no_space");
      may = size + room > position ? size + room - position : 0;
    }
  }
  std::uint64_t at = position;
  std::uint64_t left = may;
  for (const ByteView& piece : pieces) {
    const auto count = std::min<std::uint64_t>(piece.size(), left);
    put(at, piece.first(count));
    at += count;
    left -= count;
  }
  write_back_some();
  return disk_.refused(fault, DiskOp::kWrite, path_);
}

Task<Result<void>> SimFile::write_direct(std::uint64_t position, ByteView bytes) {
  const auto alive = shared_from_this();
  auto done = write_at(position, std::span<const ByteView>(&bytes, 1));
  co_await sleep_for(disk_.latency());
  co_return done;
}

void SimFile::write_back_some() {
  Inode& inode = *inode_;
  if (inode.dirty.empty() || !disk_.rng_.chance(disk_.options_.writeback)) return;
  auto victim = inode.dirty.lower_bound(disk_.rng_.below(*inode.dirty.rbegin() + 1));
  const ByteView now = Inode::page_of(inode.content, *victim);
  // The page stays dirty here: it may still be lost or torn when it is rewritten in place.
  if (!now.empty()) inode.store(*victim * kPage, now);
  disk_.stats_.add("disk.writeback");
}

Task<void> SimFile::write_out(std::uint64_t position, std::uint64_t count) {
  const auto alive = shared_from_this();
  co_await sleep_for(disk_.latency());
  Inode& inode = *inode_;
  const std::uint64_t end = position + count;
  for (auto page = inode.dirty.lower_bound(position / kPage); page != inode.dirty.end() && *page * kPage < end;
       ++page) {
    // As of every page that the system writes by itself: it stays dirty, and may be lost or torn still.
    const ByteView now = Inode::page_of(inode.content, *page);
    if (!now.empty() && disk_.rng_.chance(0.5)) inode.store(*page * kPage, now);
  }
  disk_.stats_.add("disk.write_out");
}

/// A read that failed may have come halfway: what is there then means nothing.
void SimFile::spoil(MutableBytes out) {
  std::ranges::fill(out.first(out.size() / 2), std::uint8_t{0xe5});
}

Task<Result<std::size_t>> SimFile::read_at(std::uint64_t position, MutableBytes out) {
  const auto alive = shared_from_this();
  const DiskFault fault = disk_.judge(DiskOp::kRead, path_, disk_.options_.read_error);
  if (fault != DiskFault::kNone || inode_->cold || disk_.rng_.chance(disk_.options_.cold_read)) {
    disk_.stats_.add("disk.cold_read");
    co_await sleep_for(disk_.latency());
    inode_->cold = false;
  }
  if (fault != DiskFault::kNone) spoil(out);
  PYRALOG_CO_TRY(disk_.refused(fault, DiskOp::kRead, path_));
  const Bytes& content = inode_->content;
  if (position >= content.size()) co_return std::size_t{0};
  const auto count = std::min<std::size_t>(out.size(), content.size() - position);
  std::copy_n(content.begin() + static_cast<std::ptrdiff_t>(position), count, out.begin());
  co_return count;
}

Task<Result<std::size_t>> SimFile::read_stored(std::uint64_t position, MutableBytes out) {
  const auto alive = shared_from_this();
  const DiskFault fault = disk_.judge(DiskOp::kRead, path_, disk_.options_.read_error);
  co_await sleep_for(disk_.latency());
  if (fault != DiskFault::kNone) spoil(out);
  PYRALOG_CO_TRY(disk_.refused(fault, DiskOp::kRead, path_));
  disk_.stats_.add("disk.stored_read");
  drop_pages(position / kPage, (position + out.size() + kPage - 1) / kPage);
  const Bytes found = copy(position, out.size());
  std::ranges::copy(found, out.begin());
  co_return found.size();
}

Task<Result<void>> SimFile::sync_once(SyncQueue::Sync& sync) {
  const auto turn = co_await sync_turn_.lock();
  sync.begin();
  if (sync_failed_) co_return fail(*sync_failed_);
  auto done = co_await store_dirty();
  if (!done) sync_failed_ = done.error();
  co_return done;
}

/// Whether a sync of the pages [first, last) gets to the device; after a failure they count as clean, as
/// Linux has it.
Task<Result<bool>> SimFile::begin_sync(std::uint64_t first, std::uint64_t last) {
  Inode& inode = *inode_;
  const DiskFault fault = disk_.judge(DiskOp::kSync, path_, disk_.options_.sync_error);
  const bool crash = fault == DiskFault::kKill || fault == DiskFault::kPowerLoss;
  if (!crash) {
    disk_.stats_.add("disk.sync");
    if (PYRALOG_PLANT("sim.sync_returns_early")) co_return false;
  }
  if (fault == DiskFault::kNone) co_return true;
  if (!crash) {
    sync_has_failed_ = true;
    inode.dirty.erase(inode.dirty.lower_bound(first), inode.dirty.lower_bound(last));
    if (last == UINT64_MAX) inode.shrunk_to = kNeverShrunk;
    if (disk_.options_.sync_error_drops > 0 && disk_.rng_.chance(disk_.options_.sync_error_drops)) {
      disk_.stats_.add("disk.pages_dropped_by_a_failed_sync");
      drop_pages(first, last);
    }
  }
  co_await sleep_for(disk_.latency());
  PYRALOG_CO_TRY(disk_.refused(fault, DiskOp::kSync, path_));
  co_return true;
}

Task<Result<void>> SimFile::store_dirty() {
  Inode& inode = *inode_;
  PYRALOG_CO_ASSIGN(const bool goes_on, co_await begin_sync(0, UINT64_MAX));
  if (!goes_on) co_return Result<void>{};
  const auto mine = inode.in_flight.emplace(inode.in_flight.end());
  mine->size = inode.content.size();
  mine->shrunk_to = std::exchange(inode.shrunk_to, kNeverShrunk);
  for (const std::uint64_t page : inode.dirty) {
    const ByteView now = Inode::page_of(inode.content, page);
    mine->pages.emplace(page, Bytes(now.begin(), now.end()));
  }
  inode.dirty.clear();
  co_await sleep_for(disk_.latency());
  inode.store(mine);
  inode.in_flight.erase(mine);
  co_return Result<void>{};
}

Task<Result<void>> SimFile::write_durably(std::uint64_t position, ByteView bytes) {
  const auto alive = shared_from_this();
  if (queue_.error()) co_return fail(*queue_.error());
  PYRALOG_CO_TRY(co_await write_direct(position, bytes));
  Inode& inode = *inode_;
  if (bytes.empty() || inode.shrunk_to != kNeverShrunk) co_return co_await sync();
  const std::uint64_t first = position / kPage;
  const std::uint64_t last = (position + bytes.size() - 1) / kPage + 1;
  auto goes_on = co_await begin_sync(first, last);
  if (goes_on && *goes_on) {
    // These pages and no others: the rest of the file may be lost as before.
    co_await sleep_for(disk_.latency());
    for (std::uint64_t page = first; page < last; ++page) {
      inode.store_now(page);
      inode.dirty.erase(page);
    }
  }
  const Result<void> synced = goes_on ? Result<void>{} : fail(goes_on.error());
  queue_.count(synced);
  co_return synced;
}

Task<Result<void>> SimFile::truncate(std::uint64_t size) {
  const auto alive = shared_from_this();
  PYRALOG_CO_TRY(
      co_await disk_.admit(DiskOp::kTruncate, path_, disk_.options_.metadata_error));
  Inode& inode = *inode_;
  const std::uint64_t before = inode.content.size();
  if (size < before) {
    inode.shrunk_to = std::min(inode.shrunk_to, size);
    inode.dirty.erase(inode.dirty.lower_bound((size + kPage - 1) / kPage), inode.dirty.end());
  }
  if (inode.linked) disk_.used_ = disk_.used_ + size - before;
  inode.content.resize(size);
  if (size > 0 && size != before) inode.dirty.insert((size - 1) / kPage);
  co_return Result<void>{};
}

Task<Result<void>> SimFile::allocate(std::uint64_t size) {
  const auto alive = shared_from_this();
  PYRALOG_CO_TRY(co_await disk_.admit(DiskOp::kWrite, path_, disk_.options_.write_error));
  Inode& inode = *inode_;
  const std::uint64_t before = inode.content.size();
  if (size <= before) co_return Result<void>{};
  if (inode.linked && size - before > disk_.room()) {
    disk_.stats_.add("disk.no_space");
    co_return disk_.refused(DiskFault::kNoSpace, DiskOp::kWrite, path_);
  }
  if (inode.linked) disk_.used_ += size - before;
  inode.content.resize(size);
  inode.dirty.insert((size - 1) / kPage);
  co_return Result<void>{};
}

void SimFile::drop_cache() {
  Inode& inode = *inode_;
  if (!inode.in_flight.empty()) return;
  disk_.rot(inode);
  drop_pages(0, UINT64_MAX);
  inode.cold = true;
}

/// Lets the clean ones among the pages [first, last) show what is stored.
void SimFile::drop_pages(std::uint64_t first, std::uint64_t last) {
  Inode& inode = *inode_;
  if (!inode.in_flight.empty()) return;
  for (std::uint64_t page = first; page < last && page * kPage < inode.content.size(); ++page) {
    if (inode.dirty.contains(page)) continue;
    const std::uint64_t start = page * kPage;
    const std::uint64_t end = std::min<std::uint64_t>(start + kPage, inode.content.size());
    const ByteView stored = Inode::page_of(inode.durable, page);
    for (std::uint64_t i = start; i < end; ++i) {
      inode.content[i] = i - start < stored.size() ? stored[i - start] : 0;
    }
  }
}

Result<void> SimFile::may_send() const {
  if (sync_has_failed_) {
    return fail(Code::kIo, path_ + ": a sync has failed, and what it was to write may be gone from memory");
  }
  const DiskFault fault = disk_.hook_ ? disk_.hook_(DiskOp::kSend, path_) : DiskFault::kNone;
  return disk_.refused(fault, DiskOp::kSend, path_);
}

Bytes SimFile::copy(std::uint64_t position, std::uint64_t count) const {
  const Bytes& content = inode_->content;
  if (position >= content.size()) return {};
  const auto end = std::min<std::uint64_t>(position + count, content.size());
  return {content.begin() + static_cast<std::ptrdiff_t>(position),
          content.begin() + static_cast<std::ptrdiff_t>(end)};
}

}  // namespace pyralog::io::sim
