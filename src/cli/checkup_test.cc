#include "cli/checkup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>

namespace pyralog::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::uint64_t kGiB = 1024ull * 1024 * 1024;

/// A machine with which nothing is wrong.
Machine healthy() {
  Machine machine;
  machine.disk.data_dir = machine.disk.probed = "/data";
  machine.disk.fs_name = "ext4";
  machine.disk.free_bytes = 80 * kGiB;
  machine.disk.total_bytes = 100 * kGiB;
  machine.disk.free_files = machine.disk.total_files = 1'000'000;
  machine.disk.syncs.assign(100, 300us);
  machine.open_files = 1'048'576;
  machine.clock = {10us, 500ms, 1'800'000'000'000, true, true, 3ms};
  machine.memory = {16 * kGiB, std::nullopt, 0, 60, "madvise", "madvise"};
  machine.cpu = {3, true, true};
  machine.ports = {{"kafka", {"127.0.0.1", 9092}, 0}};
  return machine;
}
constexpr Needs kNeeds{kGiB, kGiB / 4};

Check check_of(const Machine& machine, const std::string& name, Needs needs = kNeeds) {
  for (const Check& check : check_up(machine, needs)) {
    if (check.name == name) return check;
  }
  ADD_FAILURE() << "there is no check " << name;
  return {};
}
Health health_of(const Machine& machine, const std::string& name, Needs needs = kNeeds) {
  const Check check = check_of(machine, name, needs);
  EXPECT_EQ(check.remedy.empty(), check.health == Health::kOk) << name << ": " << check.what;
  return check.health;
}
std::int64_t number_of(const Check& check, const std::string& name) {
  for (const auto& [each, value] : check.numbers) {
    if (each == name) return value;
  }
  ADD_FAILURE() << check.name << " has no " << name;
  return -1;
}

TEST(CheckUp, finds_nothing_wrong_with_a_good_machine) {
  const auto checks = check_up(healthy(), kNeeds);
  EXPECT_EQ(checks.size(), 10u);
  for (const Check& check : checks) {
    EXPECT_EQ(check.health, Health::kOk) << check.name << ": " << check.what;
    EXPECT_FALSE(check.what.empty()) << check.name;
    EXPECT_EQ(check.remedy, "") << check.name;
  }
}

TEST(CheckUp, judges_a_disk_by_its_slow_syncs) {
  Machine machine = healthy();
  machine.disk.syncs[10] = machine.disk.syncs[20] = 30ms;
  EXPECT_EQ(health_of(machine, "disk sync"), Health::kWarning);
  const Check check = check_of(machine, "disk sync");
  EXPECT_EQ(number_of(check, "p50_us"), 300);
  EXPECT_EQ(number_of(check, "p99_us"), 30'000);
  EXPECT_THAT(check.what, AllOf(HasSubstr("p50 0.30 ms"), HasSubstr("p99 30.00 ms")));
  machine.disk.syncs[20] = 300us;
  EXPECT_EQ(health_of(machine, "disk sync"), Health::kOk) << "one of a hundred is not the p99";
  machine.disk.syncs = {250ms};
  EXPECT_EQ(health_of(machine, "disk sync"), Health::kProblem);
  machine.disk.syncs.assign(100, 1us);
  EXPECT_THAT(check_of(machine, "disk sync").what, HasSubstr("too fast"));
  EXPECT_EQ(health_of(machine, "disk sync"), Health::kWarning);
  machine.disk.sync_error = "a sync failed: Input/output error";
  EXPECT_EQ(health_of(machine, "disk sync"), Health::kProblem);
  machine.disk.sync_error.clear();
  machine.disk.syncs.clear();
  EXPECT_EQ(health_of(machine, "disk sync"), Health::kProblem);
}

TEST(CheckUp, judges_space_by_segments_and_by_share) {
  Machine machine = healthy();
  machine.disk.free_bytes = 9 * kGiB;
  EXPECT_EQ(health_of(machine, "free space"), Health::kWarning);
  machine.disk.free_bytes = kGiB;
  EXPECT_EQ(health_of(machine, "free space"), Health::kProblem);
  EXPECT_EQ(health_of(machine, "free space", {kGiB / 64, 0}), Health::kWarning);
  machine.disk.free_bytes = 50 * kGiB;
  EXPECT_EQ(health_of(machine, "free space", {kGiB, 0, 51 * kGiB}), Health::kProblem)
      << "records would be refused";
  machine.disk.free_files = 500;
  EXPECT_EQ(health_of(machine, "free space"), Health::kWarning);
  machine.disk.free_files = 5;
  EXPECT_EQ(health_of(machine, "free space"), Health::kProblem);
  machine.disk.total_files = 0;
  EXPECT_EQ(health_of(machine, "free space"), Health::kOk) << "btrfs counts no files";
}

TEST(CheckUp, knows_which_file_systems_keep_records) {
  const std::map<std::string, Health> expected = {
      {"xfs", Health::kOk},          {"ext4", Health::kOk},     {"tmpfs", Health::kProblem},
      {"overlay", Health::kWarning}, {"nfs", Health::kWarning}, {"btrfs", Health::kWarning},
      {"0x1234", Health::kWarning}};
  for (const auto& [name, health] : expected) {
    Machine machine = healthy();
    machine.disk.fs_name = name;
    EXPECT_EQ(health_of(machine, "file system"), health) << name;
  }
}

TEST(CheckUp, says_why_a_directory_cannot_be_used) {
  Machine machine = healthy();
  machine.disk.error = "Permission denied";
  EXPECT_EQ(health_of(machine, "data directory"), Health::kProblem);
  for (const Check& check : check_up(machine, kNeeds)) EXPECT_NE(check.name, "disk sync");
  machine = healthy();
  machine.disk.data_dir = "/data/new";
  EXPECT_THAT(check_of(machine, "data directory").what, HasSubstr("not there yet"));
}

TEST(CheckUp, judges_limits_of_files_and_memory) {
  Machine machine = healthy();
  machine.open_files = 4'096;
  EXPECT_EQ(health_of(machine, "open files"), Health::kWarning);
  machine.open_files = 256;
  EXPECT_EQ(health_of(machine, "open files"), Health::kProblem);
  machine.memory.limit_bytes = kGiB;
  EXPECT_EQ(health_of(machine, "memory"), Health::kOk);
  EXPECT_EQ(health_of(machine, "memory", {kGiB, kGiB}), Health::kWarning);
  machine.memory.limit_bytes = kGiB / 16;
  EXPECT_EQ(health_of(machine, "memory"), Health::kProblem);
}

TEST(CheckUp, judges_paging_only_where_there_is_something_to_page) {
  Machine machine = healthy();
  machine.memory.swap_bytes = kGiB;
  EXPECT_EQ(health_of(machine, "paging"), Health::kWarning);
  machine.memory.swappiness = 1;
  EXPECT_EQ(health_of(machine, "paging"), Health::kOk);
  machine.memory.huge_pages = machine.memory.huge_page_defrag = "always";
  EXPECT_EQ(health_of(machine, "paging"), Health::kWarning);
}

TEST(CheckUp, sees_a_clock_that_jumps_or_runs_alone) {
  Machine machine = healthy();
  for (const Duration drift : {Duration(2s), Duration(-2s)}) {
    machine.clock.drift = drift;
    EXPECT_EQ(health_of(machine, "clock"), Health::kProblem);
  }
  machine = healthy();
  machine.clock.synchronised = false;
  EXPECT_EQ(health_of(machine, "clock"), Health::kWarning);
  machine.clock.known = false;
  EXPECT_EQ(health_of(machine, "clock"), Health::kOk);
  machine.clock.wall_ms = 0;
  EXPECT_EQ(health_of(machine, "clock"), Health::kProblem);
}

TEST(CheckUp, knows_what_the_processor_must_have) {
  Machine machine = healthy();
  machine.cpu.carryless_multiply = false;
  EXPECT_EQ(health_of(machine, "processor"), Health::kWarning);
  machine.cpu = {1, false, false};
  EXPECT_EQ(health_of(machine, "processor"), Health::kProblem);
}

TEST(CheckUp, tells_a_server_that_runs_from_a_port_that_is_taken) {
  Machine machine = healthy();
  for (const int error : {EADDRINUSE, EACCES, EADDRNOTAVAIL, -1, ENOMEM}) {
    machine.ports[0].error = error;
    EXPECT_EQ(health_of(machine, "port kafka"), Health::kProblem) << error;
  }
  machine.ports[0].error = EADDRINUSE;
  EXPECT_THAT(check_of(machine, "port kafka").remedy, HasSubstr("--kafka"));
  machine.disk.in_use = true;
  EXPECT_EQ(health_of(machine, "port kafka"), Health::kOk);
  machine.ports[0].error = EACCES;
  EXPECT_EQ(health_of(machine, "port kafka"), Health::kProblem);
}

TEST(CheckUp, passes_on_what_a_server_that_runs_says_of_itself) {
  Machine machine = healthy();
  const auto judged = [&](std::string health, std::string error = "") {
    machine.server = Machine::Server{{"127.0.0.1", 9094}, std::move(health), std::move(error)};
    return health_of(machine, "server");
  };
  EXPECT_EQ(judged(R"({"status":"ok","problems":[]})"), Health::kOk);
  EXPECT_EQ(judged(R"({"status":"starting","problems":[]})"), Health::kWarning);
  EXPECT_EQ(judged(R"({"status":"degraded","problems":[{"kind":"disk_full","subject":"/data",)"
                   R"("what":"1 MiB free","remedy":"free space"},{"kind":"odd"}]})"),
            Health::kProblem);
  const Check full = check_of(machine, "server disk_full");
  EXPECT_EQ(full.health, Health::kProblem);
  EXPECT_EQ(full.what, "/data: 1 MiB free");
  EXPECT_EQ(full.remedy, "free space");
  for (const char* other : {"", "{", "[]", "{}", R"({"status":1,"problems":[]})", R"({"status":"ok"})"}) {
    EXPECT_EQ(judged(other), Health::kWarning) << other;
  }
  EXPECT_EQ(judged("", "127.0.0.1:9094: refused"), Health::kWarning);
  EXPECT_EQ(check_of(machine, "server").what, "127.0.0.1:9094: refused");
}

TEST(Machine, the_lowest_limit_on_the_way_up_counts) {
  const std::map<std::string, std::string> files = {
      {"/sys/fs/cgroup/a/memory.max", "4096\n"},
      {"/sys/fs/cgroup/a/b/memory.max", "max\n"},
      {"/sys/fs/cgroup/c/memory.max", "8192\n"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
      {"/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1000\n"}};
  const auto read = [&](const std::string& path) -> std::optional<std::string> {
    const auto found = files.find(path);
    return found == files.end() ? std::nullopt : std::optional(found->second);
  };
  EXPECT_EQ(memory_limit("0::/a/b\n", read), 4096u);
  EXPECT_EQ(memory_limit("0::/c/of/the/host\n", read), 8192u);
  EXPECT_EQ(memory_limit("5:cpu:/a\n4:memory:/x/y\n0::/\n", read), 1000u);
  EXPECT_EQ(memory_limit("4:memory:/\n", read), std::nullopt);
  EXPECT_EQ(memory_limit("12:cpu,cpuacct:/a\nno line", read), std::nullopt);
  EXPECT_EQ(memory_limit("", read), std::nullopt);
}

TEST(Machine, the_chosen_word_is_in_brackets) {
  EXPECT_EQ(chosen_word("always [madvise] never\n"), "madvise");
  EXPECT_EQ(chosen_word("always"), "");
  EXPECT_EQ(chosen_word("]["), "");
}

}  // namespace
}  // namespace pyralog::cli
