#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"

namespace pyralog {
using namespace base;
}

namespace pyralog::server {

/// Whether clients are refused what they could have elsewhere or later (kStopsService), or all that there is
/// is served and somebody should look all the same (kWarning).
enum class Severity : std::uint8_t { kStopsService, kWarning };

/// "stops_service" or "warning".
[[nodiscard]] std::string_view severity_name(Severity severity);

/// One thing that does not work, for people and programs.
struct Problem {
  std::string kind;     ///< one of a few words that do not change: "partition_offline"
  std::string subject;  ///< what it is about: a partition, a directory; empty = the node
  std::string what;     ///< what is the matter
  std::string remedy;   ///< what to do
  Severity severity = Severity::kWarning;
};

/// What health goes by, as it was found.
struct HealthFacts {
  std::string data_dir;
  std::vector<std::pair<std::string, std::string>> offline;  ///< partition and reason
  std::string writes_refused;              ///< why records of clients are; empty = they are not
  std::string
      waits_for;  ///< what a start of a node of a cluster waits for; empty = nothing to tell
  std::string
      metadata_failed;  ///< why it takes no part in the metadata log any more; empty = it does
  bool no_controller = false;  ///< nobody is known to lead the metadata log
  std::vector<std::pair<std::int32_t, std::string>>
      unreachable;                         ///< nodes, and why, if that is known
  std::uint64_t failed_write_ahead = 0;    ///< shards whose write-ahead files failed
  std::vector<std::string> damage;         ///< of records that lie on the disk
  std::optional<Duration> clock_jump;      ///< by how much the wall clock was moved a while ago
  WallMs wall;                             ///< what it says
  std::uint64_t open_files = 0;            ///< descriptors; 0 = not known
  std::uint64_t max_open_files = 0;
};

/// All kinds that there are, for who counts them.
inline constexpr std::array<std::string_view, 10> kProblemKinds = {
    "metadata_failed",  "no_controller",      "partition_offline", "disk_full",
    "node_unreachable", "write_ahead_failed", "damaged_records",   "few_descriptors",
    "clock_not_set",    "clock_jumped"};

/// Everything that does not work, worst first. Pure. Of one kind at most kMaxProblemsOfAKind are told.
inline constexpr std::size_t kMaxProblemsOfAKind = 100;
[[nodiscard]] std::vector<Problem> problems_in(const HealthFacts& facts);

/// Tells when somebody has moved the wall clock, which time-based retention and timestamps go by: by
/// what it says between two looks beside what the monotonic clock says. Pure.
class ClockWatch {
 public:
  static constexpr Duration kLeastJump = std::chrono::seconds(5);
  static constexpr Duration kToldFor = std::chrono::minutes(10);
  /// By how much it was moved in the last while, forward or (below zero) back. `now` never goes back.
  [[nodiscard]] std::optional<Duration> look(WallMs wall, Instant now);

 private:
  /// A clock that is slewed is never right to the millisecond: it is compared over no longer time.
  static constexpr Duration kCompared = std::chrono::hours(1);
  bool begun_ = false;
  WallMs wall_;
  Instant at_;
  std::optional<Duration> jump_;
  Instant jumped_at_;
};

/// "starting" until clients are served; then "degraded" if anything stops service, "warning" if there are
/// problems but none that does, "ok". A node is well enough for a balancer in the last two.
[[nodiscard]] std::string_view health_status(bool ready, const std::vector<Problem>& problems);
/// {"status": …, "problems": […], …}. `ready`: clients are served.
[[nodiscard]] std::string health_json(bool ready, const HealthFacts& facts,
                                      const std::vector<Problem>& problems);

}  // namespace pyralog::server
