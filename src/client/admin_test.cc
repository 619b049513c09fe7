#include "client/admin.h"

#include <gmock/gmock.h>

#include "client/testing.h"

namespace pyralog::client {
namespace {

using ::testing::AllOf;
using testing::Fault;
using ::testing::HasSubstr;
using wire::kafka::ApiKey;

constexpr std::int16_t kLoading = 14;
constexpr std::int16_t kUnknownMember = 25;
constexpr std::int16_t kMetadataTooLarge = 12;

class AdminTest : public testing::ClientTest {
 protected:
  /// The first `times` commits get `code` and are not carried out.
  void refuse_commits(std::int16_t code, int times) {
    broker_.fault = [code, times](const wire::kafka::RequestFrame& request) mutable {
      const bool commit =
          request.header.request_api_key == static_cast<std::int16_t>(ApiKey::kOffsetCommit);
      return commit && times-- > 0 ? Fault{Fault::Kind::kError, code} : Fault{};
    };
  }
  Result<void> commit() {
    Result<void> result;
    with_cluster([&](Cluster& cluster) -> io::Task<void> {
      result = co_await Admin(cluster).commit_offsets("g", {{{"t", 0}, 7}, {{"t", 2}, 9}}, in(30s));
    });
    return result;
  }
};

TEST_F(AdminTest, offsets_are_stored_for_a_group_without_members) {
  ASSERT_TRUE(commit());
  EXPECT_EQ(broker_.committed("t", 0), 7);
  EXPECT_EQ(broker_.committed("t", 1), -1);
  EXPECT_EQ(broker_.committed("t", 2), 9);
}

TEST_F(AdminTest, a_coordinator_that_loads_is_asked_again) {
  refuse_commits(kLoading, 2);
  ASSERT_TRUE(commit());
  EXPECT_EQ(broker_.committed("t", 0), 7);
  EXPECT_EQ(broker_.count(ApiKey::kOffsetCommit), 3);
}

TEST_F(AdminTest, a_group_with_members_is_named_with_the_remedy) {
  refuse_commits(kUnknownMember, 1);
  const auto refused = commit();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kAlreadyExists);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("group \"g\""), HasSubstr("members; stop")));
  EXPECT_EQ(broker_.committed("t", 0), -1);
}

TEST_F(AdminTest, a_partition_that_is_refused_is_named) {
  refuse_commits(kMetadataTooLarge, 1);
  const auto refused = commit();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("group \"g\": topic \"t\" partition 0"), HasSubstr("error 12")));
  EXPECT_EQ(broker_.count(ApiKey::kOffsetCommit), 1) << "asking again would not help";
}

}  // namespace
}  // namespace pyralog::client
