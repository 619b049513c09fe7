#include "base/crc32c.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace pyralog::base {
namespace {

// RFC 3720, appendix B.4.
TEST(Crc32c, matches_the_vectors_of_rfc_3720) {
  EXPECT_EQ(crc32c(Bytes(32, 0x00)), 0x8a9136aau);
  EXPECT_EQ(crc32c(Bytes(32, 0xff)), 0x62a8ab43u);
  Bytes up(32);
  Bytes down(32);
  for (std::uint8_t i = 0; i < 32; ++i) {
    up[i] = i;
    down[i] = static_cast<std::uint8_t>(31 - i);
  }
  EXPECT_EQ(crc32c(up), 0x46dd794eu);
  EXPECT_EQ(crc32c(down), 0x113fdb5cu);
  Bytes read_command(48, 0);
  read_command[0] = 0x01;
  read_command[1] = 0xc0;
  read_command[16] = 0x14;
  read_command[22] = 0x04;
  read_command[27] = 0x14;
  read_command[31] = 0x18;
  read_command[32] = 0x28;
  read_command[40] = 0x02;
  EXPECT_EQ(crc32c(read_command), 0xd9963a56u);
}

TEST(Crc32c, of_the_check_string_and_of_nothing) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xe3069283u);
  EXPECT_EQ(crc32c({}), 0u);
}

RC_GTEST_PROP(Crc32c, continues_where_it_stopped, (const Bytes& a, const Bytes& b)) {
  Bytes both = a;
  both.insert(both.end(), b.begin(), b.end());
  RC_ASSERT(crc32c(both) == crc32c(b, crc32c(a)));
}

}  // namespace
}  // namespace pyralog::base
