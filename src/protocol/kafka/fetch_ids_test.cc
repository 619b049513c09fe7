// Fetch by the ids of topics (KIP-516), and who may not fetch.
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/delete_topics.h"
#include "wire/kafka/gen/fetch.h"

namespace pyralog::protocol::kafka {
namespace {

using testing::batch_of;
using testing::KafkaTest;
using testing::RawClient;
using testing::Received;
using testing::values_of;

class FetchIdsTest : public KafkaTest {
 protected:
  FetchIdsTest() {
    start();
    with_client([](RawClient& client) -> io::Task<void> {
      for (const char* topic : {"t", "u"}) {
        EXPECT_EQ(co_await create(client, topic, 2), 0);
        EXPECT_EQ((co_await send(client, topic, batch_of({topic}))).error_code, 0);
      }
    });
  }
  /// What the topic of this name is called by now.
  Uuid id(const std::string& topic) { return cluster_->catalog()->topic(topic)->id.uuid; }
  using Wanted = std::vector<std::pair<Uuid, std::int32_t>>;
  /// From the start of these partitions, each in a list of its own.
  static wire::FetchRequest request(const Wanted& from, std::int32_t session = 0,
                                    std::int32_t epoch = -1) {
    wire::FetchRequest made;
    made.max_wait_ms = 0;
    made.session_id = session;
    made.session_epoch = epoch;
    for (const auto& [topic, partition] : from) {
      auto& to = made.topics.emplace_back();
      to.topic_id = topic;
      auto& each = to.partitions.emplace_back();
      each.partition = partition;
      each.partition_max_bytes = 1 << 20;
    }
    return made;
  }
  /// "t0:a u1:!3 ?0:!100" — what was answered, by the names that `ids` gives.
  static std::string told(const Received<wire::FetchResponse>& answer,
                          const std::vector<std::pair<std::string, Uuid>>& ids) {
    std::string all;
    if (answer->error_code != 0) all = "!!" + std::to_string(answer->error_code);
    for (const auto& topic : answer->responses) {
      const auto named =
          std::ranges::find(ids, topic.topic_id, [](const auto& each) { return each.second; });
      for (const auto& partition : topic.partitions) {
        all += (all.empty() ? "" : " ") + (named == ids.end() ? "?" : named->first) +
               std::to_string(partition.partition_index) + ":";
        if (partition.error_code != 0) all += "!" + std::to_string(partition.error_code);
        for (const auto& value : values_of(partition.records.view)) all += value;
      }
    }
    return all;
  }
  static io::Task<void> remove(RawClient& client, std::string topic) {
    wire::DeleteTopicsRequest gone;
    gone.topics.push_back({std::move(topic), {}});
    const auto answer = co_await client.call<wire::DeleteTopicsResponse>(gone, 6);
    EXPECT_EQ(answer->responses.at(0).error_code, 0);
  }
};

TEST_F(FetchIdsTest, an_id_is_answered_by_what_it_names_and_an_unknown_one_by_its_error) {
  const auto ids = std::vector<std::pair<std::string, Uuid>>{
      {"t", id("t")}, {"u", id("u")}, {"x", Uuid{{7}}}, {"y", Uuid{{8}}}, {"nil", Uuid{}}};
  with_client([&](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 13; version <= 16; ++version) {
      const auto all = request({{ids[0].second, 0},
                                {ids[2].second, 0},
                                {ids[3].second, 0},
                                {ids[1].second, 0},
                                {ids[1].second, 1},
                                {ids[1].second, 2},
                                {ids[4].second, 0}});
      const auto answer = co_await client.call<wire::FetchResponse>(all, version);
      EXPECT_EQ(told(answer, ids), "t0:t x0:!100 y0:!100 u0:u u1: u2:!3 nil0:!100") << version;
      EXPECT_EQ(answer->responses.size(), 5u) << "partitions of one topic stand together";
    }
  });
}

TEST_F(FetchIdsTest, a_session_by_ids_is_told_what_is_new_and_lets_go_by_id) {
  const auto ids = std::vector<std::pair<std::string, Uuid>>{{"t", id("t")}, {"u", id("u")}};
  const Uuid t = ids[0].second;
  const Uuid u = ids[1].second;
  with_client([&](RawClient& client) -> io::Task<void> {
    auto answer =
        co_await client.call<wire::FetchResponse>(request({{t, 0}, {u, 0}, {u, 1}}, 0, 0), 13);
    const std::int32_t session = answer->session_id;
    EXPECT_NE(session, 0);
    EXPECT_EQ(told(answer, ids), "t0:t u0:u u1:");
    auto turn = request({{t, 0}, {u, 0}}, session, 1);
    for (auto& topic : turn.topics) topic.partitions[0].fetch_offset = 1;
    answer = co_await client.call<wire::FetchResponse>(turn, 13);
    EXPECT_EQ(told(answer, ids), "");
    EXPECT_EQ((co_await send(client, "u", batch_of({"v"}))).error_code, 0);
    EXPECT_EQ((co_await send(client, "t", batch_of({"w"}))).error_code, 0);
    auto forget = request({}, session, 2);
    forget.forgotten_topics_data.push_back({"", t, {0}});
    answer = co_await client.call<wire::FetchResponse>(forget, 16);
    EXPECT_EQ(told(answer, ids), "u0:v") << "any version by ids goes on with it";
  });
}

TEST_F(FetchIdsTest, a_session_does_not_change_between_names_and_ids) {
  const Uuid t = id("t");
  with_client([&](RawClient& client) -> io::Task<void> {
    const auto by_id = co_await client.call<wire::FetchResponse>(request({{t, 0}}, 0, 0), 13);
    auto names = request({}, by_id->session_id, 1);
    auto refused = co_await client.call<wire::FetchResponse>(names, 12);
    EXPECT_EQ(told(refused, {}), "!!106");
    EXPECT_EQ(refused->session_id, 0);
    auto open = request({{{}, 0}}, 0, 0);
    open.topics[0].topic = "t";
    const auto by_name = co_await client.call<wire::FetchResponse>(open, 12);
    refused = co_await client.call<wire::FetchResponse>(request({}, by_name->session_id, 1), 13);
    EXPECT_EQ(told(refused, {}), "!!106");
    // Both are as they were.
    const auto ids = co_await client.call<wire::FetchResponse>(names, 13);
    EXPECT_EQ(ids->error_code, 0);
    EXPECT_EQ(ids->session_id, by_id->session_id);
  });
}

TEST_F(FetchIdsTest, an_id_never_gets_the_records_of_a_topic_that_was_made_again) {
  const Uuid old = id("t");
  const auto ids = std::vector<std::pair<std::string, Uuid>>{{"old", old}};
  with_client([&](RawClient& client) -> io::Task<void> {
    auto answer = co_await client.call<wire::FetchResponse>(request({{old, 0}}, 0, 0), 13);
    const std::int32_t session = answer->session_id;
    EXPECT_EQ(told(answer, ids), "old0:t");
    co_await remove(client, "t");
    answer = co_await client.call<wire::FetchResponse>(request({}, session, 1), 13);
    EXPECT_EQ(told(answer, ids), "old0:!100");
    EXPECT_EQ(co_await create(client, "t"), 0);
    EXPECT_EQ((co_await send(client, "t", batch_of({"new"}))).error_code, 0);
    answer = co_await client.call<wire::FetchResponse>(request({}, session, 2), 13);
    EXPECT_EQ(told(answer, ids), "old0:!103") << "its name is another's now";
    answer = co_await client.call<wire::FetchResponse>(request({{old, 0}}), 13);
    EXPECT_EQ(told(answer, ids), "old0:!100");
  });
}

TEST_F(FetchIdsTest, whoever_waits_for_a_topic_by_id_hears_that_it_is_gone) {
  const Uuid old = id("t");
  const auto ids = std::vector<std::pair<std::string, Uuid>>{{"old", old}};
  with_client([&](RawClient& client) -> io::Task<void> {
    auto waits = request({{old, 1}});
    waits.min_bytes = 1;
    waits.max_wait_ms = 60'000;
    co_await client.send(waits, 16);
    co_await io::sleep_for(1s);
    const auto other = co_await connect();
    const Instant began = io::Shard::current().now();
    co_await remove(*other, "t");
    const auto answer = co_await client.receive<wire::FetchResponse>(16);
    if (!answer) co_return;
    EXPECT_EQ(told(*answer, ids), "old1:!100");
    EXPECT_LT(io::Shard::current().now() - began, Duration(5s));
  });
}

TEST_F(FetchIdsTest, clients_that_ask_by_id_go_on_at_the_shard_of_their_partition) {
  const Uuid t = id("t");
  with_client([&](RawClient&) -> io::Task<void> {
    // Partition 0 is the shard's of every other connection; alone a client would crowd it.
    std::vector<std::unique_ptr<RawClient>> more;
    for (int i = 0; i < 12; ++i) more.push_back(co_await connect());
    const std::size_t before = kafka_->arrivals().moved;
    for (const auto& client : more) {
      const auto answer = co_await client->call<wire::FetchResponse>(request({{t, 0}}), 16);
      EXPECT_EQ(told(answer, {{"t", t}}), "t0:t");
    }
    EXPECT_GE(kafka_->arrivals().moved, before + 1);
  });
}

TEST_F(FetchIdsTest, replicas_of_other_clusters_are_refused_and_debuggers_are_not) {
  const auto ids = std::vector<std::pair<std::string, Uuid>>{{"t", id("t")}};
  with_client([&](RawClient& client) -> io::Task<void> {
    for (std::int16_t version = 4; version <= 16; ++version) {
      auto fetch = request({{ids[0].second, 0}});
      fetch.topics[0].topic = "t";
      for (const std::int32_t replica : {0, 1, 7}) {
        fetch.replica_id = version < 15 ? replica : -1;
        fetch.replica_state.replica_id = version < 15 ? -1 : replica;
        const auto answer = co_await client.call<wire::FetchResponse>(fetch, version);
        EXPECT_EQ(answer->error_code, version < 7 ? 0 : 31);
        EXPECT_EQ(answer->responses.at(0).partitions.at(0).error_code, 31) << version;
        EXPECT_TRUE(answer->responses.at(0).partitions.at(0).records.view.empty());
      }
      fetch.replica_id = version < 15 ? -2 : -1;
      fetch.replica_state.replica_id = version < 15 ? -1 : -2;
      const auto answer = co_await client.call<wire::FetchResponse>(fetch, version);
      EXPECT_EQ(answer->responses.at(0).partitions.at(0).error_code, 0) << version;
    }
  });
}

}  // namespace
}  // namespace pyralog::protocol::kafka
