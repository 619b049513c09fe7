#include "io/posix/posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "io/posix/errors.h"

namespace pyralog::io::posix {

Result<std::pair<int, std::uint64_t>> open_file(const std::string& path, OpenMode mode) {
  int flags = O_CLOEXEC;
  switch (mode) {
    case OpenMode::kRead: flags |= O_RDONLY; break;
    case OpenMode::kReadWrite: flags |= O_RDWR; break;
    case OpenMode::kCreate: flags |= O_RDWR | O_CREAT | O_EXCL; break;
    case OpenMode::kOpenOrCreate: flags |= O_RDWR | O_CREAT; break;
  }
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags, 0644);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return fail(system_error(errno, path, "open"));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    const int number = S_ISDIR(info.st_mode) ? EISDIR : errno == 0 ? EINVAL : errno;
    ::close(fd);
    return fail(system_error(number, path, "open"));
  }
  return std::pair{fd, static_cast<std::uint64_t>(info.st_size)};
}

Result<std::vector<std::string>> make_directories(const std::string& path) {
  std::vector<std::string> parents;
  std::size_t at = 0;
  while (at < path.size()) {
    at = std::min(path.find('/', at + 1), path.size());
    const std::string part = path.substr(0, at);
    if (part.empty() || part == "/") continue;
    if (::mkdir(part.c_str(), 0755) == 0) {
      parents.push_back(parent_dir(part));
    } else if (errno != EEXIST) {
      return fail(system_error(errno, part, "make directory"));
    }
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return fail(system_error(errno, path, "stat"));
  if (!S_ISDIR(info.st_mode)) {
    return fail(Code::kAlreadyExists, fmt::format("{}: is no directory", path), ENOTDIR);
  }
  return parents;
}

Result<void> sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail(system_error(errno, path, "open directory"));
  const int number = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (number != 0) return fail(system_error(number, path, "sync directory"));
  return {};
}

Result<std::vector<DirEntry>> list_directory(const std::string& path) {
  DIR* const dir = ::opendir(path.c_str());
  if (dir == nullptr) return fail(system_error(errno, path, "list"));
  std::vector<DirEntry> entries;
  errno = 0;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat info {};
    if (::fstatat(::dirfd(dir), name.c_str(), &info, 0) == 0) {
      const bool is_directory = S_ISDIR(info.st_mode);
      entries.push_back(
          {name, is_directory, is_directory ? 0 : static_cast<std::uint64_t>(info.st_size)});
    } else if (errno != ENOENT) {
      const int number = errno;
      ::closedir(dir);
      return fail(system_error(number, path + "/" + name, "stat"));
    }
    // What is gone again by now is not listed.
    errno = 0;
  }
  const int number = errno;
  ::closedir(dir);
  if (number != 0) return fail(system_error(number, path, "list"));
  std::sort(entries.begin(), entries.end(),
            [](const DirEntry& a, const DirEntry& b) { return a.name < b.name; });
  return entries;
}

std::string read_boot_id() {
  const int fd = ::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "unknown";
  std::array<char, 64> text{};
  const ssize_t count = ::read(fd, text.data(), text.size());
  ::close(fd);
  std::string id(text.data(), count > 0 ? static_cast<std::size_t>(count) : 0);
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

}  // namespace pyralog::io::posix
