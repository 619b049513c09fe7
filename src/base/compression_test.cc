#include "base/compression.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace pyralog::base {
namespace {

constexpr std::array kCodecs = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4,
                                Codec::kZstd};
constexpr std::array kCompressors = {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
constexpr std::size_t kPlenty = 64u << 20;

Bytes must_compress(Codec codec, ByteView in) {
  auto out = compress(codec, in);
  if (!out) throw std::runtime_error(out.error().message);
  return *out;
}
Bytes text(std::size_t size) {
  Bytes out;
  const std::string line = "the quick brown fox jumps over the lazy dog ";
  for (std::uint32_t i = 0; out.size() < size; ++i) {
    const std::string part = line + std::to_string(i * 2654435761u) + "\n";
    out.insert(out.end(), part.begin(), part.end());
  }
  out.resize(size);
  return out;
}
Bytes join(const Bytes& a, const Bytes& b) {
  Bytes both = a;
  both.insert(both.end(), b.begin(), b.end());
  return both;
}

class EveryCodec : public testing::TestWithParam<Codec> {};
INSTANTIATE_TEST_SUITE_P(Compression, EveryCodec, testing::ValuesIn(kCompressors),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(EveryCodec, round_trip_of_every_size_around_the_blocks) {
  for (const std::size_t size :
       {0u, 1u, 2u, 100u, 32767u, 32768u, 32769u, 65536u, 65537u, 300000u}) {
    const Bytes in = text(size);
    EXPECT_EQ(decompress(GetParam(), must_compress(GetParam(), in), kPlenty), in) << size;
  }
}

/// A batch that is packed again, by a replica or in a replay, must come out the same.
TEST_P(EveryCodec, makes_the_same_of_the_same_wherever_its_state_lies) {
  // Letters that a number of addresses happen to share with the input's start.
  const std::string words = "obtxnuehobtxnuehpcuyovfipcuyovfiqdvzpwgjqdvzpwgjrewqaxhkrewqaxhksfxbr";
  Bytes in = {0xa8, 0x01, 0, 0, 0, 0x01, 0x9a, 0x01, 0x3a, 0x01, 0, 0, 0, 0, 0, 0};
  in.insert(in.end(), words.begin(), words.end());
  in.push_back(0);
  const Bytes first = must_compress(GetParam(), in);
  std::vector<std::unique_ptr<char[]>> held;
  for (int i = 0; i < 3000; ++i) {
    held.emplace_back(new char[90'000]);  // untouched: it only takes the place
    ASSERT_EQ(must_compress(GetParam(), in), first) << "after " << i;
  }
}

TEST_P(EveryCodec, makes_text_smaller) {
  EXPECT_LT(must_compress(GetParam(), text(100000)).size(), 70000u);
}

TEST_P(EveryCodec, stops_at_the_bound_and_not_before) {
  const Bytes in = text(100000);
  const Bytes packed = must_compress(GetParam(), in);
  EXPECT_TRUE(decompress(GetParam(), packed, in.size()).has_value());
  const auto refused = decompress(GetParam(), packed, in.size() - 1);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
}

TEST_P(EveryCodec, refuses_a_bomb) {
  const Bytes packed = must_compress(GetParam(), Bytes(32u << 20, 0));
  const auto refused = decompress(GetParam(), packed, 1u << 20);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
}

TEST_P(EveryCodec, refuses_every_truncation) {
  const Bytes in = text(3000);
  const Bytes packed = must_compress(GetParam(), in);
  for (std::size_t size = 0; size < packed.size(); ++size) {
    const auto out = decompress(GetParam(), ByteView(packed).first(size), kPlenty);
    // snappy-java's framing has no end mark: its bare header is an empty stream.
    if (GetParam() == Codec::kSnappy && size == 16) continue;
    ASSERT_FALSE(out.has_value()) << size;
    EXPECT_EQ(out.error().code, Code::kCorrupt) << out.error().message;
  }
}

TEST_P(EveryCodec, survives_every_bit_flip) {
  const Bytes in = text(600);
  const Bytes packed = must_compress(GetParam(), in);
  for (std::size_t bit = 0; bit < packed.size() * 8; ++bit) {
    Bytes bad = packed;
    bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1u << (bit % 8)));
    const auto out = decompress(GetParam(), bad, 1u << 20);
    // gzip carries a CRC over its data, the others leave that to the batch's own.
    if (GetParam() == Codec::kGzip && out && bit / 8 >= 10) EXPECT_EQ(*out, in) << bit;
  }
}

TEST_P(EveryCodec, reads_several_frames_in_a_row) {
  if (GetParam() == Codec::kSnappy) {
    const Bytes two =
        join(must_compress(Codec::kSnappy, text(50000)), must_compress(Codec::kSnappy, text(70)));
    EXPECT_EQ(decompress(Codec::kSnappy, two, kPlenty), join(text(50000), text(70)));
    return;
  }
  const Bytes two = join(must_compress(GetParam(), text(5000)), must_compress(GetParam(), text(7)));
  EXPECT_EQ(decompress(GetParam(), two, kPlenty), join(text(5000), text(7)));
}

TEST_P(EveryCodec, refuses_bytes_after_the_end) {
  const Bytes packed = join(must_compress(GetParam(), text(500)), Bytes{1, 2, 3});
  const auto out = decompress(GetParam(), packed, kPlenty);
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, Code::kCorrupt);
}

TEST(Compression, none_copies_and_keeps_the_bound) {
  EXPECT_EQ(decompress(Codec::kNone, text(10), 10), text(10));
  EXPECT_FALSE(decompress(Codec::kNone, text(11), 10).has_value());
}

TEST(Compression, a_codec_that_kafka_has_not_is_refused) {
  EXPECT_FALSE(compress(static_cast<Codec>(5), text(3)).has_value());
  EXPECT_FALSE(decompress(static_cast<Codec>(7), text(3), 10).has_value());
  EXPECT_STREQ(name(Codec::kZstd), "zstd");
}

// Bytes from the format's description: a literal of five bytes.
TEST(Snappy, reads_raw_data_as_librdkafka_writes_it) {
  const Bytes raw = {5, (5 - 1) << 2, 'h', 'e', 'l', 'l', 'o'};
  EXPECT_EQ(decompress(Codec::kSnappy, raw, 100), (Bytes{'h', 'e', 'l', 'l', 'o'}));
}

TEST(Snappy, writes_the_framing_of_snappy_java) {
  const Bytes packed = must_compress(Codec::kSnappy, as_bytes("hello"));
  const Bytes expected = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0,    0,   0,   0,   1,   0,  0,
                          0,    1,   0,   0,   0,   7,   5,   0x10, 'h', 'e', 'l', 'l', 'o'};
  EXPECT_EQ(packed, expected);
}

TEST(Snappy, does_not_believe_an_impossible_length) {
  const Bytes lie = {0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'x'};
  const auto out = decompress(Codec::kSnappy, lie, SIZE_MAX);
  ASSERT_FALSE(out.has_value());
  EXPECT_EQ(out.error().code, Code::kCorrupt);
}

TEST(Zstd, a_window_beyond_the_bound_asks_for_more_room_and_is_no_damage) {
  // A frame without a size that wants a window of 2^25 bytes, and one raw block: what streaming
  // encoders write at high levels, however little it holds.
  const Bytes frame{0x28, 0xb5, 0x2f, 0xfd, 0x00, (25 - 10) << 3, (3 << 3) | 1, 0, 0, 'a', 'b', 'c'};
  EXPECT_EQ(decompress(Codec::kZstd, frame, 128u << 10).error().code, Code::kTooLarge);
  EXPECT_EQ(decompress(Codec::kZstd, frame, 100u << 20).value(), (Bytes{'a', 'b', 'c'}));
  Bytes greater = frame;
  greater[5] = (28 - 10) << 3;
  EXPECT_EQ(decompress(Codec::kZstd, greater, 100u << 20).error().code, Code::kCorrupt);
}

TEST(Lz4, writes_independent_blocks_of_64_kib) {
  const Bytes packed = must_compress(Codec::kLz4, text(100));
  EXPECT_EQ(load_le<std::uint32_t>(packed.data()), 0x184d2204u);
  EXPECT_EQ(packed[4] & 0xe0, 0x60) << "version 01, independent blocks";
  EXPECT_EQ(packed[5] & 0x70, 0x40) << "64 KiB";
}

RC_GTEST_PROP(Compression, round_trip, (const Bytes& seed)) {
  const Codec codec = *rc::gen::elementOf(kCodecs);
  const auto repeats = *rc::gen::inRange<std::size_t>(1, 300);
  Bytes in;
  for (std::size_t i = 0; i < repeats; ++i) in.insert(in.end(), seed.begin(), seed.end());
  const auto packed = compress(codec, in);
  RC_ASSERT(packed.has_value());
  const auto back = decompress(codec, *packed, in.size());
  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == in);
}

RC_GTEST_PROP(Compression, damage_is_an_error_or_harmless_but_bounded, (const Bytes& seed)) {
  const Codec codec = *rc::gen::elementOf(kCompressors);
  Bytes packed = must_compress(codec, seed);
  const auto changes = *rc::gen::inRange(1, 6);
  for (int i = 0; i < changes && !packed.empty(); ++i) {
    packed[*rc::gen::inRange<std::size_t>(0, packed.size())] = *rc::gen::arbitrary<std::uint8_t>();
  }
  const auto out = decompress(codec, packed, 4096);
  if (out) RC_ASSERT(out->size() <= 4096u);
}

RC_GTEST_PROP(Compression, noise_never_crashes, (const Bytes& noise)) {
  for (const Codec codec : kCompressors) {
    const auto out = decompress(codec, noise, 4096);
    if (out) RC_ASSERT(out->size() <= 4096u);
  }
}

}  // namespace
}  // namespace pyralog::base
