#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "io/net.h"
#include "server/settings.h"

namespace pyralog::cli {

/// What `doctor` has seen of a machine: facts only, judged by checkup.h.
struct Machine {
  struct Disk {
    std::string data_dir;  ///< as it was set
    std::string probed;    ///< that, or the nearest directory above it that there is
    bool in_use = false;   ///< a server has the data directory open
    std::string fs_name;   ///< "ext4"; "0x…" for one that has no name here
    std::uint64_t free_bytes = 0;
    std::uint64_t total_bytes = 0;
    std::uint64_t free_files = 0;
    std::uint64_t total_files = 0;  ///< 0 = the file system does not count them
    std::string error;              ///< why nothing could be asked; empty = it could
    std::vector<Duration> syncs;    ///< each a 4 KiB append and its fdatasync
    std::string sync_error;         ///< why a write or a sync failed; empty = none did
  };
  struct Clock {
    Duration drift{0};  ///< how much further the wall clock went than the monotonic one
    Duration over{0};   ///< during this time
    std::int64_t wall_ms = 0;
    bool known = false;  ///< the kernel says whether it is synchronised
    bool synchronised = false;
    Duration max_error{0};  ///< as the kernel estimates it
  };
  struct Memory {
    std::uint64_t total_bytes = 0;
    std::optional<std::uint64_t> limit_bytes;  ///< of the control group
    std::uint64_t swap_bytes = 0;
    std::int64_t swappiness = -1;  ///< −1 = unknown
    std::string huge_pages;        ///< the chosen word of …/transparent_hugepage/enabled
    std::string huge_page_defrag;
  };
  struct Cpu {
    int level = 1;  ///< of x86-64-v1 to -v4
    bool crc32 = false;
    bool carryless_multiply = false;
  };
  struct Port {
    std::string what;  ///< "kafka"
    io::Address address;
    int error = 0;  ///< errno of bind; 0 = it is free; −1 = the host has no address
  };
  /// What a server that runs here says of itself.
  struct Server {
    io::Address address;
    std::string health;  ///< the JSON of its /health
    std::string error;   ///< why there is none
  };
  Disk disk;
  std::uint64_t open_files = 0;  ///< what the limit may be raised to
  Clock clock;
  Memory memory;
  Cpu cpu;
  std::vector<Port> ports;
  std::optional<Server> server;  ///< none = none runs, or not where it was looked for
};

/// Bounds of the series of syncs.
inline constexpr int kMaxSyncs = 100;
inline constexpr Duration kMaxSyncTime = 3s;

/// Asks the operating system; at most about kMaxSyncTime and one more sync. Blocks the calling
/// thread. What it writes is a file without a name, which is gone when the call ends, however it
/// ends; where the file system has no such files, one whose name is removed at once.
[[nodiscard]] Machine look_at_machine(const std::string& data_dir,
                                      std::vector<Machine::Port> ports);

/// What a server may have of this machine.
[[nodiscard]] server::MachineSize size_of_machine();

/// The lowest memory limit on a process's way up through its control groups, both versions.
/// `self` is /proc/self/cgroup; `read` returns a file's text, or nothing. nullopt = unlimited.
[[nodiscard]] std::optional<std::uint64_t> memory_limit(
    std::string_view self, const std::function<std::optional<std::string>(std::string)>& read);
/// "always [madvise] never" → "madvise"; empty if none is chosen.
[[nodiscard]] std::string chosen_word(std::string_view text);

}  // namespace pyralog::cli
