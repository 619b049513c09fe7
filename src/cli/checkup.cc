#include "cli/checkup.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/plant.h"

namespace pyralog::cli {

namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

std::int64_t us(Duration time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time).count();
}

std::string ms_text(Duration time) {
  const std::int64_t hundredths = us(time) / 10;
  const std::string rest = std::to_string(hundredths % 100);
  return std::to_string(hundredths / 100) + "." + (rest.size() < 2 ? "0" : "") + rest + " ms";
}

std::string bytes_text(std::uint64_t bytes) {
  const std::uint64_t unit = bytes >= 10 * kGiB ? kGiB : kMiB;
  return std::to_string(bytes / unit) + (unit == kGiB ? " GiB" : " MiB");
}

std::int64_t number(std::uint64_t value) {
  return static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX));
}

/// The smallest time that `percent` of the series do not exceed; the series is sorted, not empty.
Duration percentile(const std::vector<Duration>& sorted, std::size_t percent) {
  const std::size_t rank = (sorted.size() * percent + 99) / 100;
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

Check directory(const Machine::Disk& disk) {
  Check check{"data directory", Health::kOk, disk.data_dir, "", {}};
  if (!disk.error.empty()) {
    check.health = Health::kProblem;
    check.what += ": " + disk.error;
    check.remedy = "choose another --data-dir, or let this user into it";
  } else if (disk.in_use) {
    check.what += ": a server has it open";
  } else if (disk.probed != disk.data_dir) {
    check.what += ": is not there yet, `serve` makes it; looking at " + disk.probed;
  }
  return check;
}

/// An acknowledgement of a topic with durability=fsync waits for one sync, and for what is left of
/// the one before it.
Check sync_time(const Machine::Disk& disk) {
  Check check{"disk sync", Health::kOk, "", "", {}};
  if (!disk.sync_error.empty() || disk.syncs.empty()) {
    check.health = Health::kProblem;
    check.what = disk.probed + ": " + (disk.sync_error.empty() ? "no sync ended" : disk.sync_error);
    check.remedy = "let the server's user write there, free space, or look at the device";
    return check;
  }
  std::vector<Duration> sorted = disk.syncs;
  std::ranges::sort(sorted);
  const Duration half = percentile(sorted, 50);
  const Duration worst = percentile(sorted, 99);
  check.numbers = {{"count", number(sorted.size())},
                   {"p50_us", us(half)},
                   {"p99_us", us(worst)},
                   {"max_us", us(sorted.back())}};
  check.what = "4 KiB and fdatasync, " + std::to_string(sorted.size()) + " times: p50 " +
               ms_text(half) + ", p99 " + ms_text(worst) +
               "; so long does acks=all wait for the disk";
  // No device makes anything durable in so short a time: somebody only says that it did.
  constexpr Duration kTooGood = std::chrono::microseconds(5);
  // Of a disk that is well; beyond the second, clients with short timeouts begin to fail.
  constexpr Duration kGood = 20ms;
  constexpr Duration kBad = 200ms;
  if (half < kTooGood) {
    check.health = Health::kWarning;
    check.what += "; too fast to be true";
    check.remedy = "make sure that a sync reaches the device: no tmpfs, no cache that loses power";
  } else if (worst > kBad) {
    check.health = Health::kProblem;
    check.remedy = "use a faster disk, or one that nobody else keeps busy";
  } else if (worst > kGood) {
    check.health = Health::kWarning;
    check.remedy = "use an SSD of the machine itself, or a topic setting of durability=os";
  }
  return check;
}

Check free_space(const Machine::Disk& disk, const Needs& needs) {
  Check check{"free space", Health::kOk, "", "", {}};
  check.numbers = {{"free_bytes", number(disk.free_bytes)},
                   {"total_bytes", number(disk.total_bytes)},
                   {"free_files", number(disk.free_files)}};
  check.what = bytes_text(disk.free_bytes) + " of " + bytes_text(disk.total_bytes);
  // Retention deletes whole segments, so one must fit beside the one that is written to.
  const std::uint64_t least = std::min(2 * needs.segment_bytes, 2 * kGiB);
  const bool few_files = disk.total_files > 0 && disk.free_files < 10'000;
  if (disk.free_bytes < least || (few_files && disk.free_files < 100)) {
    check.health = Health::kProblem;
  } else if (disk.free_bytes < disk.total_bytes / 10 || few_files) {
    check.health = Health::kWarning;
  }
  if (disk.free_bytes < needs.min_free_bytes) {
    check.health = Health::kProblem;
    check.what +=
        "; below " + bytes_text(needs.min_free_bytes) + " (min.free.bytes) records are refused";
  }
  if (few_files) check.what += ", " + std::to_string(disk.free_files) + " more files";
  if (check.health != Health::kOk) {
    check.remedy = "free space, lower retention.ms or retention.bytes, or use a larger disk";
  }
  return check;
}

Check file_system(const Machine::Disk& disk) {
  Check check{"file system", Health::kOk, disk.fs_name, "", {}};
  const auto is_one_of = [&](std::initializer_list<const char*> names) {
    return std::ranges::any_of(names, [&](const char* name) { return disk.fs_name == name; });
  };
  if (is_one_of({"tmpfs", "ramfs"})) {
    check.health = Health::kProblem;
    check.what += ": lives in memory, a restart of the machine loses all records";
    check.remedy = "put --data-dir on a disk with ext4 or xfs";
  } else if (is_one_of({"overlay"})) {
    check.health = Health::kWarning;
    check.what += ": a container's layer, which may go with the container";
    check.remedy = "mount a volume and put --data-dir there";
  } else if (is_one_of({"nfs", "cifs", "smb2", "fuse", "9p", "virtiofs", "ceph", "fhgfs"})) {
    check.health = Health::kWarning;
    check.what += ": its server decides what a sync and a lock are worth";
    check.remedy = "put --data-dir on a disk of this machine, with ext4 or xfs";
  } else if (is_one_of({"btrfs", "zfs", "bcachefs"})) {
    check.health = Health::kWarning;
    check.what += ": copies on write, which makes appends and syncs slower";
    check.remedy = "prefer ext4 or xfs, or switch copying off for this directory";
  } else if (!is_one_of({"ext4", "xfs", "f2fs", "jfs"})) {
    check.health = Health::kWarning;
    check.what += ": nobody has tried this one";
    check.remedy = "prefer ext4 or xfs";
  }
  return check;
}

/// Each partition holds a few files open, each connection one.
Check open_files(std::uint64_t limit) {
  Check check{"open files", Health::kOk, std::to_string(limit), "", {{"limit", number(limit)}}};
  if (limit >= 65'536) return check;
  check.health = limit < 1'024 ? Health::kProblem : Health::kWarning;
  check.what += ": bounds connections and partitions together";
  check.remedy = "raise the hard limit to 65536 or more (LimitNOFILE= in systemd, ulimit -Hn)";
  return check;
}

Check clock(const Machine::Clock& clock) {
  Check check{"clock", Health::kOk, "", "", {}};
  check.numbers = {{"drift_us", us(clock.drift)}, {"over_us", us(clock.over)}};
  constexpr std::int64_t kYear2026 = 1'767'225'600'000;
  const Duration jump = clock.drift < Duration(0) ? -clock.drift : clock.drift;
  if (clock.wall_ms < kYear2026) {
    check.health = Health::kProblem;
    check.what = "the wall clock is years behind";
    check.remedy = "set it, and run chrony or systemd-timesyncd";
  } else if (jump > 50ms) {
    check.health = Health::kProblem;
    check.what = "the wall clock jumped by " + ms_text(jump) + " within " + ms_text(clock.over);
    check.remedy = "let one time service slew it: see who sets it (chronyc tracking, timedatectl)";
  } else if (clock.known && !clock.synchronised) {
    check.health = Health::kWarning;
    check.what = "is not synchronised, says the kernel; retention and offsets by time go by it";
    check.remedy = "run chrony or systemd-timesyncd";
  } else if (!clock.known) {
    check.what = "runs evenly; whether it is synchronised, the kernel does not tell";
  } else {
    check.numbers.emplace_back("max_error_us", us(clock.max_error));
    check.what = "runs evenly and is synchronised, within " + ms_text(clock.max_error);
  }
  return check;
}

Check memory(const Machine::Memory& memory, const Needs& needs) {
  Check check{"memory", Health::kOk, "", "", {}};
  const std::uint64_t usable =
      std::min(memory.total_bytes, memory.limit_bytes.value_or(memory.total_bytes));
  check.numbers = {{"total_bytes", number(memory.total_bytes)}, {"usable_bytes", number(usable)}};
  check.what = bytes_text(usable);
  if (usable < memory.total_bytes) {
    check.what += " by the control group's limit, of " + bytes_text(memory.total_bytes);
  }
  // Beside what is shared out: the server itself, and pages for what is written.
  const std::uint64_t wanted = std::max(needs.memory_bytes / 3 * 4, 256 * kMiB);
  if (usable >= wanted) return check;
  check.health = usable < 128 * kMiB ? Health::kProblem : Health::kWarning;
  check.what += "; the server may take " + bytes_text(needs.memory_bytes) + " for what clients make it keep";
  check.remedy = "give it " + bytes_text(wanted) + ", or lower memory.max.bytes";
  return check;
}

Check paging(const Machine::Memory& memory) {
  Check check{"paging", Health::kOk, "", "", {}};
  check.numbers = {{"swap_bytes", number(memory.swap_bytes)}, {"swappiness", memory.swappiness}};
  check.what = memory.swap_bytes == 0 ? "no swap"
                                      : bytes_text(memory.swap_bytes) + " swap, swappiness " +
                                            std::to_string(memory.swappiness);
  if (!memory.huge_pages.empty()) check.what += ", huge pages " + memory.huge_pages;
  if (memory.swap_bytes > 0 && memory.swappiness > 10) {
    check.health = Health::kWarning;
    check.what += ": the page cache of a log drives the server itself out";
    check.remedy = "sysctl vm.swappiness=1";
  } else if (memory.huge_pages == "always" && memory.huge_page_defrag == "always") {
    check.health = Health::kWarning;
    check.what += " with defrag always: a page fault may wait for others to be moved";
    check.remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag";
  }
  return check;
}

Check processor(const Machine::Cpu& cpu) {
  Check check{"processor", Health::kOk, "x86-64-v" + std::to_string(cpu.level), "", {}};
  check.numbers = {{"level", cpu.level}};
  if (cpu.level < 2 || !cpu.crc32) {
    check.health = Health::kProblem;
    check.what += ": lacks what Pyralog is built for (x86-64-v2, with crc32)";
    check.remedy = "use a machine, or a virtual one's processor type, from 2009 or later";
  } else if (!cpu.carryless_multiply) {
    check.health = Health::kWarning;
    check.what += ": crc32, but no pclmul, without which checksums cost several times as much";
    check.remedy = "let the virtual machine have the host's processor type";
  } else {
    check.what += ": crc32 and pclmul, checksums are cheap";
  }
  return check;
}

Check port(const Machine::Port& port, const Machine::Disk& disk) {
  Check check{"port " + port.what, Health::kOk, io::to_string(port.address), "", {}};
  if (port.error == 0) {
    check.what += port.address.port == 0 ? ": any that is free" : ": is free";
  } else if (port.error == EADDRINUSE && disk.in_use) {
    check.what += ": is in use, as is the data directory: a server runs";
  } else {
    check.health = Health::kProblem;
    const std::string other = "choose another --" + port.what;
    if (port.error == EADDRINUSE) {
      check.what += ": another process listens there";
      check.remedy = "see who (ss -ltnp), and stop it or " + other;
    } else if (port.error == EACCES) {
      check.what += ": this user may not listen there";
      check.remedy = "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE";
    } else if (port.error < 0 || port.error == EADDRNOTAVAIL) {
      check.what += ": is no address of this machine";
      check.remedy = other;
    } else {
      check.what += std::string(": ") + std::strerror(port.error);
      check.remedy = other;
    }
  }
  return check;
}

/// What a server says of itself, and a line for each of its problems.
void tell_of(const Machine::Server& seen, std::vector<Check>& checks) {
  Check check{"server", Health::kOk, io::to_string(seen.address) + ": is well", "", {}};
  const auto health = nlohmann::json::parse(seen.health, nullptr, false);
  const bool known = health.is_object() && health.value("status", nlohmann::json()).is_string() &&
                     health.value("problems", nlohmann::json()).is_array();
  if (!known) {
    check.health = Health::kWarning;
    check.what = seen.error.empty() ? io::to_string(seen.address) + ": does not say how it is"
                                      : seen.error;
    check.remedy = "the data directory is in use; give the --http of the server that has it, and see its log";
    checks.push_back(std::move(check));
    return;
  }
  const auto status = health["status"].get<std::string>();
  if (status != "ok" && !PYRALOG_PLANT("cli.servers_are_well")) {
    const bool serves = status == "starting" || status == "warning";
    check.health = serves ? Health::kWarning : Health::kProblem;
    check.what = io::to_string(seen.address) + ": is " + (status == "warning" ? "serving, with warnings" : status);
    check.remedy =
        status == "starting" ? "ask again when it has started" : "see what it names below, and its log";
  }
  checks.push_back(std::move(check));
  for (const auto& problem : health["problems"]) {
    const auto text = [&](const char* name) {
      const auto at = problem.find(name);
      return at != problem.end() && at->is_string() ? at->get<std::string>() : std::string();
    };
    const std::string subject = text("subject");
    const bool serves = text("severity") == "warning";
    checks.push_back({"server " + text("kind"), serves ? Health::kWarning : Health::kProblem,
                      (subject.empty() ? "" : subject + ": ") + text("what"), text("remedy"), {}});
  }
}

}  // namespace

const char* to_text(Health health) {
  switch (health) {
    case Health::kOk:
      return "ok";
    case Health::kWarning:
      return "warning";
    case Health::kProblem:
      break;
  }
  return "problem";
}

std::vector<Check> check_up(const Machine& machine, const Needs& needs) {
  std::vector<Check> checks = {directory(machine.disk)};
  if (machine.disk.error.empty()) {
    checks.push_back(sync_time(machine.disk));
    checks.push_back(free_space(machine.disk, needs));
    checks.push_back(file_system(machine.disk));
  }
  checks.push_back(open_files(machine.open_files));
  checks.push_back(clock(machine.clock));
  checks.push_back(memory(machine.memory, needs));
  checks.push_back(paging(machine.memory));
  checks.push_back(processor(machine.cpu));
  for (const Machine::Port& each : machine.ports) checks.push_back(port(each, machine.disk));
  if (machine.server) tell_of(*machine.server, checks);
  return checks;
}

}  // namespace pyralog::cli
