// Lets calls of a process to the operating system fail by rule, without the process knowing: loaded
// before the C library (LD_PRELOAD). Only for tests; tests/crash/faults.py speaks to it.
//
// IO_FAULTS names a control file of 64 KiB, which stays mapped: u32 number of the rules, then from byte
// 8 on their text up to a zero byte. A rule takes effect with the first call after the number has
// changed. One a line:
//
//   CALL[,CALL…] GLOB WHEN WHAT
//
// CALL is open, create, list, read, write, sync, truncate, allocate, rename, unlink, mkdir or sendfile.
// GLOB is matched with the whole path, `*` takes slashes; what is renamed goes by either name.
// WHEN is #N (the Nth such call), #N+ (that and all later ones) or ~P:SEED (each with probability P).
// WHAT is EIO, ENOSPC, EDQUOT, EMFILE, or `short`: half of what was asked for, as a disk answers that
// gets full just then; or `Nms`: the call does what it does, that much later, as on a slow disk. The
// first rule that fits decides; each counts its own calls.
//
// A sync that fails may lose what it was to make durable, as Linux does: the pages count as written and
// go some time. Here they go when the process asks for that (POSIX_FADV_DONTNEED): what a file that only
// grows had gained since its last sync turns to zeros. What has not gone yet a test lets go itself.
//
// What was done is in IO_FAULTS with `.log` behind it, a line each: `fault CALL PATH WHAT`,
// `lost INODE FROM TO PATH`, `gone INODE`, and `again PATH` where a descriptor whose sync has failed is
// synced once more.

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kControlBytes = 64 * 1024;
constexpr std::size_t kTextAt = 8;
constexpr int kMostDescriptors = 1 << 16;
constexpr int kShort = -1;  // in the place of an error number

template <typename F>
F* next_of(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}
// The next definition of the function that is being defined, looked up once.
#define NEXT(name) ([] { static auto* const next = next_of<decltype(name)>(#name); return next; }())

struct Rule {
  std::vector<std::string> calls;
  std::string glob;
  std::uint64_t nth = 0;  // 0: by chance
  bool all_later = false;
  double chance = 0.0;
  int what = 0;
  std::chrono::milliseconds late{0};
  std::string what_text;
  std::uint64_t seen = 0;
  std::mt19937_64 random;
};

/// What `Nms` says; 0 if it is something else.
std::chrono::milliseconds late_of(const std::string& what) {
  if (!what.ends_with("ms")) return {};
  return std::chrono::milliseconds(std::strtoul(what.c_str(), nullptr, 10));
}

int number_of(const std::string& what) {
  static const std::map<std::string, int> known = {{"EIO", EIO},       {"ENOSPC", ENOSPC},
                                                   {"EDQUOT", EDQUOT}, {"EMFILE", EMFILE},
                                                   {"short", kShort}};
  const auto found = known.find(what);
  if (found != known.end()) return found->second;
  std::fprintf(stderr, "io_faults: no such fault: %s\n", what.c_str());
  std::abort();
}

std::string path_of(int fd) {
  std::array<char, 4096> name;
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t size = ::readlink(link.c_str(), name.data(), name.size());
  return size > 0 ? std::string(name.data(), static_cast<std::size_t>(size)) : std::string();
}

// What one file had on the device, as far as one sees from here.
struct Lost {
  off_t from = 0;
  off_t to = 0;
};

class Faults {
 public:
  static Faults& all() {
    static Faults* const made = new Faults();  // never destroyed: calls come until the very end
    return *made;
  }

  bool on() const { return control_ != nullptr; }

  /// 0, an error number, or kShort; returns late if the call is to be.
  int judge(const char* call, const std::string& path) {
    std::unique_lock held(mutex_);
    refresh();
    for (Rule& rule : rules_) {
      if (!fits(rule, call, path)) continue;
      const std::uint64_t turn = ++rule.seen;
      const bool due = rule.nth == 0
                           ? std::uniform_real_distribution<>(0.0, 1.0)(rule.random) < rule.chance
                           : turn == rule.nth || (rule.all_later && turn > rule.nth);
      if (!due) continue;
      say("fault " + std::string(call) + " " + path + " " + rule.what_text);
      const auto late = rule.late;
      const int what = rule.what;
      held.unlock();  // others are not to wait with it
      // The delay is the fault itself: a disk that is slow to answer this call.
      if (late.count() > 0) std::this_thread::sleep_for(late);
      return what;
    }
    return 0;
  }

  /// Whether some rule is about such calls.
  bool has_rule_for(const char* call, const std::string& path) {
    const std::lock_guard held(mutex_);
    refresh();
    return std::ranges::any_of(rules_, [&](const Rule& rule) { return fits(rule, call, path); });
  }

  /// An open file is known from now on; what it holds now counts as being on the device.
  void opened(int fd) {
    set_failed(fd, false);
    struct stat seen {};
    if (::fstat(fd, &seen) != 0 || !S_ISREG(seen.st_mode)) return;
    const std::lock_guard held(mutex_);
    if (seen.st_size == 0) {
      synced_[seen.st_ino] = 0;
      // A new file, by a number that was used before.
      if (lost_.erase(seen.st_ino) > 0) say("gone " + std::to_string(seen.st_ino));
    } else {
      synced_.try_emplace(seen.st_ino, seen.st_size);
    }
  }

  void synced(int fd, off_t size) {
    struct stat seen {};
    if (::fstat(fd, &seen) != 0 || !S_ISREG(seen.st_mode)) return;
    const std::lock_guard held(mutex_);
    synced_[seen.st_ino] = std::max(synced_[seen.st_ino], size);
  }

  void cut(int fd, off_t size) {
    struct stat seen {};
    if (::fstat(fd, &seen) != 0 || !S_ISREG(seen.st_mode)) return;
    const std::lock_guard held(mutex_);
    synced_[seen.st_ino] = std::min(synced_[seen.st_ino], size);
    if (const auto at = lost_.find(seen.st_ino); at != lost_.end()) {
      at->second.to = std::min(at->second.to, size);
    }
  }

  /// A sync was made to fail.
  void sync_failed(int fd, const std::string& path) {
    set_failed(fd, true);
    struct stat seen {};
    if (::fstat(fd, &seen) != 0 || !S_ISREG(seen.st_mode)) return;
    const std::lock_guard held(mutex_);
    const auto known = synced_.find(seen.st_ino);
    if (known == synced_.end() || known->second >= seen.st_size) return;
    Lost& lost = lost_[seen.st_ino];
    lost = {lost.to > 0 ? std::min(lost.from, known->second) : known->second, seen.st_size};
    any_lost_ = true;
    tell_lost(seen.st_ino, lost, path);
    // The system takes these pages for written.
    known->second = seen.st_size;
  }

  /// What is written once more is there again.
  void wrote(int fd, off_t at, ssize_t size) {
    struct stat seen {};
    if (size <= 0 || !any_lost_ || ::fstat(fd, &seen) != 0) return;
    const std::lock_guard held(mutex_);
    const auto found = lost_.find(seen.st_ino);
    if (found == lost_.end()) return;
    Lost& lost = found->second;
    const off_t end = at + size;
    if (at >= lost.to || end <= lost.from) return;
    if (at <= lost.from) {
      lost.from = std::min(end, lost.to);
    } else if (end >= lost.to) {
      lost.to = at;
    }
    tell_lost(seen.st_ino, lost, path_of(fd));
  }

  /// The process lets pages of the file go.
  void dropped(int fd) {
    struct stat seen {};
    if (::fstat(fd, &seen) != 0) return;
    const std::lock_guard held(mutex_);
    const auto at = lost_.find(seen.st_ino);
    if (at == lost_.end()) return;
    const Lost lost = at->second;
    lost_.erase(at);
    say("gone " + std::to_string(seen.st_ino));
    if (lost.to <= lost.from) return;
    // The descriptor may be one for reading only.
    const std::string name = "/proc/self/fd/" + std::to_string(fd);
    const long writable = ::syscall(SYS_openat, AT_FDCWD, name.c_str(), O_RDWR | O_CLOEXEC, 0);
    if (writable < 0) return;
    constexpr int kHole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    (void)::syscall(SYS_fallocate, writable, kHole, lost.from, lost.to - lost.from);
    ::syscall(SYS_close, writable);
  }

  bool has_failed(int fd) const { return in_bounds(fd) && failed_[static_cast<std::size_t>(fd)]; }
  void set_failed(int fd, bool failed) {
    if (in_bounds(fd)) failed_[static_cast<std::size_t>(fd)] = failed;
  }
  void tell_again(const std::string& path) {
    const std::lock_guard held(mutex_);
    say("again " + path);
  }

 private:
  Faults() {
    const char* const name = std::getenv("IO_FAULTS");
    if (name == nullptr) return;
    const long fd = ::syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
    const std::string told = std::string(name) + ".log";
    log_ = ::syscall(SYS_openat, AT_FDCWD, told.c_str(),
                     O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0 || log_ < 0) {
      std::fprintf(stderr, "io_faults: %s cannot be opened\n", name);
      std::abort();
    }
    void* const mapped =
        ::mmap(nullptr, kControlBytes, PROT_READ, MAP_SHARED, static_cast<int>(fd), 0);
    if (mapped == MAP_FAILED) std::abort();
    ::syscall(SYS_close, fd);
    control_ = static_cast<const char*>(mapped);
  }

  static bool fits(const Rule& rule, const char* call, const std::string& path) {
    return std::ranges::find(rule.calls, call) != rule.calls.end() &&
           fnmatch(rule.glob.c_str(), path.c_str(), 0) == 0;
  }
  static bool in_bounds(int fd) { return fd >= 0 && fd < kMostDescriptors; }

  void refresh() {
    const std::uint32_t number =
        reinterpret_cast<const std::atomic<std::uint32_t>*>(control_)->load();
    if (number == number_) return;
    number_ = number;
    rules_.clear();
    std::istringstream lines(std::string(control_ + kTextAt, strnlen(control_ + kTextAt, kControlBytes - kTextAt)));
    for (std::string line; std::getline(lines, line);) {
      Rule rule;
      std::string calls, when;
      std::istringstream words(line);
      if (!(words >> calls >> rule.glob >> when >> rule.what_text)) continue;
      std::istringstream each(calls);
      for (std::string call; std::getline(each, call, ',');) rule.calls.push_back(call);
      rule.late = late_of(rule.what_text);
      if (rule.late.count() == 0) rule.what = number_of(rule.what_text);
      if (when.starts_with('#')) {
        rule.nth = std::strtoull(when.c_str() + 1, nullptr, 10);
        rule.all_later = when.ends_with('+');
      } else {
        char* end = nullptr;
        rule.chance = std::strtod(when.c_str() + 1, &end);
        rule.random.seed(*end == ':' ? std::strtoull(end + 1, nullptr, 10) : 0);
      }
      rules_.push_back(std::move(rule));
    }
  }

  void tell_lost(ino_t inode, const Lost& lost, const std::string& path) const {
    say("lost " + std::to_string(inode) + " " + std::to_string(lost.from) + " " +
        std::to_string(lost.to) + " " + path);
  }

  void say(std::string line) const {
    line += '\n';
    (void)::syscall(SYS_write, log_, line.data(), line.size());
  }

  const char* control_ = nullptr;
  long log_ = -1;
  std::mutex mutex_;
  std::uint32_t number_ = 0;
  std::vector<Rule> rules_;
  std::map<ino_t, off_t> synced_;
  std::map<ino_t, Lost> lost_;
  std::atomic<bool> any_lost_ = false;
  std::array<std::atomic<bool>, kMostDescriptors> failed_{};
};

/// 0, an error number, or kShort, for a call by descriptor. errno stays as it was.
int judge_fd(const char* call, int fd) {
  Faults& faults = Faults::all();
  if (!faults.on()) return 0;
  const int before = errno;
  const std::string path = path_of(fd);
  const int verdict = path.starts_with('/') ? faults.judge(call, path) : 0;
  errno = before;
  return verdict;
}

/// Whether some rule is about such calls of this descriptor.
bool is_meant(const char* call, int fd) {
  Faults& faults = Faults::all();
  return faults.on() && faults.has_rule_for(call, path_of(fd));
}

int judge_path(const char* call, const char* path) {
  Faults& faults = Faults::all();
  if (!faults.on() || path == nullptr) return 0;
  const int before = errno;
  const int verdict = faults.judge(call, path);
  errno = before;
  return verdict;
}

/// True if the call is to fail; errno then says why.
bool fails(int verdict) {
  if (verdict == 0) return false;
  errno = verdict == kShort ? EIO : verdict;
  return true;
}

/// Bytes that a transfer may do: all, half of it, or none (errno says why).
std::size_t allowed(int verdict, std::size_t wanted) {
  if (verdict == 0) return wanted;
  if (verdict == kShort && wanted >= 2) return wanted / 2;
  (void)fails(verdict);
  return 0;
}

std::size_t total_of(const iovec* pieces, int count) {
  std::size_t total = 0;
  for (int i = 0; i < count; ++i) total += pieces[i].iov_len;
  return total;
}

/// The first `bytes` of some pieces.
std::vector<iovec> cut_to(const iovec* pieces, int count, std::size_t bytes) {
  std::vector<iovec> out;
  for (int i = 0; i < count && bytes > 0; ++i) {
    iovec piece = pieces[i];
    piece.iov_len = std::min(piece.iov_len, bytes);
    bytes -= piece.iov_len;
    out.push_back(piece);
  }
  return out;
}

template <typename Next>
int open_by(Next* next, const char* path, int flags, mode_t mode) {
  Faults& faults = Faults::all();
  const bool makes = (flags & O_CREAT) != 0;
  if (fails(judge_path("open", path))) return -1;
  if (makes && fails(judge_path("create", path))) return -1;
  const int fd = next(path, flags, mode);
  if (fd >= 0 && faults.on()) {
    const int before = errno;
    faults.opened(fd);
    errno = before;
  }
  return fd;
}

template <typename Next>
int sync_by(Next* next, int fd) {
  Faults& faults = Faults::all();
  if (!faults.on()) return next(fd);
  const std::string path = path_of(fd);
  if (faults.has_failed(fd)) faults.tell_again(path);
  if (const int verdict = judge_fd("sync", fd); verdict != 0) {
    faults.sync_failed(fd, path);
    errno = verdict == kShort ? EIO : verdict;
    return -1;
  }
  struct stat seen {};
  const off_t size = ::fstat(fd, &seen) == 0 ? seen.st_size : 0;
  const int done = next(fd);
  if (done == 0) faults.synced(fd, size);
  return done;
}

template <typename Next, typename... Args>
ssize_t write_by(Next* next, int fd, const iovec* pieces, int count, Args... args) {
  const std::size_t wanted = total_of(pieces, count);
  const std::size_t most = allowed(judge_fd("write", fd), wanted);
  if (most == 0 && wanted > 0) return -1;
  if (most == wanted) return next(fd, pieces, count, args...);
  const std::vector<iovec> part = cut_to(pieces, count, most);
  return next(fd, part.data(), static_cast<int>(part.size()), args...);
}

template <typename Next>
int truncate_by(Next* next, int fd, off_t size) {
  if (fails(judge_fd("truncate", fd))) return -1;
  const int done = next(fd, size);
  if (done == 0 && Faults::all().on()) Faults::all().cut(fd, size);
  return done;
}

}  // namespace

extern "C" {

#define OPEN(name)                                                  \
  int name(const char* path, int flags, ...) {                      \
    mode_t mode = 0;                                                \
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {                     \
      va_list rest;                                                 \
      va_start(rest, flags);                                        \
      mode = va_arg(rest, mode_t);                                  \
      va_end(rest);                                                 \
    }                                                               \
    return open_by(NEXT(name), path, flags, mode);                  \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  Faults::all().set_failed(fd, false);
  return NEXT(close)(fd);
}

DIR* opendir(const char* path) {
  if (fails(judge_path("list", path))) return nullptr;
  return NEXT(opendir)(path);
}

ssize_t read(int fd, void* out, std::size_t size) {
  const std::size_t most = allowed(judge_fd("read", fd), size);
  return most == 0 && size > 0 ? -1 : NEXT(read)(fd, out, most);
}
#define PREAD(name, off_type)                                        \
  ssize_t name(int fd, void* out, std::size_t size, off_type at) {   \
    const std::size_t most = allowed(judge_fd("read", fd), size); \
    return most == 0 && size > 0 ? -1 : NEXT(name)(fd, out, most, at); \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

// With RWF_NOWAIT nobody waits for a device, so none can fail: where one is to, the caller has to ask
// again without.
#define PREADV2(name, off_type)                                                     \
  ssize_t name(int fd, const iovec* pieces, int count, off_type at, int flags) {    \
    if ((flags & RWF_NOWAIT) != 0 ? is_meant("read", fd) : fails(judge_fd("read", fd))) { \
      if ((flags & RWF_NOWAIT) != 0) errno = EAGAIN;                                \
      return -1;                                                                    \
    }                                                                               \
    return NEXT(name)(fd, pieces, count, at, flags);                                \
  }
PREADV2(preadv2, off_t)
PREADV2(preadv64v2, off64_t)

ssize_t write(int fd, const void* from, std::size_t size) {
  const std::size_t most = allowed(judge_fd("write", fd), size);
  return most == 0 && size > 0 ? -1 : NEXT(write)(fd, from, most);
}
#define PWRITE(name, off_type)                                              \
  ssize_t name(int fd, const void* from, std::size_t size, off_type at) {   \
    const std::size_t most = allowed(judge_fd("write", fd), size);    \
    if (most == 0 && size > 0) return -1;                                   \
    const ssize_t done = NEXT(name)(fd, from, most, at);                    \
    Faults::all().wrote(fd, at, done);                                      \
    return done;                                                            \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
#define PWRITEV(name, off_type)                                             \
  ssize_t name(int fd, const iovec* pieces, int count, off_type at) {       \
    const ssize_t done = write_by(NEXT(name), fd, pieces, count, at);       \
    Faults::all().wrote(fd, at, done);                                      \
    return done;                                                            \
  }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)
ssize_t writev(int fd, const iovec* pieces, int count) {
  return write_by(NEXT(writev), fd, pieces, count);
}

int fsync(int fd) { return sync_by(NEXT(fsync), fd); }
int fdatasync(int fd) { return sync_by(NEXT(fdatasync), fd); }
int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags) {
  return fails(judge_fd("sync", fd)) ? -1 : NEXT(sync_file_range)(fd, at, size, flags);
}

int ftruncate(int fd, off_t size) noexcept { return truncate_by(NEXT(ftruncate), fd, size); }
int ftruncate64(int fd, off64_t size) noexcept { return truncate_by(NEXT(ftruncate64), fd, size); }

int fallocate(int fd, int mode, off_t at, off_t size) {
  return fails(judge_fd("allocate", fd)) ? -1 : NEXT(fallocate)(fd, mode, at, size);
}
int fallocate64(int fd, int mode, off64_t at, off64_t size) {
  return fails(judge_fd("allocate", fd)) ? -1 : NEXT(fallocate64)(fd, mode, at, size);
}

int posix_fadvise(int fd, off_t at, off_t size, int advice) noexcept {
  const int done = NEXT(posix_fadvise)(fd, at, size, advice);
  if (advice == POSIX_FADV_DONTNEED && Faults::all().on()) Faults::all().dropped(fd);
  return done;
}

int rename(const char* from, const char* to) noexcept {
  if (fails(judge_path("rename", from)) || fails(judge_path("rename", to))) return -1;
  return NEXT(rename)(from, to);
}
int unlink(const char* path) noexcept {
  return fails(judge_path("unlink", path)) ? -1 : NEXT(unlink)(path);
}
int unlinkat(int dir, const char* name, int flags) noexcept {
  const std::string path = name[0] == '/' || dir == AT_FDCWD ? name : path_of(dir) + "/" + name;
  return fails(judge_path("unlink", path.c_str())) ? -1 : NEXT(unlinkat)(dir, name, flags);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return fails(judge_path("mkdir", path)) ? -1 : NEXT(mkdir)(path, mode);
}

#define SENDFILE(name, off_type)                                                \
  ssize_t name(int out, int in, off_type* at, std::size_t size) noexcept {      \
    const std::size_t most = allowed(judge_fd("sendfile", in), size);    \
    return most == 0 && size > 0 ? -1 : NEXT(name)(out, in, at, most);          \
  }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

/// What leaves a file counts as its sending; from a pipe to a socket no file is asked.
ssize_t splice(int in, off64_t* in_at, int out, off64_t* out_at, std::size_t size,
               unsigned flags) {
  const std::size_t most = in_at == nullptr ? size : allowed(judge_fd("sendfile", in), size);
  return most == 0 && size > 0 ? -1 : NEXT(splice)(in, in_at, out, out_at, most, flags);
}

}  // extern "C"
