#include "io/posix/posix_disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "io/pools.h"
#include "io/posix/errors.h"
#include "io/posix/posix_file_system.h"
#include "io/sync_queue.h"

namespace pyralog::io::posix {

Task<Result<std::shared_ptr<File>>> PosixDisk::open(std::string path, OpenMode mode) {
  using Opened = Result<std::pair<int, std::uint64_t>>;
  PYRALOG_CO_ASSIGN(const auto opened, co_await run_in(Pool::kDisk, [&path, mode]() -> Opened {
                      return open_file(path, mode);
                    }));
  std::shared_ptr<File> file =
      std::make_shared<PosixFile>(std::move(path), opened.first, opened.second);
  co_return file;
}

Task<std::vector<Result<void>>> PosixDisk::sync(std::vector<std::shared_ptr<File>> files) {
  return sync_all(std::move(files));
}

Task<Result<void>> PosixDisk::make_dirs(std::string path) {
  PYRALOG_CO_ASSIGN(const std::vector<std::string> parents,
                    co_await run_in(Pool::kDisk, [&path] { return make_directories(path); }));
  if (parents.empty()) co_return Result<void>{};
  co_return co_await run_in(Pool::kSync, [&parents]() -> Result<void> {
    for (const std::string& parent : parents) PYRALOG_TRY(sync_directory(parent));
    return {};
  });
}

Task<Result<void>> PosixDisk::sync_dir(std::string path) {
  co_return co_await run_in(Pool::kSync, [&path] { return sync_directory(path); });
}

Task<Result<std::vector<DirEntry>>> PosixDisk::list(std::string path) {
  co_return co_await run_in(Pool::kDisk, [&path] { return list_directory(path); });
}

Task<Result<void>> PosixDisk::rename(std::string from, std::string to) {
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<void> {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      return fail(system_error(errno, from, fmt::format("rename to {}", to)));
    }
    return {};
  });
}

Task<Result<void>> PosixDisk::remove(std::string path) {
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<void> {
    if (::unlink(path.c_str()) != 0) return fail(system_error(errno, path, "remove"));
    return {};
  });
}

Task<Result<void>> PosixDisk::remove_tree(std::string path) {
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<void> {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    if (error) return fail(system_error(error.value(), path, "remove"));
    return {};
  });
}

Task<Result<bool>> PosixDisk::exists(std::string path) {
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<bool> {
    if (::access(path.c_str(), F_OK) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return fail(system_error(errno, path, "access"));
  });
}

namespace {
class PosixLock final : public FileLock {
 public:
  explicit PosixLock(int fd) : fd_(fd) {}
  ~PosixLock() override { ::close(fd_); }

 private:
  int fd_;
};
}  // namespace

Task<Result<std::unique_ptr<FileLock>>> PosixDisk::lock(std::string path) {
  using Locked = Result<std::unique_ptr<FileLock>>;
  co_return co_await run_in(Pool::kDisk, [&]() -> Locked {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return fail(system_error(errno, path, "open"));
    auto lock = std::make_unique<PosixLock>(fd);
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK) return fail(system_error(errno, path, "lock"));
    return fail(Code::kAlreadyExists,
                fmt::format("{}: is locked by another process; stop it first", path));
  });
}

Task<Result<SpaceInfo>> PosixDisk::space(std::string path) {
  co_return co_await run_in(Pool::kDisk, [&]() -> Result<SpaceInfo> {
    struct statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return fail(system_error(errno, path, "statvfs"));
    return SpaceInfo{info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize};
  });
}

std::string PosixDisk::boot_id() {
  static const std::string id = read_boot_id();
  return id;
}

}  // namespace pyralog::io::posix
