#include "wire/kafka/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/metadata.h"
#include "wire/kafka/gen/produce.h"

namespace pyralog::wire::kafka {
namespace {

using ::testing::HasSubstr;

ByteView without_prefix(const Frame& frame) {
  return ByteView(frame.bytes).subspan(4);
}

TEST(Api, table_is_sorted_and_found_by_key) {
  EXPECT_EQ(kApis.size(), 35u);
  for (const ApiInfo& api : kApis) EXPECT_EQ(find_api(static_cast<std::int16_t>(api.key)), &api);
  EXPECT_EQ(find_api(4), nullptr);
  EXPECT_EQ(find_api(-1), nullptr);
  EXPECT_EQ(find_api(9999), nullptr);
  EXPECT_EQ(find_api(32767), nullptr);
}

TEST(Api, keys_of_our_own_lie_above_those_of_kafka) {
  EXPECT_FALSE(is_native(ApiKey::kDescribeProducers));
  EXPECT_TRUE(is_native(ApiKey::kDrainNode));
  const ApiInfo* api = find_api(10'000);
  ASSERT_NE(api, nullptr);
  EXPECT_EQ(request_header_version(*api, 0), 2);
  EXPECT_EQ(response_header_version(*api, 0), 1);
}

TEST(Api, advertises_the_ranges_that_clients_need) {
  const auto range = [](ApiKey key) {
    const ApiInfo* api = find_api(static_cast<std::int16_t>(key));
    return std::pair<int, int>(api->min_version, api->max_version);
  };
  EXPECT_EQ(range(ApiKey::kProduce), std::pair(0, 11));
  EXPECT_EQ(range(ApiKey::kFetch), std::pair(0, 16));
  EXPECT_EQ(range(ApiKey::kListOffsets), std::pair(1, 7));
  EXPECT_EQ(range(ApiKey::kMetadata), std::pair(0, 12));
  EXPECT_EQ(range(ApiKey::kOffsetCommit), std::pair(2, 9));
  EXPECT_EQ(range(ApiKey::kOffsetFetch), std::pair(1, 9));
  EXPECT_EQ(range(ApiKey::kFindCoordinator), std::pair(0, 4));
  EXPECT_EQ(range(ApiKey::kJoinGroup), std::pair(0, 9));
  EXPECT_EQ(range(ApiKey::kApiVersions), std::pair(0, 4));
  EXPECT_EQ(range(ApiKey::kListGroups), std::pair(0, 5));
}

TEST(Api, request_frames_come_back_with_their_header) {
  for (const std::int16_t version : {std::int16_t{1}, std::int16_t{12}}) {
    const auto frame = encode_request(MetadataRequest{}, version, 77, "me");
    ASSERT_TRUE(frame);
    EXPECT_EQ(load_be<std::int32_t>(frame->bytes.data()),
              static_cast<std::int32_t>(frame->bytes.size() - 4));
    const auto request = parse_request(without_prefix(*frame));
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(request->api->key, ApiKey::kMetadata);
    EXPECT_TRUE(request->known_version);
    EXPECT_EQ(request->header.request_api_version, version);
    EXPECT_EQ(request->header.correlation_id, 77);
    EXPECT_EQ(request->header.client_id, "me");
    EXPECT_EQ(decode_message<MetadataRequest>(request->body, version), MetadataRequest{});
  }
}

TEST(Api, response_frames_come_back_with_their_header) {
  for (const std::int16_t version : {std::int16_t{0}, std::int16_t{9}}) {
    const auto frame = encode_response(MetadataResponse{}, version, -5);
    ASSERT_TRUE(frame);
    const auto response = parse_response(without_prefix(*frame), ApiKey::kMetadata, version);
    ASSERT_TRUE(response);
    EXPECT_EQ(response->correlation_id, -5);
    EXPECT_TRUE(decode_message<MetadataResponse>(response->body, version));
  }
}

TEST(Api, response_header_of_api_versions_is_never_tagged) {
  const auto frame = encode_response(ApiVersionsResponse{}, 3, 1);
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->bytes.size(), 4u + 4 + 2 + 1 + 4 + 1);
}

TEST(Api, future_api_versions_is_answerable) {
  Bytes frame{0, 18, 0, 99, 0, 0, 0, 9, 0, 2, 'm', 'e', 0, 1, 2, 3};
  auto request = parse_request(frame);
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->known_version);
  EXPECT_EQ(request->header.correlation_id, 9);
  EXPECT_EQ(request->header.client_id, "me");
  frame.resize(9);
  request = parse_request(frame);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->header.correlation_id, 9);
  EXPECT_EQ(request->header.client_id, std::nullopt);
  frame[1] = 3;  // Metadata v99 with a broken header is nothing that one could answer
  EXPECT_FALSE(parse_request(frame));
}

TEST(Api, refuses_unknown_keys_and_short_frames) {
  const auto unknown = parse_request(Bytes{0, 4, 0, 0, 0, 0, 0, 1, 0, 0});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Code::kUnsupported);
  EXPECT_THAT(unknown.error().message, HasSubstr("API key 4"));
  for (std::size_t size = 0; size < 10; ++size) {
    const auto cut = parse_request(Bytes(size));
    ASSERT_FALSE(cut);
    EXPECT_EQ(cut.error().code, Code::kCorrupt);
  }
}

}  // namespace
}  // namespace pyralog::wire::kafka
