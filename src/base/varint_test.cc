#include "base/varint.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

namespace pyralog::base {
namespace {

std::optional<std::uint64_t> decode(Bytes bytes) {
  ByteView view(bytes);
  return decode_uvarint64(view);
}

TEST(Varint, known_encodings) {
  Bytes out;
  encode_uvarint(out, 300);
  EXPECT_EQ(out, (Bytes{0xac, 0x02}));
  out.clear();
  encode_varint(out, -1);
  EXPECT_EQ(out, (Bytes{0x01}));
  out.clear();
  encode_varint(out, 64);
  EXPECT_EQ(out, (Bytes{0x80, 0x01}));
}

TEST(Varint, refuses_what_ends_early) {
  EXPECT_FALSE(decode({}));
  EXPECT_FALSE(decode({0x80}));
  EXPECT_FALSE(decode(Bytes(9, 0xff)));
}

TEST(Varint, refuses_what_does_not_fit) {
  Bytes eleven(11, 0x80);
  EXPECT_FALSE(decode(eleven));
  Bytes spilled(9, 0xff);
  spilled.push_back(0x02);
  EXPECT_FALSE(decode(spilled));
  spilled.back() = 0x01;
  EXPECT_EQ(decode(spilled), std::numeric_limits<std::uint64_t>::max());
}

TEST(Varint, of_32_bits_refuses_wider_values_and_does_not_move) {
  const Bytes wide = {0x80, 0x80, 0x80, 0x80, 0x10};
  ByteView in(wide);
  EXPECT_FALSE(decode_uvarint32(in));
  EXPECT_EQ(in.size(), wide.size());
  const Bytes padded = {0x81, 0x80, 0x80, 0x80, 0x80, 0x00};
  in = padded;
  EXPECT_FALSE(decode_uvarint32(in));
}

template <typename T>
T edge_or_any() {
  using Limits = std::numeric_limits<T>;
  return *rc::gen::oneOf(
      rc::gen::arbitrary<T>(),
      rc::gen::element<T>(Limits::min(), Limits::max(), T{0}, T(63), T(64), T(127), T(128)));
}

RC_GTEST_PROP(Varint, unsigned_round_trip, ()) {
  const auto value = edge_or_any<std::uint64_t>();
  Bytes out;
  encode_uvarint(out, value);
  RC_ASSERT(out.size() == uvarint_size(value));
  ByteView in(out);
  RC_ASSERT(decode_uvarint64(in) == value);
  RC_ASSERT(in.empty());
}

RC_GTEST_PROP(Varint, signed_round_trip, ()) {
  const auto value = edge_or_any<std::int64_t>();
  Bytes out;
  encode_varint(out, value);
  RC_ASSERT(out.size() == varint_size(value));
  ByteView in(out);
  RC_ASSERT(decode_varint64(in) == value);
}

RC_GTEST_PROP(Varint, signed_32_bits_round_trip, ()) {
  const auto value = edge_or_any<std::int32_t>();
  Bytes out;
  encode_varint(out, value);
  ByteView in(out);
  RC_ASSERT(decode_varint32(in) == value);
}

}  // namespace
}  // namespace pyralog::base
