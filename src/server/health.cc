#include "server/health.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/plant.h"

namespace pyralog::server {

namespace {

/// 2024 began then: a clock that says less was never set.
constexpr std::int64_t kFirstCredibleMs = 1'704'067'200'000;

std::string seconds_text(Duration time) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(time).count()) + " s";
}

void add_clock(const HealthFacts& facts, std::vector<Problem>& out) {
  if (facts.wall.ms < kFirstCredibleMs) {
    out.push_back({"clock_not_set", "",
                   "the wall clock stands before 2024: records get wrong timestamps, and retention "
                   "goes by them",
                   "set the clock and keep it right (chrony, systemd-timesyncd)"});
  }
  if (facts.clock_jump && !PYRALOG_PLANT("server.clock_may_jump")) {
    const Duration jump = *facts.clock_jump;
    const bool back = jump < Duration::zero();
    out.push_back({"clock_jumped", "",
                   "the wall clock was moved " + std::string(back ? "back" : "forward") + " by " +
                       seconds_text(back ? -jump : jump) +
                       ": timestamps of records do not go on evenly there",
                   "see who sets the clock; let it be slewed (chrony, systemd-timesyncd)"});
  }
}

void add_files(const HealthFacts& facts, std::vector<Problem>& out) {
  // A tenth is left: enough for the partitions and connections of a while.
  if (facts.max_open_files == 0 || facts.open_files <= facts.max_open_files / 10 * 9) return;
  out.push_back({"few_descriptors", "",
                 std::to_string(facts.open_files) + " of " + std::to_string(facts.max_open_files) +
                     " file descriptors are taken; without any, neither segments nor connections "
                     "can be opened",
                 "raise the limit on open files (LimitNOFILE, ulimit -n) and restart, or have fewer "
                 "partitions and connections"});
}

}  // namespace

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::kStopsService:
      return "stops_service";
    case Severity::kWarning:
      break;
  }
  return "warning";
}

std::vector<Problem> problems_in(const HealthFacts& facts) {
  std::vector<Problem> out;
  if (!facts.metadata_failed.empty()) {
    out.push_back({"metadata_failed", facts.data_dir, facts.metadata_failed,
                   "look at the disk; restart the node when it is mended",
                   Severity::kStopsService});
  }
  if (facts.no_controller && !PYRALOG_PLANT("server.no_controller_is_well")) {
    out.push_back(
        {"no_controller", "",
         "nobody that this node knows of leads the metadata log: no majority of the nodes "
         "can be reached, or one has just gone and the next is being chosen",
         "start the nodes that are down; see `pyralog cluster status`", Severity::kStopsService});
  }
  std::size_t offline = 0;
  for (const auto& [partition, reason] : facts.offline) {
    if (offline++ == kMaxProblemsOfAKind) break;
    out.push_back({"partition_offline", partition, reason,
                   "look at the disk; a restart verifies the partition and opens it again",
                   Severity::kStopsService});
  }
  if (!facts.writes_refused.empty()) {
    out.push_back({"disk_full", facts.data_dir, facts.writes_refused,
                   "free space, delete topics or records, or let topics keep less",
                   Severity::kStopsService});
  }
  std::size_t gone = 0;
  for (const auto& [node, why] : facts.unreachable) {
    if (gone++ == kMaxProblemsOfAKind) break;
    out.push_back({"node_unreachable", "node " + std::to_string(node),
                   "node " + std::to_string(node) + " cannot be reached" +
                       (why.empty() ? std::string() : ": " + why),
                   "start it, or look at the network between; what only it holds waits for it"});
  }
  if (facts.failed_write_ahead > 0 && !PYRALOG_PLANT("server.write_ahead_is_well")) {
    out.push_back({"write_ahead_failed", facts.data_dir,
                   "the write-ahead files of " + std::to_string(facts.failed_write_ahead) +
                       " shards cannot be written or synced; every partition syncs its own files",
                   "look at the disk; restart when it is mended"});
  }
  std::size_t told = 0;
  for (const std::string& damage : facts.damage) {
    if (told++ == kMaxProblemsOfAKind) break;
    out.push_back({"damaged_records", "", damage,
                   "look at the disk; restore the segment from a copy, or delete the records up to "
                   "behind the damage (`pyralog topic delete NAME --records-before OFFSET`)"});
  }
  add_files(facts, out);
  add_clock(facts, out);
  return out;
}

std::optional<Duration> ClockWatch::look(WallMs wall, Instant now) {
  if (begun_) {
    const Duration drift = std::chrono::milliseconds(wall.ms - wall_.ms) - (now - at_);
    if (drift >= kLeastJump || drift <= -kLeastJump) {
      jump_ = drift;
      jumped_at_ = now;
      begun_ = false;
    } else if (now - at_ >= kCompared) {
      begun_ = false;
    }
  }
  if (!begun_) {
    begun_ = true;
    wall_ = wall;
    at_ = now;
  }
  if (jump_ && now - jumped_at_ >= kToldFor) jump_.reset();
  return jump_;
}

std::string_view health_status(bool ready, const std::vector<Problem>& problems) {
  if (!ready) return "starting";
  if (problems.empty()) return "ok";
  const bool stops = std::ranges::any_of(problems, [](const Problem& each) {
    return each.severity == Severity::kStopsService || PYRALOG_PLANT("server.warnings_stop_service");
  });
  return stops ? "degraded" : "warning";
}

std::string health_json(bool ready, const HealthFacts& facts,
                        const std::vector<Problem>& problems) {
  nlohmann::json out;
  out["status"] = health_status(ready, problems);
  out["problems"] = nlohmann::json::array();
  for (const Problem& problem : problems) {
    nlohmann::json each = {{"kind", problem.kind}, {"what", problem.what}, {"remedy", problem.remedy},
                           {"severity", severity_name(problem.severity)}};
    if (!problem.subject.empty()) each["subject"] = problem.subject;
    out["problems"].push_back(std::move(each));
  }
  out["offline_partitions"] = nlohmann::json::array();
  for (const auto& [partition, reason] : facts.offline) {
    out["offline_partitions"].push_back(partition + ": " + reason);
  }
  if (!facts.writes_refused.empty()) out["writes_refused"] = facts.writes_refused;
  if (!facts.waits_for.empty()) out["waits_for"] = facts.waits_for;
  // What comes from names and messages need not be UTF-8.
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace pyralog::server
