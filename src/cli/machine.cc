#include "cli/machine.h"

#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>

#include "base/plant.h"
#include "cli/http_get.h"
#include "io/disk.h"

namespace pyralog::cli {

namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool open() const { return fd_ >= 0; }

 private:
  int fd_;
};

std::string words_of(int error) {
  return std::strerror(error);  // the command runs on one thread
}

Duration now_by(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + Duration(time.tv_nsec);
}

std::optional<std::string> text_of(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::int64_t number_in(const std::string& path, std::int64_t otherwise) {
  const auto text = text_of(path);
  std::int64_t number = 0;
  if (!text ||
      std::from_chars(text->data(), text->data() + text->size(), number).ec != std::errc()) {
    return otherwise;
  }
  return number;
}

/// The names of what statfs() numbers, from the kernel's linux/magic.h.
std::string fs_name(std::uint64_t type) {
  struct Name {
    std::uint64_t type;
    const char* name;
  };
  static constexpr Name kNames[] = {
      {0xEF53, "ext4"},         {0x58465342, "xfs"},     {0x9123683E, "btrfs"},
      {0x2FC12FC1, "zfs"},      {0xF2F52010, "f2fs"},    {0x01021994, "tmpfs"},
      {0x858458F6, "ramfs"},    {0x794C7630, "overlay"}, {0x6969, "nfs"},
      {0xFF534D42, "cifs"},     {0xFE534D42, "smb2"},    {0x65735546, "fuse"},
      {0x01021997, "9p"},       {0x00C36400, "ceph"},    {0x19830326, "fhgfs"},
      {0xCA451A4E, "bcachefs"}, {0x3153464A, "jfs"},     {0x6A656A63, "virtiofs"}};
  for (const Name& each : kNames) {
    if (each.type == type) return each.name;
  }
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, type, 16);
  return "0x" + std::string(digits, end.ptr);
}

/// A file that nobody else can see and that nothing is left of; sets errno.
int nameless_file(const std::string& dir) {
  if (PYRALOG_PLANT("cli.doctor_leaves_a_file")) {
    return ::open((dir + "/doctor").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  }
  const int fd = ::open(dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  // By this ending a first start knows what it may pass over, should nobody come to remove it.
  std::string path = dir + "/.pyralog-doctor-XXXXXX.tmp";
  const int named = ::mkostemps(path.data(), 4, O_CLOEXEC);
  if (named >= 0) ::unlink(path.c_str());
  return named;
}

void time_syncs(Machine::Disk& disk) {
  const Fd file(nameless_file(disk.probed));
  if (!file.open()) {
    disk.sync_error = "cannot make a file there: " + words_of(errno);
    return;
  }
  static constexpr std::size_t kPage = 4096;
  const std::vector<char> page(kPage, 'x');
  const Duration end = now_by(CLOCK_MONOTONIC) + kMaxSyncTime;
  for (int i = 0; i < kMaxSyncs && now_by(CLOCK_MONOTONIC) < end; ++i) {
    const Duration begin = now_by(CLOCK_MONOTONIC);
    const ssize_t wrote = ::write(file.get(), page.data(), page.size());
    if (wrote != static_cast<ssize_t>(kPage)) {
      disk.sync_error = "a write failed: " + words_of(wrote < 0 ? errno : ENOSPC);
      return;
    }
    if (::fdatasync(file.get()) != 0) {
      disk.sync_error = "a sync failed: " + words_of(errno);
      return;
    }
    disk.syncs.push_back(now_by(CLOCK_MONOTONIC) - begin);
  }
}

/// True if a server holds the lock of the data directory. Leaves no lock.
bool is_locked(const std::string& data_dir) {
  const Fd lock(::open((data_dir + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  return lock.open() && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Machine::Disk look_at_disk(const std::string& data_dir) {
  Machine::Disk disk;
  disk.data_dir = data_dir;
  disk.probed = data_dir;
  struct stat info{};
  while (::stat(disk.probed.c_str(), &info) != 0) {
    const std::string above = io::parent_dir(disk.probed);
    if (errno != ENOENT || above == disk.probed) {
      disk.error = words_of(errno);
      return disk;
    }
    disk.probed = above;
  }
  if (!S_ISDIR(info.st_mode)) {
    disk.error = disk.probed + " is no directory";
    return disk;
  }
  struct statvfs space{};
  struct statfs kind{};
  if (::statvfs(disk.probed.c_str(), &space) != 0 || ::statfs(disk.probed.c_str(), &kind) != 0) {
    disk.error = words_of(errno);
    return disk;
  }
  disk.free_bytes = space.f_bavail * space.f_frsize;
  disk.total_bytes = space.f_blocks * space.f_frsize;
  disk.free_files = space.f_favail;
  disk.total_files = space.f_files;
  disk.fs_name = fs_name(static_cast<std::uint32_t>(kind.f_type));
  disk.in_use = is_locked(data_dir);
  time_syncs(disk);
  return disk;
}

Machine::Memory look_at_memory() {
  Machine::Memory memory;
  struct sysinfo info{};
  if (::sysinfo(&info) == 0) {
    memory.total_bytes = std::uint64_t{info.totalram} * info.mem_unit;
    memory.swap_bytes = std::uint64_t{info.totalswap} * info.mem_unit;
  }
  memory.limit_bytes = memory_limit(text_of("/proc/self/cgroup").value_or(""), text_of);
  memory.swappiness = number_in("/proc/sys/vm/swappiness", -1);
  const std::string pages = "/sys/kernel/mm/transparent_hugepage/";
  memory.huge_pages = chosen_word(text_of(pages + "enabled").value_or(""));
  memory.huge_page_defrag = chosen_word(text_of(pages + "defrag").value_or(""));
  return memory;
}

Machine::Cpu look_at_cpu() {
  Machine::Cpu cpu;
  __builtin_cpu_init();
  cpu.crc32 = __builtin_cpu_supports("sse4.2") != 0;
  cpu.carryless_multiply = __builtin_cpu_supports("pclmul") != 0;
  if (__builtin_cpu_supports("x86-64-v2") != 0) cpu.level = 2;
  if (__builtin_cpu_supports("x86-64-v3") != 0) cpu.level = 3;
  if (__builtin_cpu_supports("x86-64-v4") != 0) cpu.level = 4;
  return cpu;
}

/// Binds, as a listener would, without listening: nobody can connect meanwhile.
int try_port(const io::Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found) !=
      0) {
    return -1;
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, ::freeaddrinfo);
  const Fd socket(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (!socket.open() || ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0) {
    return errno;
  }
  return 0;
}

std::uint64_t open_file_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::uint64_t{limit.rlim_max} : 0;
}

bool names_memory(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "memory") return true;
  }
  return false;
}

}  // namespace

Machine look_at_machine(const std::string& data_dir, std::vector<Machine::Port> ports) {
  Machine machine;
  const Duration wall = now_by(CLOCK_REALTIME);
  const Duration steady = now_by(CLOCK_MONOTONIC);
  machine.disk = look_at_disk(data_dir);
  machine.open_files = open_file_limit();
  machine.memory = look_at_memory();
  machine.cpu = look_at_cpu();
  machine.ports = std::move(ports);
  for (Machine::Port& port : machine.ports) port.error = try_port(port.address);
  for (const Machine::Port& port : machine.ports) {
    if (port.what != "http" || port.error != EADDRINUSE || !machine.disk.in_use) continue;
    auto health = http_get(port.address, "/health", kMaxHealthBytes);
    machine.server = Machine::Server{port.address, health.value_or(""),
                                     health ? "" : health.error().message};
  }
  // The wall clock is judged over what the rest has taken, at least a moment.
  const Duration least = 100ms;
  const Duration taken = now_by(CLOCK_MONOTONIC) - steady;
  if (taken < least) {
    const timespec rest{0, (least - taken).count()};
    ::nanosleep(&rest, nullptr);
  }
  Machine::Clock& clock = machine.clock;
  clock.over = now_by(CLOCK_MONOTONIC) - steady;
  clock.drift = (now_by(CLOCK_REALTIME) - wall) - clock.over;
  clock.wall_ms = std::chrono::duration_cast<std::chrono::milliseconds>(wall).count();
  timex time{};
  const int state = ::adjtimex(&time);
  clock.known = state >= 0;
  clock.synchronised = clock.known && state != TIME_ERROR && (time.status & STA_UNSYNC) == 0;
  clock.max_error = std::chrono::microseconds(time.maxerror);
  return machine;
}

server::MachineSize size_of_machine() {
  server::MachineSize size;
  const Machine::Memory memory = look_at_memory();
  size.memory_bytes =
      std::min(memory.total_bytes, memory.limit_bytes.value_or(memory.total_bytes));
  cpu_set_t set;
  CPU_ZERO(&set);
  size.cores = ::sched_getaffinity(0, sizeof set, &set) != 0
                   ? 1
                   : static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  return size;
}

std::optional<std::uint64_t> memory_limit(
    std::string_view self, const std::function<std::optional<std::string>(std::string)>& read) {
  std::optional<std::uint64_t> lowest;
  std::istringstream lines{std::string(self)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && !names_memory(controllers)) continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const std::string name = unified ? "/memory.max" : "/memory.limit_in_bytes";
    // In a container the path may be the host's, of which only the top is there.
    std::string path = line.substr(second + 1);
    if (path == "/") path.clear();
    for (;;) {
      const auto text = read(root + path + name);
      std::uint64_t bytes = 0;
      const bool number =
          text &&
          std::from_chars(text->data(), text->data() + text->size(), bytes).ec == std::errc();
      // Version 1 writes no limit as a number close to 2^63.
      if (number && bytes < (std::uint64_t{1} << 60))
        lowest = std::min(lowest.value_or(bytes), bytes);
      if (path.empty()) break;
      path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return lowest;
}

std::string chosen_word(std::string_view text) {
  const std::size_t open = text.find('[');
  const std::size_t close = text.find(']');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return {};
  return std::string(text.substr(open + 1, close - open - 1));
}

}  // namespace pyralog::cli
