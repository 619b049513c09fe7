#include "observe/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>

namespace pyralog::observe {

namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::uint64_t count_descriptors() {
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/self/fd", error);
  std::uint64_t found = 0;
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) ++found;
  return found > 0 ? found - 1 : 0;  // without the one that reads the directory
}

}  // namespace

ProcessStats process_stats() {
  ProcessStats out;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    out.cpu_seconds = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) out.max_open_files = limit.rlim_cur;
  const long page = ::sysconf(_SC_PAGESIZE);
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  if (std::ifstream memory("/proc/self/statm"); page > 0 && memory >> size >> resident) {
    out.virtual_bytes = size * static_cast<std::uint64_t>(page);
    out.resident_bytes = resident * static_cast<std::uint64_t>(page);
  }
  out.open_files = count_descriptors();
  return out;
}

}  // namespace pyralog::observe
