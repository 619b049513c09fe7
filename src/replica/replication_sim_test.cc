// A partition's replicas under loss, delay, reordering, doubles, crashes, power losses, wiped
// disks, rival candidates and changes of who takes part.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "replica/replication_testing.h"

namespace pyralog::replica::testing {
namespace {

void expect_all_seen(const Seen& seen) {
  const std::pair<const char*, std::uint64_t> kinds[] = {
      {"commits", seen.commits},
      {"reads", seen.reads},
      {"writes refused for want of replicas", seen.refused_writes},
      {"crashes", seen.crashes},
      {"power losses", seen.power_losses},
      {"suffixes lost", seen.lost_suffixes},
      {"logs cut", seen.cuts},
      {"logs begun anew", seen.restarts_of_logs},
      {"leaders fenced", seen.fenced_leaders},
      {"seals fenced", seen.fenced_seals},
      {"recoveries", seen.recoveries},
      {"recoveries with a copied suffix", seen.copied},
      {"recoveries given up", seen.aborted},
      {"activations refused", seen.refused_activations},
      {"answers of the metadata log lost", seen.lost_answers},
      {"epochs activated for a node that has forgotten", seen.activated_unknown},
      {"disks wiped", seen.wiped},
      {"wiped disks that have caught up", seen.wiped_caught_up},
      {"replica sets changed", seen.changed_sets},
      {"quorums changed", seen.changed_quorums},
      {"rivals", seen.rivals},
      {"replicas in doubt", seen.doubts},
      {"doubts that ended", seen.doubts_over},
      {"recoveries from what there is", seen.from_what_there_is},
      {"unclean recoveries", seen.unclean},
      {"gaps", seen.gaps},
      {"log starts moved", seen.trims},
  };
  for (const auto& [what, count] : kinds) EXPECT_GT(count, 0U) << what;
  if (std::getenv("PYRALOG_REPLICA_VERBOSE") == nullptr) return;
  for (const auto& [what, count] : kinds) {
    std::printf("%10llu %s\n", static_cast<unsigned long long>(count), what);
  }
}

TEST(ReplicationSim, keeps_its_promises_whatever_fails) {
  std::uint64_t first = 1;
  std::uint64_t last = std::getenv("PYRALOG_SOAK") != nullptr ? 10'000 : 300;
  if (const char* seeds = std::getenv("PYRALOG_REPLICA_SEEDS")) {
    char* rest = nullptr;
    first = last = std::strtoull(seeds, &rest, 10);
    if (*rest == '.') last = std::strtoull(rest + 2, nullptr, 10);
  }
  Seen seen;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    Simulation simulation(seed, seen);
    simulation.run(2'000);
    ASSERT_EQ(simulation.failure(), "");
  }
  std::printf("soak: replication_sim count=%llu seeds=%llu..%llu\n",
              static_cast<unsigned long long>(last - first + 1),
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(last));
  if (last - first >= 99) expect_all_seen(seen);
}

}  // namespace
}  // namespace pyralog::replica::testing
