#include "wire/kafka/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/consumer_offsets.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/join_group.h"
#include "wire/kafka/gen/metadata.h"
#include "wire/kafka/gen/produce.h"

namespace pyralog::wire::kafka {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Bytes hex(std::string_view text) {
  Bytes out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(
        static_cast<std::uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

TEST(Codec, writes_the_plain_forms_of_old_versions) {
  MetadataRequest request;
  request.topics.emplace().push_back({.topic_id = {}, .name = "ab"});
  request.allow_auto_topic_creation = false;
  EXPECT_EQ(encode_message(request, 4), hex("00000001"
                                            "00026162"
                                            "00"));
}

TEST(Codec, writes_the_compact_forms_of_flexible_versions) {
  MetadataRequest request;
  request.topics.emplace().push_back({.topic_id = {}, .name = "ab"});
  EXPECT_EQ(encode_message(request, 9), hex("02"
                                            "036162"
                                            "00"
                                            "01"
                                            "00"
                                            "00"
                                            "00"));
  request.topics.reset();
  EXPECT_EQ(encode_message(request, 12), hex("00"
                                             "01"
                                             "00"
                                             "00"));
}

TEST(Codec, writes_null_as_empty_where_the_version_has_no_null) {
  EXPECT_EQ(encode_message(MetadataRequest{}, 0), hex("00000000"));
  EXPECT_EQ(encode_message(MetadataRequest{}, 1), hex("ffffffff"));
}

TEST(Codec, leaves_out_tagged_fields_at_their_default) {
  ApiVersionsResponse response;
  EXPECT_EQ(encode_message(response, 3), hex("0000"
                                             "01"
                                             "00000000"
                                             "00"));
  response.zk_migration_ready = true;
  response.finalized_features_epoch = 5;
  EXPECT_EQ(encode_message(response, 3), hex("0000"
                                             "01"
                                             "00000000"
                                             "02"
                                             "0108"
                                             "0000000000000005"
                                             "0301"
                                             "01"));
}

TEST(Codec, skips_unknown_tagged_fields) {
  const auto request = decode_message<FindCoordinatorRequest>(hex("00"
                                                                  "02"
                                                                  "0267"
                                                                  "02"
                                                                  "0502"
                                                                  "aabb"
                                                                  "0900"),
                                                              4);
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_THAT(request->coordinator_keys, ElementsAre("g"));
}

TEST(Codec, refuses_tagged_fields_that_repeat_or_lie_about_their_size) {
  const std::string body =
      "0000"
      "01"
      "00000000";
  EXPECT_TRUE(decode_message<ApiVersionsResponse>(hex(body + "01"
                                                             "0301"
                                                             "01"),
                                                  3));
  for (const char* tags : {"02"
                           "0301"
                           "01"
                           "0301"
                           "01",
                           "02"
                           "0301"
                           "01"
                           "0108"
                           "0000000000000005",
                           "01"
                           "0302"
                           "0100",
                           "01"
                           "0107"
                           "00000000000005",
                           "01"
                           "0300",
                           "ffffffff0f"
                           "0301"
                           "01"}) {
    const auto response = decode_message<ApiVersionsResponse>(hex(body + tags), 3);
    ASSERT_FALSE(response) << tags;
    EXPECT_EQ(response.error().code, Code::kCorrupt) << tags;
  }
}

TEST(Codec, leaves_records_in_the_frame) {
  ProduceRequest request;
  const Bytes batch = hex("0102030405");
  request.topic_data = {{"t", {{0, Records::of(batch)}}}};
  const auto bytes = encode_message(request, 9);
  ASSERT_TRUE(bytes);
  const auto back = decode_message<ProduceRequest>(*bytes, 9);
  ASSERT_TRUE(back);
  const ByteView view = back->topic_data[0].partition_data[0].records.view;
  EXPECT_EQ(Bytes(view.begin(), view.end()), batch);
  EXPECT_GE(view.data(), bytes->data());
  EXPECT_LE(view.data() + view.size(), bytes->data() + bytes->size());
}

TEST(Codec, notes_where_external_records_belong) {
  for (const std::int16_t version : {std::int16_t{4}, std::int16_t{11}, std::int16_t{12}}) {
    const Bytes first(300, 0xaa);
    const Bytes second(70000, 0xbb);
    FetchResponse whole;
    whole.responses = {{"t", {}, {{}, {}, {}}}};
    FetchResponse split = whole;
    whole.responses[0].partitions[0].records = Records::of(first);
    whole.responses[0].partitions[1].records = Records::of({});
    whole.responses[0].partitions[2].records = Records::of(second);
    split.responses[0].partitions[0].records = Records::external(7, first.size());
    split.responses[0].partitions[1].records = Records::external(8, 0);
    split.responses[0].partitions[2].records = Records::external(9, second.size());
    Encoder encoder;
    encoder.begin_frame();
    split.encode(encoder, version);
    const auto frame = encoder.finish_frame();
    ASSERT_TRUE(frame) << frame.error().message;
    ASSERT_EQ(frame->splices.size(), 2u);
    EXPECT_EQ(frame->splices[0].external_id, 7u);
    EXPECT_EQ(frame->splices[1].external_id, 9u);
    Bytes joined(frame->bytes.begin(),
                 frame->bytes.begin() + static_cast<std::ptrdiff_t>(frame->splices[0].position));
    joined.insert(joined.end(), first.begin(), first.end());
    joined.insert(joined.end(),
                  frame->bytes.begin() + static_cast<std::ptrdiff_t>(frame->splices[0].position),
                  frame->bytes.begin() + static_cast<std::ptrdiff_t>(frame->splices[1].position));
    joined.insert(joined.end(), second.begin(), second.end());
    joined.insert(joined.end(),
                  frame->bytes.begin() + static_cast<std::ptrdiff_t>(frame->splices[1].position),
                  frame->bytes.end());
    EXPECT_EQ(joined.size(), frame->total_bytes);
    EXPECT_EQ(load_be<std::int32_t>(joined.data()), static_cast<std::int32_t>(joined.size() - 4));
    joined.erase(joined.begin(), joined.begin() + 4);
    EXPECT_EQ(encode_message(whole, version), joined);
  }
}

TEST(Codec, names_message_version_and_field_in_errors) {
  const auto request = decode_message<ProduceRequest>(hex("ffff"
                                                          "0001"
                                                          "00000005"
                                                          "00000001"
                                                          "0005"
                                                          "61"),
                                                      3);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().code, Code::kCorrupt);
  EXPECT_THAT(request.error().message, HasSubstr("ProduceRequest v3"));
  EXPECT_THAT(request.error().message, HasSubstr("topic_data.name"));
}

TEST(Codec, refuses_a_count_that_cannot_fit_before_it_allocates) {
  const auto request = decode_message<MetadataRequest>(hex("7fffffff"
                                                           "0001"
                                                           "61"),
                                                       1);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().code, Code::kCorrupt);
  EXPECT_THAT(request.error().message, HasSubstr("2147483647 elements"));
}

TEST(Codec, refuses_bytes_behind_the_last_field_unless_told_to_leave_them) {
  // Three zeros behind an empty list, as librdkafka 2.12 sends them.
  EXPECT_FALSE(decode_message<MetadataRequest>(hex("00000000"
                                                   "000000"),
                                               1));
  const auto request = decode_message<MetadataRequest>(hex("00000000"
                                                           "000000"),
                                                       1, {.allow_trailing = true});
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->topics && request->topics->empty());
  EXPECT_FALSE(decode_message<MetadataRequest>(hex("000000"), 1, {.allow_trailing = true}));
}

TEST(Codec, refuses_what_outgrows_the_memory_limit) {
  MetadataRequest request;
  request.topics.emplace(1000);
  const auto bytes = encode_message(request, 1);
  ASSERT_TRUE(bytes);
  EXPECT_TRUE(decode_message<MetadataRequest>(*bytes, 1));
  const auto small = decode_message<MetadataRequest>(*bytes, 1, {.max_memory_bytes = 10000});
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().code, Code::kTooLarge);
}

TEST(Codec, refuses_null_where_the_version_has_none) {
  EXPECT_FALSE(decode_message<MetadataRequest>(hex("ffffffff"), 0));
  EXPECT_TRUE(decode_message<MetadataRequest>(hex("ffffffff"), 1));
  EXPECT_FALSE(decode_message<MetadataRequest>(hex("00000001"
                                                   "ffff"),
                                               1));
  EXPECT_FALSE(decode_message<MetadataRequest>(hex("fffffffe"), 1));
}

TEST(Codec, cannot_encode_a_string_over_the_protocols_limit) {
  FindCoordinatorRequest request;
  request.key.assign(32767, 'x');
  EXPECT_TRUE(encode_message(request, 0));
  request.key.push_back('x');
  for (const std::int16_t version : {std::int16_t{0}, std::int16_t{3}}) {
    const auto bytes = encode_message(request, version);
    ASSERT_FALSE(bytes);
    EXPECT_THAT(bytes.error().message, HasSubstr("FindCoordinatorRequest v"));
  }
}

TEST(Codec, knows_the_error_shapes_of_produce_and_fetch_versions_that_are_only_advertised) {
  ProduceResponse produce;
  produce.responses = {{"t", {{.index = 1, .error_code = 35, .base_offset = -1}}}};
  const std::string base =
      "00000001"
      "000174"
      "00000001"
      "00000001"
      "0023"
      "ffffffffffffffff";
  EXPECT_EQ(encode_message(produce, 0), hex(base));
  EXPECT_EQ(encode_message(produce, 1), hex(base + "00000000"));
  EXPECT_EQ(encode_message(produce, 2), hex(base + "ffffffffffffffff"
                                                   "00000000"));
  const auto request = decode_message<ProduceRequest>(hex("0001"
                                                          "000003e8"
                                                          "00000001"
                                                          "000174"
                                                          "00000001"
                                                          "00000001"
                                                          "00000002"
                                                          "abcd"),
                                                      2);
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->topic_data[0].partition_data[0].records.size_bytes(), 2u);

  FetchResponse fetch;
  fetch.responses = {{"t", {}, {{.partition_index = 1, .error_code = 35, .high_watermark = -1}}}};
  fetch.responses[0].partitions[0].records = Records::of({});
  const std::string rest =
      "00000001"
      "000174"
      "00000001"
      "00000001"
      "0023"
      "ffffffffffffffff"
      "00000000";
  EXPECT_EQ(encode_message(fetch, 0), hex(rest));
  for (const std::int16_t version : {std::int16_t{1}, std::int16_t{2}, std::int16_t{3}}) {
    EXPECT_EQ(encode_message(fetch, version), hex("00000000" + rest));
  }
  const std::string from =
      "ffffffff"
      "000001f4"
      "00000001";
  const std::string what =
      "00000001"
      "000174"
      "00000001"
      "00000001"
      "0000000000000009"
      "00100000";
  EXPECT_TRUE(decode_message<FetchRequest>(hex(from + what), 2));
  const auto third = decode_message<FetchRequest>(hex(from + "00200000" + what), 3);
  ASSERT_TRUE(third) << third.error().message;
  EXPECT_EQ(third->max_bytes, 0x200000);
  EXPECT_EQ(third->topics[0].partitions[0].fetch_offset, 9);
}

}  // namespace
}  // namespace pyralog::wire::kafka
