#include "log/set_aside.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/plant.h"
#include "io/shard.h"

namespace pyralog::log {

namespace {
constexpr std::size_t kCopyBytes = 1u << 20;
constexpr std::string_view kDamaged = ".damaged";

std::string damaged_name(const std::string& path, int n) {
  return n == 1 ? fmt::format("{}{}", path, kDamaged) : fmt::format("{}.{}{}", path, n, kDamaged);
}

/// Calls `piece` with what `from` holds from `position` on, a piece at a time, until it returns false.
template <typename F>
io::Task<Result<bool>> for_each_piece(std::shared_ptr<io::File> from, std::uint64_t position, F piece) {
  Bytes buffer;
  for (std::uint64_t at = position; at < from->size(); at += buffer.size()) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBytes, from->size() - at)));
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await from->read_at(at, buffer));
    if (got != buffer.size()) co_return fail(Code::kIo, from->path() + ": it shrank meanwhile");
    PYRALOG_CO_ASSIGN(const bool more, co_await piece(at - position, ByteView(buffer)));
    if (!more) co_return false;
    co_await io::yield();
  }
  co_return true;
}

/// Whether the file `name` holds what would be copied, and is durable.
io::Task<bool> is_that_copy(io::Disk& disk, std::string name, std::shared_ptr<io::File> from,
                            std::uint64_t position) {
  if (PYRALOG_PLANT("log.copy_at_each_try")) co_return false;
  const auto opened = co_await disk.open(std::move(name), io::OpenMode::kReadWrite);
  if (!opened || (*opened)->size() != from->size() - position) co_return false;
  const std::shared_ptr<io::File> copy = *opened;
  Bytes other;
  const auto same = co_await for_each_piece(
      std::move(from), position, [&](std::uint64_t at, ByteView bytes) -> io::Task<Result<bool>> {
        other.resize(bytes.size());
        PYRALOG_CO_ASSIGN(const std::size_t got, co_await copy->read_at(at, other));
        co_return got == bytes.size() && std::ranges::equal(other, bytes);
      });
  co_return same && *same && (co_await copy->sync()).has_value();
}

io::Task<Result<void>> copy_to(std::shared_ptr<io::File> to, std::shared_ptr<io::File> from,
                               std::uint64_t position) {
  const auto copied = co_await for_each_piece(
      std::move(from), position, [&](std::uint64_t at, ByteView bytes) -> io::Task<Result<bool>> {
        PYRALOG_CO_TRY(to->write_at(at, bytes));
        co_return true;
      });
  if (!copied) co_return fail(copied.error());
  co_return co_await to->sync();
}

}  // namespace

std::optional<std::string_view> path_of_damaged(std::string_view name) {
  if (!name.ends_with(kDamaged)) return std::nullopt;
  name.remove_suffix(kDamaged.size());
  const std::size_t digits = name.find_last_not_of("0123456789");
  const bool numbered = digits != name.npos && digits + 1 < name.size() && name[digits] == '.';
  return numbered ? name.substr(0, digits) : name;
}

io::Task<Result<std::string>> free_damaged_name(io::Disk& disk, std::string path) {
  for (int n = 1;; ++n) {
    std::string name = damaged_name(path, n);
    PYRALOG_CO_ASSIGN(const bool taken, co_await disk.exists(name));
    if (!taken) co_return name;
  }
}

io::Task<Result<void>> keep_copy(io::Disk& disk, std::shared_ptr<io::File> from,
                                 std::uint64_t position, std::string path) {
  std::string name;
  for (int n = 1;; ++n) {
    name = damaged_name(path, n);
    PYRALOG_CO_ASSIGN(const bool taken, co_await disk.exists(name));
    if (!taken) break;
    if (co_await is_that_copy(disk, name, from, position)) co_return Result<void>{};
  }
  const std::uint64_t bytes = from->size() - position;
  const auto space = co_await disk.space(io::parent_dir(path));
  if (space && space->free_bytes < bytes && !PYRALOG_PLANT("log.copy_without_room")) {
    co_return fail(Code::kExhausted,
                   fmt::format("{}: {} bytes of {} are to be kept before they are cut off, and {} are "
                               "free; free space, or move what is there to another disk",
                               name, bytes, from->path(), space->free_bytes),
                   ENOSPC);
  }
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> to, co_await disk.open(name, io::OpenMode::kCreate));
  auto copied = co_await copy_to(to, std::move(from), position);
  if (copied) co_return copied;
  to.reset();
  // The next try begins anew, and there may be very many.
  if (!PYRALOG_PLANT("log.leave_half_a_copy")) (void)co_await disk.remove(name);
  co_return copied;
}

}  // namespace pyralog::log
