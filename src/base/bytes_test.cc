#include "base/bytes.h"

#include <gtest/gtest.h>

namespace pyralog::base {
namespace {

TEST(Reader, reads_back_what_writer_wrote) {
  Writer writer;
  writer.le<std::uint16_t>(0x0102).be<std::int32_t>(-2).sized("name").le<std::uint64_t>(7);
  EXPECT_EQ(writer.view()[0], 0x02);
  EXPECT_EQ(writer.view()[2], 0xff);
  Reader reader(writer.view());
  EXPECT_EQ(reader.le<std::uint16_t>(), 0x0102);
  EXPECT_EQ(reader.be<std::int32_t>(), -2);
  EXPECT_EQ(reader.sized_text(), "name");
  EXPECT_EQ(reader.le<std::uint64_t>(), 7u);
  EXPECT_TRUE(reader.done());
}

TEST(Reader, stays_failed_after_a_read_past_the_end) {
  const Bytes three = {1, 2, 3};
  Reader reader(three);
  EXPECT_EQ(reader.le<std::uint32_t>(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.le<std::uint8_t>(), 0u);
  EXPECT_EQ(reader.left(), 0u);
  EXPECT_FALSE(reader.done());
}

TEST(Reader, does_not_believe_a_length) {
  const Bytes huge = {0xff, 0xff, 0xff, 0xff, 1};
  Reader reader(huge);
  EXPECT_TRUE(reader.sized().empty());
  EXPECT_FALSE(reader.ok());
}

TEST(SharedBytes, a_slice_outlives_the_whole) {
  SharedBytes part;
  {
    const SharedBytes whole(Bytes{1, 2, 3, 4});
    part = whole.slice(1, 2);
  }
  EXPECT_EQ(Bytes(part.view().begin(), part.view().end()), (Bytes{2, 3}));
}

}  // namespace
}  // namespace pyralog::base
