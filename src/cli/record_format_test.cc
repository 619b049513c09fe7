#include "cli/record_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pyralog::cli {
namespace {

using ::testing::HasSubstr;

class Printed : public ::testing::Test {
 protected:
  Printed() {
    record_.offset = 7;
    record_.timestamp = 1'700'000'000'123;
    record_.key = as_bytes("ada");
    record_.value = as_bytes("one");
    record_.headers.push_back({"a", as_bytes("1")});
    record_.headers.push_back({"b", std::nullopt});
  }
  std::string text(const std::string& format) const {
    const auto parsed = RecordFormat::parse(format);
    EXPECT_TRUE(parsed) << parsed.error().message;
    std::string out;
    if (parsed) parsed->append(out, {"orders", 2}, record_);
    return out;
  }
  std::string json() const {
    std::string out;
    append_record_json(out, {"orders", 2}, record_);
    return out;
  }
  RecordView record_;
};

TEST_F(Printed, every_token_stands_for_its_part) {
  EXPECT_EQ(text("%t %p %o %T %k %s %h %K %S %%"), "orders 2 7 1700000000123 ada one a=1,b= 3 3 %");
  EXPECT_EQ(text("\\n\\t\\r\\\\\\x41\\x0a|"), "\n\t\r\\A\n|");
  EXPECT_EQ(text(std::string("\\0")), std::string(1, '\0'));
  EXPECT_EQ(text(""), "");
  EXPECT_EQ(text("plain"), "plain");
}

TEST_F(Printed, a_tombstone_prints_nothing_and_has_length_minus_one) {
  record_.value = std::nullopt;
  record_.key = std::nullopt;
  EXPECT_EQ(text("[%k|%s|%K|%S]"), "[||-1|-1]");
  record_.value = as_bytes("");
  EXPECT_EQ(text("%S"), "0");
}

TEST_F(Printed, bytes_are_printed_as_they_are) {
  static constexpr std::uint8_t kBytes[] = {0xff, 0x00, '%', 's'};
  record_.value = ByteView(kBytes);
  EXPECT_EQ(text("%s"), std::string("\xff\0%s", 4));
}

TEST(RecordFormat, a_token_that_there_is_none_of_is_named) {
  for (const char* bad : {"%z", "%", "\\q", "\\", "\\x", "\\x4", "\\xzz", "a%z"}) {
    const auto parsed = RecordFormat::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, Code::kInvalidArgument);
    EXPECT_THAT(parsed.error().message, HasSubstr("--format"));
    EXPECT_THAT(parsed.error().message, HasSubstr("%t %p %o"));
  }
}

TEST_F(Printed, json_is_one_line_and_keeps_what_is_no_utf8_in_base64) {
  EXPECT_EQ(json(),
            "{\"topic\":\"orders\",\"partition\":2,\"offset\":7,\"timestamp\":1700000000123,"
            "\"key\":\"ada\",\"value\":\"one\",\"headers\":[{\"name\":\"a\",\"value\":\"1\"},"
            "{\"name\":\"b\",\"value\":null}]}\n");
  static constexpr std::uint8_t kBytes[] = {0xff, 0xfe, 0x00, 0x01};
  record_.value = ByteView(kBytes);
  record_.key = ByteView(kBytes, 1);
  EXPECT_THAT(json(), HasSubstr("\"key_base64\":\"/w==\",\"value_base64\":\"//4AAQ==\""));
  record_.key = ByteView(kBytes, 2);
  record_.value = ByteView(kBytes, 3);
  EXPECT_THAT(json(), HasSubstr("\"key_base64\":\"//4=\",\"value_base64\":\"//4A\""));
  record_.value = as_bytes("a\n\"\\\xEF\xBF\xBD");
  EXPECT_THAT(json(), HasSubstr("\"value\":\"a\\n\\\"\\\\\xEF\xBF\xBD\""));
  record_.value = std::nullopt;
  EXPECT_THAT(json(), HasSubstr("\"value\":null"));
}

}  // namespace
}  // namespace pyralog::cli
