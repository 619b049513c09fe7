#include "cli/licences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace pyralog::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(Licences, each_is_named_once_with_version_terms_and_text) {
  std::set<std::string> keys;
  for (const Licence& each : licences()) {
    EXPECT_TRUE(keys.insert(each.key).second) << each.key;
    EXPECT_THAT(each.version, MatchesRegex("[0-9]+(\\.[0-9]+)*")) << each.key;
    EXPECT_FALSE(each.id.empty()) << each.key;
    const bool ours = each.key == "pyralog";
    EXPECT_EQ(each.home.starts_with("https://"), !ours) << each.key;
    const LicenceText found = licence_text(each.key);
    EXPECT_EQ(found.package.empty(), ours) << each.key;
    EXPECT_GT(found.text.size(), 500u) << each.key << ": its package brought no copyright file";
    EXPECT_TRUE(found.text.ends_with('\n')) << each.key;
  }
  EXPECT_GE(keys.size(), 15u);
}

TEST(Licences, texts_are_those_that_are_named) {
  EXPECT_THAT(std::string(licence_text("pyralog").text), HasSubstr("MIT No Attribution"));
  const std::string boost(licence_text("boost").text);
  EXPECT_TRUE(boost.starts_with("Boost Software License - Version 1.0")) << boost.substr(0, 80);
  EXPECT_LT(boost.size(), 4'000u) << "the list of its files is not part of it";
  EXPECT_THAT(std::string(licence_text("zstd").text), HasSubstr("Yann Collet"));
  EXPECT_TRUE(licence_text("none").text.empty());
}

}  // namespace
}  // namespace pyralog::cli
