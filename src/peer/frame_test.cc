#include "peer/frame.h"

#include <gtest/gtest.h>

#include <random>

namespace pyralog::peer {
namespace {

Bytes frame_of(std::uint64_t correlation, std::size_t body_bytes) {
  const RawHeader raw =
      encode(Header{static_cast<std::uint32_t>(body_bytes), 20, 0, correlation, 0});
  Bytes bytes(raw.begin(), raw.end());
  bytes.resize(kHeaderBytes + body_bytes, static_cast<std::uint8_t>(correlation));
  bytes.resize(bytes.size() + sizeof(Mac), static_cast<std::uint8_t>(correlation + 1));
  return bytes;
}

void feed(FrameReader& reader, ByteView& stream, std::size_t most) {
  const MutableBytes room = reader.buffer();
  ASSERT_FALSE(room.empty());
  const std::size_t count = std::min({stream.size(), room.size(), most});
  std::copy_n(stream.begin(), count, room.begin());
  reader.advance(count);
  stream = stream.subspan(count);
}

TEST(PeerFrame, a_header_is_read_as_it_was_written) {
  const Header header{77, 20, 3, 0x0102030405060708, kReply | kFailed};
  const RawHeader raw = encode(header);
  EXPECT_EQ(parse_header(raw).value(), header);
  EXPECT_EQ(raw[3], 77) << "network order";
  EXPECT_EQ(raw[8], 1);
  for (std::size_t at = 0; at < raw.size(); ++at) {
    RawHeader bad = raw;
    bad[at] = static_cast<std::uint8_t>(bad[at] ^ 4U);
    EXPECT_EQ(parse_header(bad).error().code, Code::kCorrupt) << at;
  }
  EXPECT_EQ(parse_header(encode(Header{0, 20, 0, 1, 8})).error().code, Code::kUnsupported);
}

TEST(PeerFrame, frames_are_cut_however_they_come) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 200; ++round) {
    FrameReader reader({.max_body_bytes = 10'000, .block_bytes = 64 + random() % 400});
    Bytes all;
    std::vector<std::size_t> sizes;
    for (std::uint64_t i = 0; i < 30; ++i) {
      sizes.push_back(random() % (random() % 4 == 0 ? 3000 : 100));
      const Bytes frame = frame_of(i, sizes.back());
      all.insert(all.end(), frame.begin(), frame.end());
    }
    ByteView stream = all;
    std::vector<Frame> frames;  // kept, so no block may be used again
    while (true) {
      auto next = reader.next();
      ASSERT_TRUE(next) << next.error().message;
      if (*next) {
        frames.push_back(std::move(**next));
      } else if (stream.empty()) {
        break;
      } else {
        feed(reader, stream, 1 + random() % 500);
      }
    }
    ASSERT_EQ(frames.size(), sizes.size());
    for (std::size_t i = 0; i < frames.size(); ++i) {
      EXPECT_EQ(frames[i].header.correlation, i);
      EXPECT_EQ(frames[i].raw, encode(frames[i].header));
      ASSERT_EQ(frames[i].body.size(), sizes[i]);
      for (const std::uint8_t byte : frames[i].body.view())
        ASSERT_EQ(byte, static_cast<std::uint8_t>(i));
      for (const std::uint8_t byte : frames[i].mac)
        ASSERT_EQ(byte, static_cast<std::uint8_t>(i + 1));
    }
  }
}

TEST(PeerFrame, many_small_frames_come_with_one_read) {
  FrameReader reader({});
  Bytes all;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const Bytes frame = frame_of(i, 40);
    all.insert(all.end(), frame.begin(), frame.end());
  }
  ByteView stream = all;
  feed(reader, stream, all.size());
  EXPECT_TRUE(stream.empty());
  int frames = 0;
  while (reader.next().value()) ++frames;
  EXPECT_EQ(frames, 1000);
}

TEST(PeerFrame, in_a_row_of_long_frames_no_body_is_copied) {
  FrameReader reader({.max_body_bytes = 1u << 20, .block_bytes = 4096});
  Bytes all;
  for (std::uint64_t i = 0; i < 5; ++i) {
    const Bytes frame = frame_of(i, 500'000);
    all.insert(all.end(), frame.begin(), frame.end());
  }
  ByteView stream = all;
  std::vector<SharedBytes> bodies;
  const std::uint8_t* first_place = nullptr;
  while (bodies.size() < 5) {
    auto next = reader.next();
    ASSERT_TRUE(next);
    if (*next) {
      if (!bodies.empty())
        EXPECT_EQ((*next)->body.data(), first_place) << "it was read where it stays";
      bodies.push_back((*next)->body);
      first_place = nullptr;
      continue;
    }
    const MutableBytes room = reader.buffer();
    if (room.size() > kHeaderBytes && first_place == nullptr) first_place = room.data();
    feed(reader, stream, 70'000);
  }
  EXPECT_TRUE(stream.empty());
}

TEST(PeerFrame, a_block_is_used_again_once_nobody_has_a_part_of_it) {
  FrameReader reader({.max_body_bytes = 1000, .block_bytes = 4096});
  const Bytes bytes = frame_of(1, 100);
  const std::uint8_t* place = nullptr;
  for (int i = 0; i < 100; ++i) {
    ByteView stream = bytes;
    feed(reader, stream, bytes.size());
    const Frame frame = std::move(*reader.next().value());
    if (place != nullptr) EXPECT_EQ(frame.body.data(), place);
    place = frame.body.data();
    EXPECT_FALSE(reader.next().value());
  }
}

TEST(PeerFrame, a_longer_frame_than_allowed_is_refused_before_there_is_room_for_it) {
  FrameReader reader({.max_body_bytes = 1000, .block_bytes = 4096});
  const RawHeader raw = encode(Header{1001, 20, 0, 0, 0});
  ByteView stream = raw;
  feed(reader, stream, raw.size());
  EXPECT_EQ(reader.next().error().code, Code::kTooLarge);
}

}  // namespace
}  // namespace pyralog::peer
