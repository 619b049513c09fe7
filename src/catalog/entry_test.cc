#include "catalog/entry.h"

#include <gtest/gtest.h>

#include "catalog/catalog_testing.h"

namespace pyralog::catalog {
namespace {

using namespace testing;

TEST(Entry, has_fixed_bytes) {
  const Bytes bytes = encode_entry(ProducerIdBlock{1, 1000, NodeId(2)});
  EXPECT_EQ(bytes, (Bytes{11,   0, 1, 0, 1, 0,           // type, version, feature level
                          1,    0, 0, 0, 0, 0, 0, 0,     // start
                          0xE8, 3, 0, 0, 2, 0, 0, 0}));  // count, node
}

TEST(Entry, a_newer_one_is_refused_by_its_feature_level) {
  Bytes bytes = encode_entry(ProducerIdBlock{1, 1000, NodeId(2)});
  bytes[0] = 200;
  bytes[4] = 7;
  const auto unknown_type = decode_entry(bytes);
  ASSERT_FALSE(unknown_type);
  EXPECT_EQ(unknown_type.error().code, Code::kUnsupported);
  EXPECT_NE(unknown_type.error().message.find("feature level 7"), std::string::npos);
  bytes[0] = 11;
  bytes[2] = 2;
  bytes[4] = 4;
  const auto newer_form = decode_entry(bytes);
  ASSERT_FALSE(newer_form);
  EXPECT_EQ(newer_form.error().code, Code::kUnsupported);
  EXPECT_NE(newer_form.error().message.find("feature level 4"), std::string::npos);
}

TEST(Entry, is_refused_by_a_node_that_is_pinned_to_an_older_level) {
  for (const Entry& entry :
       {Entry(NodeDraining{NodeId(2), true}), Entry(NodeInvited{NodeId(2), uuid(1), "h", 1}),
        Entry(DiskRetired{NodeId(2), uuid(1)}), Entry(FeatureLevelRaised{3}),
        Entry(CounterBlock{"c", 1, 1}), Entry(NodeRoleSet{NodeId(2), NodeRole::kObelisk})}) {
    const Bytes bytes = encode_entry(entry);
    EXPECT_TRUE(decode_entry(bytes, 3));
    const auto refused = decode_entry(bytes, 2);
    ASSERT_FALSE(refused) << "plant: catalog.read_newer";
    EXPECT_EQ(refused.error().code, Code::kUnsupported);
    EXPECT_NE(refused.error().message.find("--feature-level"), std::string::npos);
  }
  EXPECT_TRUE(decode_entry(encode_entry(PeerRegistered{NodeId(1), uuid(1), "h", 1, 2}), 2));
  // A later level is told by its own number: nobody goes on without understanding it.
  EXPECT_EQ(decode_entry(encode_entry(FeatureLevelRaised{4})).error().code, Code::kUnsupported);
}

TEST(Entry, with_another_level_than_its_type_has_is_damage) {
  Bytes bytes = encode_entry(ProducerIdBlock{1, 1000, NodeId(2)});
  bytes[4] = 2;
  EXPECT_EQ(decode_entry(bytes).error().code, Code::kCorrupt);
  bytes = encode_entry(NodeRemoved{NodeId(2)});
  bytes[4] = 1;
  EXPECT_EQ(decode_entry(bytes).error().code, Code::kCorrupt);
}

TEST(Entry, huge_counts_are_refused_before_anything_is_allocated) {
  Writer out;
  out.le(std::uint16_t{9}).le(std::uint16_t{1}).le(std::uint16_t{1}).le(std::uint32_t{0xFFFFFFFF});
  const auto refused = decode_entry(out.view());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kCorrupt);
}

TEST(Entry, settings_out_of_order_or_twice_are_damage) {
  Writer out;
  out.le(std::uint16_t{7}).le(std::uint16_t{1}).le(std::uint16_t{1}).le(std::uint32_t{2});
  for (int i = 0; i < 2; ++i) out.sized("a").le(std::uint8_t{0});
  EXPECT_FALSE(decode_entry(out.view()));
}

}  // namespace
}  // namespace pyralog::catalog
