#include "observe/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <vector>

namespace pyralog::observe {
namespace {

constexpr WallMs kTime{1'767'225'600'123};

class Log : public testing::Test {
 protected:
  Log() {
    capture_log([this](const std::string& line) { lines_.push_back(line); });
  }
  ~Log() override {
    capture_log({});
    set_log_level(Level::kWarn);
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, a_text_line_names_time_level_event_and_fields) {
  const std::string name = "two words";
  EXPECT_EQ(format_line(false, kTime, Level::kWarn, "log.slow",
                        {{"n", 3},
                         {"u", 7U},
                         {"r", 0.5},
                         {"ok", true},
                         {"t", "plain"},
                         {"w", name},
                         {"e", ""},
                         {"q", "a\"b\\\n"}}),
            "2026-01-01T00:00:00.123Z WARN log.slow n=3 u=7 r=0.5 ok=true t=plain w=\"two words\" "
            "e=\"\" q=\"a\\\"b\\\\\\n\"");
}

TEST_F(Log, a_json_line_is_json) {
  const Error error{Code::kIo, "bad \x01", 5};
  EXPECT_EQ(
      format_line(true, kTime, Level::kError, "x", {{"n", -3}, {"t", "a b"}, {"e", error}}, 2),
      "{\"time\":\"2026-01-01T00:00:00.123Z\",\"level\":\"error\",\"event\":\"x\",\"n\":-3,"
      "\"t\":\"a b\",\"e\":\"bad \\u0001\",\"suppressed\":2}");
}

TEST_F(Log, what_a_client_calls_itself_moves_no_terminal_and_breaks_no_reader) {
  // Not UTF-8, an escape, and a control that is one in UTF-8 only.
  const std::string name =
      "a\xff\x9b"
      "2J\x1b[2J\xc2\x9b"
      "2J\xc3\xa9";
  for (const bool json : {false, true}) {
    const std::string line = format_line(json, kTime, Level::kWarn, "x", {{"client_id", name}});
    EXPECT_EQ(line.find('\x1b'), std::string::npos);
    EXPECT_EQ(line.find('\x9b'), std::string::npos);
    EXPECT_EQ(line.find('\xff'), std::string::npos);
    EXPECT_NE(line.find("\\u009b2J\xc3\xa9\""), std::string::npos) << line;
  }
}

TEST_F(Log, lines_below_the_level_are_left_out) {
  set_log_level(Level::kInfo);
  log_debug("a");
  log_info("b");
  log_error("c");
  ASSERT_EQ(lines_.size(), 2U);
  EXPECT_TRUE(lines_[0].ends_with(" INFO b"));
  EXPECT_TRUE(lines_[1].ends_with(" ERROR c"));
}

TEST_F(Log, errors_of_one_place_are_bounded) {
  for (int i = 0; i < 500; ++i) log_error("flood");
  EXPECT_GE(lines_.size(), 10U);
  EXPECT_LE(lines_.size(), 30U);  // the second may turn meanwhile
  log_error("another place");
  EXPECT_TRUE(lines_.back().ends_with("another place"));
}

TEST_F(Log, the_thread_writes_everything_in_order) {
  capture_log({});
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  start_logging({Level::kInfo, false, ends[1]});
  std::string read;
  std::thread reader([&] {
    std::array<char, 4096> buffer{};
    ssize_t got = 0;
    while ((got = ::read(ends[0], buffer.data(), buffer.size())) > 0) {
      read.append(buffer.data(), static_cast<std::size_t>(got));
    }
  });
  for (int i = 0; i < 2000; ++i) log_info("line", {{"i", i}});
  stop_logging();
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  std::size_t at = 0;
  for (int i = 0; i < 2000; ++i) {
    at = read.find("line i=" + std::to_string(i) + "\n", at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_EQ(dropped_lines(), 0U);
}

}  // namespace
}  // namespace pyralog::observe
