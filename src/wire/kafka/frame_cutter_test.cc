#include "wire/kafka/frame_cutter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pyralog::wire::kafka {
namespace {

Bytes framed(std::size_t size, std::uint8_t fill) {
  Bytes out(size + 4, fill);
  store_be(out.data(), static_cast<std::int32_t>(size));
  return out;
}

/// Feeds `stream` in pieces of at most `step` bytes and returns the frames.
std::vector<Bytes> cut(FrameCutter& cutter, ByteView stream, std::size_t step) {
  std::vector<Bytes> frames;
  while (!stream.empty()) {
    const MutableBytes room = cutter.buffer();
    const std::size_t count = std::min({stream.size(), room.size(), step});
    EXPECT_GT(count, 0u);
    std::copy_n(stream.begin(), count, room.begin());
    cutter.advance(count);
    stream = stream.subspan(count);
    for (auto frame = cutter.next(); frame && *frame; frame = cutter.next()) {
      frames.push_back(std::move(**frame));
    }
  }
  return frames;
}

TEST(FrameCutter, cuts_frames_of_all_sizes_from_pieces_of_all_sizes) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Bytes> sent;
    Bytes stream;
    for (int i = 0; i < 20; ++i) {
      const std::size_t size = random() % 8 == 0 ? random() % 5000 : random() % 70;
      const Bytes frame = framed(size, static_cast<std::uint8_t>(i));
      sent.emplace_back(frame.begin() + 4, frame.end());
      stream.insert(stream.end(), frame.begin(), frame.end());
    }
    FrameCutter cutter({.max_frame_bytes = 5000, .read_buffer_bytes = 4 + random() % 100});
    EXPECT_EQ(cut(cutter, stream, 1 + random() % 200), sent);
    EXPECT_TRUE(cutter.at_boundary());
  }
}

TEST(FrameCutter, cuts_a_frame_of_several_megabytes) {
  const Bytes stream = framed(5u << 20, 3);
  FrameCutter cutter({});
  const auto frames = cut(cutter, stream, 100000);
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].size(), 5u << 20);
}

TEST(FrameCutter, makes_room_only_for_what_arrives) {
  FrameCutter cutter({});
  const Bytes stream = framed(90u << 20, 0);
  EXPECT_TRUE(cut(cutter, ByteView(stream).first(100), 100).empty());
  EXPECT_LE(cutter.buffer().size(), 64u << 10);
  EXPECT_EQ(cutter.room(), 64u << 10);
  EXPECT_FALSE(cutter.at_boundary());
}

TEST(FrameCutter, refuses_negative_and_huge_lengths) {
  for (const auto& [length, code] :
       {std::pair{std::int32_t{-1}, Code::kCorrupt}, std::pair{INT32_MIN, Code::kCorrupt},
        std::pair{1001, Code::kTooLarge}, std::pair{0x16030100, Code::kCorrupt}, std::pair{INT32_MAX, Code::kTooLarge}}) {
    FrameCutter cutter({.max_frame_bytes = 1000, .read_buffer_bytes = 64});
    store_be(cutter.buffer().data(), length);
    cutter.advance(4);
    const auto frame = cutter.next();
    ASSERT_FALSE(frame) << length;
    EXPECT_EQ(frame.error().code, code) << length;
  }
}

TEST(FrameCutter, takes_a_frame_of_exactly_the_limit) {
  FrameCutter cutter({.max_frame_bytes = 1000, .read_buffer_bytes = 64});
  EXPECT_EQ(cut(cutter, framed(1000, 1), 7).size(), 1u);
}

}  // namespace
}  // namespace pyralog::wire::kafka
