// Damage to the files of a log: a torn tail is cut, what had been durable is refused by name.
#include <cstdlib>
#include <random>

#include "base/crc32c.h"
#include "log/torn_log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::Node;
using io::sim::Simulator;

/// Rounds of the test that flips every byte; each has a log of its own.
std::uint64_t rounds() {
  return std::getenv("PYRALOG_SOAK") == nullptr ? 10 : 300;
}

/// What recovery makes of the log after one byte of it was flipped.
void judge_flip(const Torn& torn, std::size_t file, std::uint64_t at, const Result<Bytes>& read,
                Offset end) {
  const std::string& path = torn.files[file];
  if (file + 1 < torn.files.size() || at < torn.synced_position) {
    ASSERT_FALSE(read.has_value()) << path << " byte " << at;
    ASSERT_EQ(read.error().code, Code::kCorrupt) << read.error().message;
    ASSERT_NE(read.error().message.find(path.substr(path.rfind('/') + 1)), std::string::npos)
        << read.error().message;
    return;
  }
  // The tail ends before the batch that was hit.
  std::size_t hit = torn.synced;
  std::uint64_t from = torn.synced_position;
  while (from + torn.batches[hit].size() <= at) from += torn.batches[hit++].size();
  ASSERT_TRUE(read.has_value()) << "byte " << at << ": " << read.error().message;
  ASSERT_EQ(end, Offset(torn.bases[hit])) << "byte " << at - from << " of the batch";
  ASSERT_EQ(*read, torn.first(hit));
}

TEST(torn_write, every_flipped_byte_is_cut_or_refused_by_name) {
  for (std::uint64_t round = 1; round <= rounds(); ++round) {
    SCOPED_TRACE(round);
    Simulator sim(round);
    Node& node = sim.add_node(quiet_disk());
    std::mt19937_64 rng(round);
    const Torn torn =
        make_torn(node, 14 + rng() % 4, 1 + rng() % 3, [&](std::uint64_t n) { return rng() % n; });
    ASSERT_GE(torn.files.size(), 2u);
    // All of the tail and what is next to it, a sample of what lies below.
    const std::uint64_t near =
        torn.synced_position - std::min<std::uint64_t>(torn.synced_position, 100);
    const std::uint64_t stride = round == 1 ? 1 : 5 + rng() % 7;
    for (std::size_t f = 0; f < torn.files.size(); ++f) {
      const bool last = f + 1 == torn.files.size();
      for (std::uint64_t at = 0; at < torn.contents[f].size();
           at += last && at >= near ? 1 : stride) {
        Offset end;
        const auto mask = static_cast<std::uint8_t>(1u << rng() % 8);
        const auto read = node.run([&]() -> io::Task<Result<Bytes>> {
          PYRALOG_CO_TRY(co_await restore(io::Shard::current().disk(), torn));
          PYRALOG_CO_TRY(node.disk().corrupt(torn.files[f], at, mask));
          co_return co_await open_and_read(&end, torn.given_out());
        });
        judge_flip(torn, f, at, read, end);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(torn_write, every_length_is_cut_or_refused) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 10, 3);
  const Bytes& last = torn.contents.back();
  for (std::uint64_t length = 0; length < last.size(); ++length) {
    Offset end;
    const auto read = node.run([&]() -> io::Task<Result<Bytes>> {
      PYRALOG_CO_TRY(co_await restore(io::Shard::current().disk(), torn));
      Bytes part(last.begin(), last.begin() + static_cast<std::ptrdiff_t>(length));
      PYRALOG_CO_TRY(
          co_await io::replace_file(io::Shard::current().disk(), torn.files.back(), part));
      co_return co_await open_and_read(&end);
    });
    ASSERT_EQ(read.has_value(), length >= torn.synced_position) << length;
    if (read) ASSERT_GE(end.value, torn.acknowledged());
    if (!read) ASSERT_EQ(read.error().code, Code::kCorrupt);
  }
}

TEST(torn_write, after_a_clean_stop_damage_is_found_at_the_first_read) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet_disk());
  std::vector<Bytes> batches;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), small_segments())).value();
    for (int i = 0; i < 25; ++i) {
      batches.push_back(batch(i, 1 + static_cast<std::uint32_t>(i / 10), 1, 5, 100));
      (void)(co_await append(*log, batches.back())).value();
    }
    (co_await shard->close()).value();
  });
  const Bytes whole = join(batches);
  std::uint64_t refused = 0;
  for (const std::string& path : node.disk().files()) {
    if (!path.starts_with(dir_of(1))) continue;
    const Bytes content = node.disk().peek(path).value();
    for (std::uint64_t at = 0; at < content.size(); ++at) {
      ASSERT_TRUE(node.disk().corrupt(path, at, 0x04).has_value());
      Offset end;
      const auto read = node.run([&] { return open_and_read(&end); });
      ASSERT_TRUE(node.disk().corrupt(path, at, 0x04).has_value());
      if (path.ends_with(".log")) {
        ASSERT_FALSE(read.has_value()) << path << " byte " << at;
        ASSERT_EQ(read.error().code, Code::kCorrupt) << read.error().message;
        ++refused;
      } else {
        // Indexes are never evidence, whatever is in them.
        ASSERT_TRUE(read.has_value()) << path << " byte " << at << read.error().message;
        ASSERT_EQ(*read, whole) << path << " byte " << at;
      }
    }
  }
  EXPECT_GT(refused, whole.size() - 1);
}

TEST(torn_write, what_lies_before_damage_is_read) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  std::vector<Bytes> batches;
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    for (int i = 0; i < 8; ++i) {
      batches.push_back(batch(i, 1, 1, 5, 100));
      (void)(co_await append(*log, batches.back())).value();
    }
    (co_await shard->close()).value();
  });
  for (const std::string& path : node.disk().files()) {
    if (!path.starts_with(dir_of(1)) || !path.ends_with(".log")) continue;
    const std::uint64_t size = node.disk().peek(path)->size();
    ASSERT_TRUE(node.disk().corrupt(path, size - 2 * batches[0].size() - 10, 0x04).has_value());
  }
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), {})).value();
    ReadLimits limits;
    limits.max_bytes = 1u << 20;
    limits.upto = log->end_offset();
    const auto before = (co_await log->read(Offset(0), limits)).value();
    EXPECT_EQ(before.next, Offset(5));
    EXPECT_EQ(before.bytes, 5 * batches[0].size());
    const auto there = co_await log->read(Offset(5), limits);
    EXPECT_EQ(there.error().code, Code::kCorrupt);
    EXPECT_TRUE(log->damage());
    (void)co_await shard->close();
  });
}

TEST(torn_write, a_missing_segment_or_a_stranger_in_its_place_is_refused) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 30, 0);
  ASSERT_GE(torn.files.size(), 3u);
  Offset end;
  for (std::size_t f = 0; f < torn.files.size(); ++f) {
    const auto missing = node.run([&]() -> io::Task<Result<Bytes>> {
      PYRALOG_CO_TRY(co_await io::Shard::current().disk().remove(torn.files[f]));
      co_return co_await open_and_read(&end);
    });
    EXPECT_EQ(missing.error().code, Code::kCorrupt) << f;
    (void)node.run([&] { return io::replace_file(node.disk(), torn.files[f], torn.contents[f]); });
  }
  const auto swapped = node.run([&]() -> io::Task<Result<Bytes>> {
    PYRALOG_CO_TRY(co_await io::replace_file(node.disk(), torn.files.back(), torn.contents[0]));
    co_return co_await open_and_read(&end);
  });
  EXPECT_EQ(swapped.error().code, Code::kCorrupt);
}

TEST(torn_write, newer_versions_are_refused_by_file_and_version) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet_disk());
  const Torn torn = make_torn(node, 3, 0);
  Bytes bytes = torn.contents[0];
  bytes[8] = 2;
  store_le(&bytes[60], crc32c(ByteView(bytes).first(60)));
  Offset end;
  const auto read = node.run([&]() -> io::Task<Result<Bytes>> {
    PYRALOG_CO_TRY(co_await io::replace_file(node.disk(), torn.files[0], bytes));
    co_return co_await open_and_read(&end);
  });
  EXPECT_EQ(read.error().code, Code::kUnsupported);
  EXPECT_NE(read.error().message.find(torn.files[0]), std::string::npos);
  EXPECT_NE(read.error().message.find("version 2"), std::string::npos);
}

}  // namespace
}  // namespace pyralog::log
