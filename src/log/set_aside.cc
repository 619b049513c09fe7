#include "log/set_aside.h"

#include <fmt/format.h>

#include <algorithm>

#include "io/shard.h"

namespace pyralog::log {

namespace {
constexpr std::size_t kCopyBytes = 1u << 20;
}  // namespace

io::Task<Result<std::string>> free_damaged_name(io::Disk& disk, std::string path) {
  for (int n = 1;; ++n) {
    std::string name = n == 1 ? path + ".damaged" : fmt::format("{}.{}.damaged", path, n);
    PYRALOG_CO_ASSIGN(const bool taken, co_await disk.exists(name));
    if (!taken) co_return name;
  }
}

io::Task<Result<void>> keep_copy(io::Disk& disk, std::shared_ptr<io::File> from,
                                 std::uint64_t position, std::string path) {
  PYRALOG_CO_ASSIGN(const std::string name, co_await free_damaged_name(disk, std::move(path)));
  PYRALOG_CO_ASSIGN(const std::shared_ptr<io::File> to,
                    co_await disk.open(name, io::OpenMode::kCreate));
  Bytes buffer;
  for (std::uint64_t at = position; at < from->size(); at += buffer.size()) {
    buffer.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kCopyBytes, from->size() - at)));
    PYRALOG_CO_ASSIGN(const std::size_t got, co_await from->read_at(at, buffer));
    if (got != buffer.size()) co_return fail(Code::kIo, from->path() + ": it shrank meanwhile");
    PYRALOG_CO_TRY(to->write_at(at - position, buffer));
    co_await io::yield();
  }
  co_return co_await to->sync();
}

}  // namespace pyralog::log
