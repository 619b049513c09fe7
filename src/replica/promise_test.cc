#include "replica/promise.h"

#include <gtest/gtest.h>

namespace pyralog::replica {
namespace {

PromiseFrame frame() {
  PromiseFrame made;
  made.partition.topic.uuid.bytes[3] = 9;
  made.partition.partition = PartitionIndex(4);
  made.promise = {Epoch(7), Epoch(5), Epoch(3), true};
  return made;
}

TEST(Promise, is_read_as_it_was_written) {
  EXPECT_EQ(decode_promise(encode(frame())), frame());
}

TEST(Promise, refuses_damage_and_newer_forms) {
  const Bytes whole = encode(frame());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(decode_promise(ByteView(whole).first(size))) << size;
  }
  Bytes longer = whole;
  longer.push_back(0);
  EXPECT_EQ(decode_promise(longer).error().code, Code::kCorrupt);
  Bytes newer = whole;
  newer[0] = 3;
  EXPECT_EQ(decode_promise(newer).error().code, Code::kUnsupported);
  Bytes doubtful = whole;
  doubtful.back() = 2;
  EXPECT_EQ(decode_promise(doubtful).error().code, Code::kCorrupt);
  PromiseFrame emptied = frame();
  emptied.promise.emptied = true;
  EXPECT_EQ(decode_promise(encode(emptied)), emptied);
  EXPECT_EQ(encode(emptied).front(), 2) << "an older build says that it needs a newer one";
  emptied.promise.in_doubt = false;
  EXPECT_EQ(decode_promise(encode(emptied)).error().code, Code::kCorrupt);
  PromiseFrame joined = frame();
  joined.promise.joined = Epoch(8);
  EXPECT_EQ(decode_promise(encode(joined)).error().code, Code::kCorrupt) << "without a promise";
}

}  // namespace
}  // namespace pyralog::replica
