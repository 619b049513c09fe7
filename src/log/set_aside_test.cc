// What is kept for people: whole or not at all, once, and never written over.
#include "log/set_aside.h"

#include <functional>

#include "log/segment.h"
#include "log/torn_log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

const std::string kFrom = "/data/from";
const std::string kKept = "/data/from.tail";
constexpr std::uint64_t kPosition = 1000;

Bytes content(std::size_t size, std::uint8_t seed = 0) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(i * 31 + i / 256 + seed);
  return bytes;
}

/// Three megabytes and a bit, of which all but a thousand bytes are to be kept.
class SetAside : public ::testing::Test {
 protected:
  SetAside() : sim_(1), node_(sim_.add_node(quiet_disk())) { write(content(3'200'000)); }
  void write(Bytes bytes) {
    node_.run([&]() -> io::Task<void> {
      io::Disk& disk = io::Shard::current().disk();
      (co_await disk.make_dirs("/data")).value();
      (co_await io::replace_file(disk, kFrom, std::move(bytes))).value();
    });
  }
  Result<void> keep() {
    return node_.run([&]() -> io::Task<Result<void>> {
      io::Disk& disk = io::Shard::current().disk();
      PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> from, co_await disk.open(kFrom, io::OpenMode::kRead));
      co_return co_await keep_copy(disk, std::move(from), kPosition, kKept);
    });
  }
  void expect_kept(const std::string& name, const Bytes& whole) {
    const auto kept = node_.disk().peek(name);
    ASSERT_TRUE(kept.has_value()) << name;
    EXPECT_TRUE(std::ranges::equal(*kept, ByteView(whole).subspan(kPosition))) << name;
  }
  std::size_t copies() { return count_files(node_, ".damaged"); }

  Simulator sim_;
  Node& node_;
};

TEST_F(SetAside, a_copy_that_fails_leaves_nothing_however_often_it_is_tried) {
  for (const DiskOp failing : {DiskOp::kWrite, DiskOp::kSync}) {
    for (const DiskFault fault : {DiskFault::kError, DiskFault::kNoSpace}) {
      int calls = 0;
      node_.disk().set_hook([&](DiskOp op, const std::string& path) {
        const bool met = op == failing && path.ends_with(".damaged");
        return met && (failing == DiskOp::kSync || ++calls % 3 == 0) ? fault : DiskFault::kNone;
      });
      for (int i = 0; i < 5; ++i) EXPECT_FALSE(keep().has_value());
      EXPECT_EQ(copies(), 0u);
    }
  }
  node_.disk().set_hook({});
  EXPECT_TRUE(keep().has_value());
  expect_kept(kKept + ".damaged", content(3'200'000));
}

TEST_F(SetAside, what_has_no_room_is_not_begun) {
  node_.disk().options().capacity = 5'000'000;
  std::uint64_t written = 0;
  node_.disk().set_hook([&](DiskOp op, const std::string& path) {
    written += op == DiskOp::kWrite && path.ends_with(".damaged") ? 1 : 0;
    return DiskFault::kNone;
  });
  const auto kept = keep();
  ASSERT_FALSE(kept.has_value());
  EXPECT_TRUE(io::is_no_space(kept.error())) << kept.error().message;
  EXPECT_NE(kept.error().message.find(kFrom), std::string::npos);
  EXPECT_EQ(written, 0u);
  EXPECT_EQ(copies(), 0u);
  node_.disk().options().capacity = 8'000'000;
  EXPECT_TRUE(keep().has_value());
}

TEST_F(SetAside, the_same_is_kept_once_and_another_beside_it) {
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(keep().has_value());
  EXPECT_EQ(copies(), 1u);
  const Bytes other = content(3'200'000, 1);
  write(other);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(keep().has_value());
  EXPECT_EQ(copies(), 2u);
  expect_kept(kKept + ".damaged", content(3'200'000));
  expect_kept(kKept + ".2.damaged", other);
}

TEST_F(SetAside, segments_behind_the_end_of_a_log_are_kept_of_each_incident) {
  const Torn torn = make_torn(node_, 6, 2);
  // A file that the log cannot reach, as a tear in the names of a directory leaves it.
  const std::string path = dir_of(1) + "/" + segment_file_name(Offset(torn.bases.back() + 100), "log");
  for (std::uint8_t incident = 1; incident <= 3; ++incident) {
    Bytes bytes = encode(SegmentHeader{partition(1), Offset(torn.bases.back() + 100), Epoch(1), 5});
    bytes.push_back(incident);
    restart(node_, false);
    Offset end;
    const auto read = node_.run([&]() -> io::Task<Result<Bytes>> {
      (co_await io::replace_file(io::Shard::current().disk(), path, bytes)).value();
      co_return co_await open_and_read(&end, torn.given_out());
    });
    ASSERT_TRUE(read.has_value()) << read.error().message;
    EXPECT_EQ(end, Offset(torn.bases.back()));
    const std::string kept = path + (incident == 1 ? "" : "." + std::to_string(incident)) + ".damaged";
    const auto content = node_.disk().peek(kept);
    ASSERT_TRUE(content.has_value()) << kept;
    EXPECT_EQ(content->back(), incident);
  }
  EXPECT_EQ(copies(), 3u);
  EXPECT_EQ(node_.disk().peek(path + ".damaged")->back(), 1) << "the first one still";
}

TEST(SetAsideNames, say_of_what_they_are) {
  EXPECT_EQ(path_of_damaged("ab-0.damaged"), "ab-0");
  EXPECT_EQ(path_of_damaged("ab-0.12.damaged"), "ab-0");
  EXPECT_EQ(path_of_damaged("ab-0.log.damaged"), "ab-0.log");
  EXPECT_EQ(path_of_damaged("ab-0"), std::nullopt);
  EXPECT_EQ(path_of_damaged(".damaged"), "");
  EXPECT_EQ(path_of_damaged("12.damaged"), "12");
}

}  // namespace
}  // namespace pyralog::log
