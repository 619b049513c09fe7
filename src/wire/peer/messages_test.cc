// Every message at every version, by generated random values.
#include <gtest/gtest.h>

#include <set>

#include "wire/peer/gen/append.h"
#include "wire/peer/gen/raft_messages.h"
#include "wire/peer/message.h"
#include "wire/peer/testing.h"

namespace pyralog::wire::peer::testing {
namespace {

constexpr int kRounds = 200;

std::string where(const AnyMessage& message, int round) {
  return std::string(message.info.name) + " round " + std::to_string(round);
}

template <typename Check>
void at_every_version(Check check) {
  for (const AnyMessage& message : all_messages()) {
    for (int v = message.info.min_version; v <= message.info.max_version; ++v) {
      check(message, static_cast<std::int16_t>(v));
    }
  }
}

TEST(PeerMessages, survive_the_round_trip_at_every_version) {
  at_every_version([](const AnyMessage& message, std::int16_t version) {
    for (int round = 0; round < kRounds; ++round) {
      Random random(static_cast<std::uint64_t>(version * 1000 + round));
      const auto bytes = message.make(random, version);
      ASSERT_TRUE(bytes) << where(message, round) << ": " << bytes.error().message;
      const auto again = message.recode(*bytes, version, {});
      ASSERT_TRUE(again && *again == *bytes) << where(message, round);
    }
  });
}

TEST(PeerMessages, refuse_every_truncation_and_any_extra_byte) {
  at_every_version([](const AnyMessage& message, std::int16_t version) {
    Random random(7);
    auto bytes = message.make(random, version);
    ASSERT_TRUE(bytes);
    for (std::size_t keep = 0; keep < bytes->size(); ++keep) {
      const auto cut = message.recode(ByteView(*bytes).first(keep), version, {});
      ASSERT_FALSE(cut) << where(message, static_cast<int>(keep));
      ASSERT_EQ(cut.error().code, Code::kCorrupt) << cut.error().message;
    }
    bytes->push_back(0);
    const auto longer = message.recode(*bytes, version, {});
    ASSERT_FALSE(longer) << where(message, 0);
    ASSERT_EQ(longer.error().code, Code::kCorrupt);
  });
}

TEST(PeerMessages, skip_fields_of_a_later_version) {
  at_every_version([](const AnyMessage& message, std::int16_t version) {
    Random random(11);
    Bytes bytes;
    // A message without tagged fields of its own ends with their count, 0.
    do {
      bytes = message.make(random, version).value();
    } while (bytes.back() != 0);
    const Bytes before = bytes;
    bytes.back() = 1;
    bytes.insert(bytes.end(), {100, 3, 7, 7, 7});  // tag 100, three bytes
    const auto again = message.recode(bytes, version, {});
    ASSERT_TRUE(again) << where(message, 0) << ": " << again.error().message;
    ASSERT_EQ(*again, before);
  });
}

TEST(PeerMessages, are_flexible_from_version_0_so_that_fields_can_come) {
  for (const AnyMessage& message : all_messages()) {
    EXPECT_EQ(message.info.flexible_from, 0) << message.info.name;
    EXPECT_EQ(message.info.min_version, 0) << message.info.name;
  }
  std::set<Kind> kinds;
  for (const KindInfo& kind : kKinds) EXPECT_TRUE(kinds.insert(kind.key).second) << kind.name;
}

TEST(PeerMessages, withstand_mutated_bytes_within_their_memory_limit) {
  Random random(2026);
  for (int round = 0; round < 20000; ++round) {
    Bytes input = peer::testing::make_input(random);
    for (std::uint64_t n = random.below(5); n != 0; --n) {
      input[random.below(input.size())] = static_cast<std::uint8_t>(random.below(256));
    }
    peer::testing::try_input(input);
  }
}

TEST(PeerMessages, are_refused_where_a_count_would_take_more_memory_than_allowed) {
  RaftMessages many;
  many.messages.resize(1000);
  const Bytes bytes = encode_message(many, 0).value();
  EXPECT_TRUE(decode_message<RaftMessages>(bytes, 0));
  const auto refused = decode_message<RaftMessages>(bytes, 0, {.max_memory_bytes = 10'000});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kTooLarge);
}

TEST(PeerMessages, a_raft_message_without_a_snapshot_spends_no_byte_on_it) {
  RaftMessages without;
  without.messages.resize(1);
  RaftMessages with = without;
  with.messages[0].snapshot.index = 9;
  with.messages[0].snapshot.config = {1, 2, 3};
  const Bytes short_bytes = encode_message(without, 0).value();
  const Bytes long_bytes = encode_message(with, 0).value();
  EXPECT_EQ(long_bytes.size(), short_bytes.size() + 2 + 8 + 8 + 4 + 1);
  EXPECT_EQ(decode_message<RaftMessages>(long_bytes, 0).value(), with);
  EXPECT_EQ(decode_message<RaftMessages>(short_bytes, 0).value().messages[0].snapshot.index, 0);
}

TEST(PeerMessages, records_are_sent_from_where_they_lie_and_read_as_views) {
  const SharedBytes first(Bytes(300, 1));
  const SharedBytes second(Bytes(70'000, 2));
  AppendRequest request;
  request.records = Records::external(1, second.size());
  const Packed packed = pack(request, {first, second}).value();
  EXPECT_EQ(packed.kind, Kind::kAppend);
  Bytes whole;
  int found = 0;
  for (const SharedBytes& piece : packed.pieces) {
    if (piece.data() == second.data()) ++found;
    whole.insert(whole.end(), piece.view().begin(), piece.view().end());
  }
  EXPECT_EQ(found, 1) << "they are not copied";
  EXPECT_EQ(whole.size(), packed.bytes);
  const auto back = decode_message<AppendRequest>(whole, packed.version);
  ASSERT_TRUE(back) << back.error().message;
  const ByteView view = back->records.view;
  EXPECT_EQ(view.size(), second.size());
  EXPECT_TRUE(view.data() > whole.data() && view.data() < whole.data() + whole.size());
  const auto refused = pack(request, {first});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_FALSE(pack(request, {second, first})) << "of other lengths";
}

TEST(PeerMessages, codes_keep_their_numbers) {
  for (std::int16_t number = 1; number <= 13; ++number) {
    EXPECT_EQ(code_number(code_of(number)), number);
  }
  EXPECT_EQ(code_number(Code::kFenced), 7);
  EXPECT_EQ(code_of(1234), Code::kUnavailable) << "of a newer peer";
  EXPECT_EQ(kind_name(20), "Append");
  EXPECT_EQ(kind_name(9999), "kind 9999");
}

}  // namespace
}  // namespace pyralog::wire::peer::testing
