#include "server/health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace pyralog::server {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kToday = 1'760'000'000'000;

HealthFacts well() {
  HealthFacts facts;
  facts.data_dir = "/data";
  facts.wall = WallMs{kToday};
  facts.open_files = 900;
  facts.max_open_files = 1000;
  return facts;
}

TEST(Health, a_node_that_is_well_has_no_problem) {
  EXPECT_TRUE(problems_in(well()).empty());
  EXPECT_THAT(health_json(true, well(), {}), HasSubstr(R"("status":"ok")"));
  EXPECT_THAT(health_json(false, well(), {}), HasSubstr(R"("status":"starting")"));
}

TEST(Health, each_thing_that_does_not_work_is_told_with_a_remedy) {
  HealthFacts facts = well();
  facts.offline = {{"orders-3", "a sync failed"}};
  facts.writes_refused = "min.free.bytes";
  facts.metadata_failed = "raft.log: a sync failed";
  facts.no_controller = true;
  facts.unreachable = {{2, "connection refused"}, {3, ""}};
  facts.failed_write_ahead = 2;
  facts.damage = {"partition orders-4: byte 7"};
  facts.open_files = 901;
  facts.wall = WallMs{1'000'000};
  facts.clock_jump = -90s;
  const auto problems = problems_in(facts);
  std::set<std::string> kinds;
  for (const Problem& problem : problems) {
    kinds.insert(problem.kind);
    EXPECT_FALSE(problem.what.empty()) << problem.kind;
    EXPECT_FALSE(problem.remedy.empty()) << problem.kind;
  }
  EXPECT_EQ(kinds, std::set<std::string>(kProblemKinds.begin(), kProblemKinds.end()));
  EXPECT_EQ(problems.at(0).kind, "metadata_failed");
  EXPECT_EQ(problems.at(1).kind, "no_controller");
  EXPECT_EQ(problems.at(2).subject, "orders-3");
  EXPECT_THAT(problems.back().what, HasSubstr("moved back by 90 s"));
  const std::string text = health_json(true, facts, problems);
  EXPECT_THAT(text, HasSubstr(R"("status":"degraded")"));
  EXPECT_THAT(text, HasSubstr(R"("offline_partitions":["orders-3: a sync failed"])"));
  EXPECT_THAT(text, HasSubstr(R"("writes_refused":"min.free.bytes")"));
}

TEST(Health, a_warning_is_told_and_stops_nothing) {
  const auto status = [](const HealthFacts& facts) { return health_status(true, problems_in(facts)); };
  HealthFacts facts = well();
  facts.failed_write_ahead = 1;
  facts.damage = {"partition orders-4: byte 7"};
  facts.open_files = 901;
  facts.wall = WallMs{1'000'000};
  facts.clock_jump = 86400s;
  EXPECT_EQ(problems_in(facts).size(), 5u);
  EXPECT_EQ(status(facts), "warning");
  EXPECT_EQ(health_status(false, problems_in(facts)), "starting");
  const std::string text = health_json(true, facts, problems_in(facts));
  EXPECT_THAT(text, HasSubstr(R"("status":"warning")"));
  EXPECT_THAT(text, HasSubstr(R"("severity":"warning")"));
  facts.writes_refused = "min.free.bytes";
  EXPECT_EQ(status(facts), "degraded");
  facts.writes_refused.clear();
  facts.offline = {{"orders-3", "a sync failed"}};
  EXPECT_EQ(status(facts), "degraded");
  EXPECT_THAT(health_json(true, facts, problems_in(facts)), HasSubstr(R"("severity":"stops_service")"));
}

TEST(Health, very_many_problems_of_a_kind_are_not_all_told_one_by_one) {
  HealthFacts facts = well();
  for (int i = 0; i < 1000; ++i) {
    facts.offline.emplace_back("t-" + std::to_string(i), "gone");
    facts.damage.push_back("damage");
  }
  EXPECT_EQ(problems_in(facts).size(), 2 * kMaxProblemsOfAKind);
}

TEST(Health, a_clock_that_was_moved_is_told_for_a_while) {
  ClockWatch watch;
  Instant now{};
  WallMs wall{kToday};
  const auto look = [&](Duration after, Duration moved) {
    now = now + after;
    wall.ms += std::chrono::duration_cast<std::chrono::milliseconds>(after + moved).count();
    return watch.look(wall, now);
  };
  EXPECT_EQ(look(0s, 0s), std::nullopt);
  EXPECT_EQ(look(10s, 4s), std::nullopt) << "it may be slewed";
  EXPECT_EQ(look(1h, 0s), std::nullopt);
  EXPECT_EQ(look(10s, 4s), std::nullopt) << "not over more than an hour";
  EXPECT_EQ(look(10s, -60s), -56s);
  EXPECT_EQ(look(9min, 0s), -56s);
  EXPECT_EQ(look(1min, 0s), std::nullopt);
  EXPECT_EQ(look(10s, 3600s), 3600s);
  HealthFacts facts = well();
  facts.clock_jump = 3600s;
  ASSERT_EQ(problems_in(facts).size(), 1u);
  EXPECT_EQ(problems_in(facts)[0].kind, "clock_jumped");
}

TEST(Health, what_is_no_utf_8_does_no_harm) {
  HealthFacts facts = well();
  facts.offline = {{"t-0", "\xff\xfe"}};
  EXPECT_THAT(health_json(true, facts, problems_in(facts)), HasSubstr("t-0: \xEF\xBF\xBD"));
}

}  // namespace
}  // namespace pyralog::server
