#include "io/posix/descriptors.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "base/plant.h"

namespace pyralog::io::posix {

namespace {
// Event loops, standard streams, directories while they are synced.
constexpr std::uint64_t kOthers = 32;

std::atomic<std::uint64_t> open_count{0};

std::uint64_t limit_of_process() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::uint64_t{limit.rlim_cur} : UINT64_MAX;
}
}  // namespace

void count_opened() { open_count.fetch_add(1, std::memory_order_relaxed); }

void count_closed() { open_count.fetch_sub(1, std::memory_order_relaxed); }

std::uint64_t kept_for_files(std::uint64_t limit) {
  return std::clamp<std::uint64_t>(limit / 8, std::min<std::uint64_t>(64, limit / 4), 4096);
}

bool room_for_connection(std::uint64_t others) {
  if (PYRALOG_PLANT("io.connections_take_all_descriptors")) return true;
  const std::uint64_t limit = limit_of_process();
  const bool first = others < kFirstConnections && !PYRALOG_PLANT("io.no_listener_is_first");
  const std::uint64_t kept = kept_for_files(limit) / (first ? 2 : 1);
  return open_count.load(std::memory_order_relaxed) + kOthers + kept < limit;
}

Error no_room_for_connection(const std::string& listener) {
  const std::uint64_t limit = limit_of_process();
  return {Code::kExhausted,
          fmt::format("{}: connections wait: of {} descriptors that this process may have open the last {} "
                      "are for files; raise the limit of open files (ulimit -n)",
                      listener, limit, kept_for_files(limit)),
          EMFILE};
}

}  // namespace pyralog::io::posix
