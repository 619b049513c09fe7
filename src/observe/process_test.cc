#include "observe/process.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <vector>

namespace pyralog::observe {
namespace {

TEST(ProcessStats, tell_what_this_process_takes) {
  const ProcessStats before = process_stats();
  EXPECT_GT(before.resident_bytes, 1u << 20);
  EXPECT_GE(before.virtual_bytes, before.resident_bytes);
  EXPECT_GE(before.cpu_seconds, 0);
  EXPECT_GE(before.max_open_files, before.open_files);
  using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
  std::vector<File> files;
  for (int i = 0; i < 5; ++i) files.emplace_back(std::fopen("/dev/null", "r"), &std::fclose);
  EXPECT_EQ(process_stats().open_files, before.open_files + 5);
}

}  // namespace
}  // namespace pyralog::observe
