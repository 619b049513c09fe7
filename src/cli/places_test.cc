#include "cli/places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pyralog::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StartPoint, is_a_word_an_offset_or_a_time) {
  using Kind = StartPoint::Kind;
  const auto at = [](const char* text) {
    const auto point = parse_start("from", text);
    EXPECT_TRUE(point) << text;
    return point ? std::pair(point->kind, point->number) : std::pair(Kind::kEnd, std::int64_t{-9});
  };
  EXPECT_EQ(at("beginning").first, Kind::kBeginning);
  EXPECT_EQ(at("end").first, Kind::kEnd);
  EXPECT_EQ(at("0"), std::pair(Kind::kOffset, std::int64_t{0}));
  EXPECT_EQ(at("9223372036854775807"), std::pair(Kind::kOffset, INT64_MAX));
  EXPECT_EQ(at("@1700000000123"), std::pair(Kind::kTime, std::int64_t{1'700'000'000'123}));
  EXPECT_EQ(at("2026-01-31T12:00:00Z"), std::pair(Kind::kTime, std::int64_t{1'769'860'800'000}));
  EXPECT_EQ(at("2026-01-31T12:00:00"), std::pair(Kind::kTime, std::int64_t{1'769'860'800'000}));
  EXPECT_EQ(at("2026-01-31T13:30:00.25+01:30"),
            std::pair(Kind::kTime, std::int64_t{1'769'860'800'250}));
  EXPECT_EQ(at("1970-01-02"), std::pair(Kind::kTime, std::int64_t{86'400'000}));
}

TEST(StartPoint, refuses_what_is_no_place) {
  for (const char* bad : {"", "-1", "@", "@-5", "1.5", "9223372036854775808", "tomorrow",
                          "2026-01-31T12", "2026-01-31 junk", "2026-02-31", "2026-01-31T12:00:00.",
                          "2026-01-31T12:00:00+1", "1969-12-31"}) {
    const auto point = parse_start("from", bad);
    ASSERT_FALSE(point) << bad;
    EXPECT_THAT(point.error().message, HasSubstr("--from"));
  }
}

using To = ResetTarget::Kind;

TEST(ResetTarget, is_an_end_an_offset_a_time_or_a_shift) {
  const auto at = [](const char* text) {
    const auto target = parse_reset(text);
    EXPECT_TRUE(target) << text;
    return target ? std::pair(target->kind, target->number)
                  : std::pair(To::kLatest, std::int64_t{-9});
  };
  EXPECT_EQ(at("earliest"), std::pair(To::kEarliest, std::int64_t{0}));
  EXPECT_EQ(at("latest"), std::pair(To::kLatest, std::int64_t{0}));
  EXPECT_EQ(at("offset 7"), std::pair(To::kOffset, std::int64_t{7}));
  EXPECT_EQ(at("timestamp 1700000000123"), std::pair(To::kTime, std::int64_t{1'700'000'000'123}));
  EXPECT_EQ(at("timestamp 1970-01-02"), std::pair(To::kTime, std::int64_t{86'400'000}));
  EXPECT_EQ(at("shift -5"), std::pair(To::kShift, std::int64_t{-5}));
  EXPECT_EQ(at("shift +5"), std::pair(To::kShift, std::int64_t{5}));
  for (const char* bad : {"", "7", "beginning", "offset", "offset -1", "offset 1x", "offset +1",
                          "timestamp", "timestamp soon", "shift", "shift x", "shift +-1"}) {
    const auto target = parse_reset(bad);
    ASSERT_FALSE(target) << bad;
    EXPECT_THAT(target.error().message, HasSubstr("--to"));
  }
}

TEST(ResetTarget, stays_within_what_the_log_holds) {
  const auto to = [](To kind, std::int64_t number, ResetFrom from) {
    const auto found = reset_to({kind, number}, from);
    return found ? std::pair(found->offset, found->moved) : std::pair(std::int64_t{-9}, false);
  };
  const ResetFrom from{5, 3, 10, 6};
  EXPECT_EQ(to(To::kEarliest, 0, from), std::pair(std::int64_t{3}, false));
  EXPECT_EQ(to(To::kLatest, 0, from), std::pair(std::int64_t{10}, false));
  EXPECT_EQ(to(To::kOffset, 4, from), std::pair(std::int64_t{4}, false));
  EXPECT_EQ(to(To::kOffset, 10, from), std::pair(std::int64_t{10}, false));
  EXPECT_EQ(to(To::kOffset, 11, from), std::pair(std::int64_t{10}, true));
  EXPECT_EQ(to(To::kOffset, 0, from), std::pair(std::int64_t{3}, true));
  EXPECT_EQ(to(To::kShift, -1, from), std::pair(std::int64_t{4}, false));
  EXPECT_EQ(to(To::kShift, -9, from), std::pair(std::int64_t{3}, true));
  EXPECT_EQ(to(To::kShift, INT64_MAX, from), std::pair(std::int64_t{10}, true));
  EXPECT_EQ(to(To::kTime, 1, from), std::pair(std::int64_t{6}, false));
  EXPECT_EQ(to(To::kTime, 1, {5, 3, 10, -1}), std::pair(std::int64_t{10}, false));
  EXPECT_FALSE(reset_to({To::kShift, 1}, {std::nullopt, 3, 10, 6}));
}

TEST(TopicPart, is_a_topic_with_or_without_partitions) {
  EXPECT_EQ(parse_topic_part("t")->topic, "t");
  EXPECT_TRUE(parse_topic_part("t")->partitions.empty());
  EXPECT_THAT(parse_topic_part("t:0,12")->partitions, ElementsAre(0, 12));
  for (const char* bad : {"", ":1", "t:", "t:a", "t:-1", "t:1,", "t:1,,2", "t:9999999999"}) {
    EXPECT_FALSE(parse_topic_part(bad)) << bad;
  }
}

}  // namespace
}  // namespace pyralog::cli
