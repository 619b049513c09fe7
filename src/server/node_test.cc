// A whole node on a simulated machine: what it tells of itself over HTTP.
#include "server/node.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "observe/metric_names.h"
#include "protocol/kafka/testing.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/offset_commit.h"

namespace pyralog::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using io::sim::DiskFault;
using io::sim::DiskOp;
using protocol::kafka::testing::batch_of;
using protocol::kafka::testing::RawClient;

/// The requests that tests of Kafka's protocol send.
struct Requests : protocol::kafka::testing::KafkaTest {
  using KafkaTest::create;
  using KafkaTest::send;
};

class NodeTest : public ::testing::Test {
 protected:
  NodeTest() : sim_(7) {
    sim_.add_node({.shards = 2});
    sim_.add_node();
    options_.machine = {std::uint64_t{16} << 30, 2};
    options_.shards = 2;
    options_.data_dir = "/data";
    options_.kafka_listener = "10.0.0.1:9092";
    options_.http_listener = "10.0.0.1:9094";
    options_.allow_insecure = true;
    options_.offsets_partitions = 2;
  }
  ~NodeTest() override {
    sim_.node(0).run([this]() -> io::Task<void> {
      stopping_ = true;
      changed_.wake_all();
      co_return;
    });
    EXPECT_TRUE(sim_.run_until([this] { return ended_; }, 5min));
  }
  void start() {
    sim_.node(0).spawn([this]() -> io::Task<void> {
      Node node(sim_.node(0).shards(), options_);
      node_ = &node;
      const auto started = co_await node.start();
      EXPECT_TRUE(started) << started.error().message;
      running_ = true;
      while (!stopping_) co_await changed_.wait(Instant::never());
      const auto stopped = co_await node.stop();
      EXPECT_TRUE(stopped || sick_disk_) << stopped.error().message;
      ended_ = true;
    });
    ASSERT_TRUE(sim_.run_until([this] { return running_; }, 5min));
  }
  void with_client(std::function<io::Task<void>(RawClient&)> body) {
    sim_.node(1).run([&]() -> io::Task<void> {
      auto stream =
          co_await io::Shard::current().net().connect({"10.0.0.1", 9092}, RawClient::in(5s));
      EXPECT_TRUE(stream);
      RawClient client(std::move(*stream));
      co_await body(client);
      client.close();
    });
  }
  /// The whole answer, head and body.
  std::string get(const std::string& path) {
    std::string answer;
    sim_.node(1).run([&]() -> io::Task<void> {
      auto stream =
          co_await io::Shard::current().net().connect({"10.0.0.1", 9094}, RawClient::in(5s));
      EXPECT_TRUE(stream);
      const std::string text = "GET " + path + " HTTP/1.1\r\nConnection: close\r\n\r\n";
      std::vector<io::Piece> pieces;
      pieces.emplace_back(SharedBytes::copy(as_bytes(text)));
      EXPECT_TRUE(co_await (*stream)->write(std::move(pieces), RawClient::in(5s)));
      Bytes room(1 << 16);
      for (;;) {
        const auto got = co_await (*stream)->read_some(room, RawClient::in(60s));
        if (!got || *got == 0) break;
        answer += as_text(ByteView(room).first(*got));
      }
    });
    return answer;
  }
  /// A commit of offset 1 of `topic`-0.
  static io::Task<void> commit(RawClient& client, std::string group, std::string topic) {
    wire::kafka::FindCoordinatorRequest find;
    find.key = group;
    (void)co_await client.call<wire::kafka::FindCoordinatorResponse>(find, 0);
    wire::kafka::OffsetCommitRequest request;
    request.group_id = std::move(group);
    auto& to = request.topics.emplace_back();
    to.name = std::move(topic);
    to.partitions.emplace_back().committed_offset = 1;
    const auto answer = co_await client.call<wire::kafka::OffsetCommitResponse>(request, 5);
    EXPECT_EQ(answer->topics.at(0).partitions.at(0).error_code, 0);
  }
  void some_traffic() {
    with_client([](RawClient& client) -> io::Task<void> {
      EXPECT_EQ(co_await Requests::create(client, "orders"), 0);
      EXPECT_EQ(co_await Requests::create(client, "small"), 0);
      EXPECT_EQ((co_await Requests::send(client, "orders", batch_of({"a", "b", "c"}))).error_code, 0);
      EXPECT_EQ((co_await Requests::send(client, "small", batch_of({"a"}))).error_code, 0);
      EXPECT_NE((co_await Requests::send(client, "nothing", batch_of({"a"}))).error_code, 0);
    });
    with_client([](RawClient& client) -> io::Task<void> {
      co_await commit(client, "g", "orders");
      co_await commit(client, "g", "small");
      co_await commit(client, "h", "orders");
    });
  }

  io::sim::Simulator sim_;
  ServerOptions options_;
  io::WaitList changed_;
  bool sick_disk_ = false;
  Node* node_ = nullptr;
  bool running_ = false;
  bool stopping_ = false;
  bool ended_ = false;
};

TEST_F(NodeTest, every_metric_has_a_name_that_the_linter_of_prometheus_takes) {
  start();
  some_traffic();
  std::istringstream lines(get("/metrics"));
  std::map<std::string, std::string> help;
  std::size_t families = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash, what, name, rest;
    words >> hash >> what >> name;
    std::getline(words >> std::ws, rest);
    if (hash == "#" && what == "HELP") help[name] = rest;
    if (hash != "#" || what != "TYPE") continue;
    ++families;
    const auto kind = rest == "counter" ? observe::MetricKind::kCounter
                      : rest == "gauge" ? observe::MetricKind::kGauge
                                        : observe::MetricKind::kHistogram;
    EXPECT_EQ(observe::name_fault(name, help[name], kind), "");
  }
  EXPECT_GT(families, 70u);
}

TEST_F(NodeTest, tells_what_operators_ask_for) {
  start();
  some_traffic();
  (void)get("/metrics");
  const std::string text = get("/metrics");
  for (const char* line :
       {"pyralog_group_lag_records{group=\"g\",topic=\"orders\"} 2\n",
        "pyralog_kafka_topic_produced_records_total{topic=\"orders\"} 3\n",
        "pyralog_kafka_produced_records_total 4\n",
        "pyralog_kafka_errors_total{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1\n",
        "pyralog_kafka_request_total_seconds_count{api=\"OffsetCommit\"} 3\n",
        "pyralog_kafka_connections_accepted_total 2\n", "pyralog_log_write_ahead_failed 0\n",
        "pyralog_server_problems{kind=\"partition_offline\"} 0\n",
        "pyralog_server_memory_limit_bytes{part=\"requests\"} 335544320\n",
        "pyralog_server_memory_limit_bytes{part=\"groups\"} 1073741824\n",
        "pyralog_server_memory_used_bytes{part=\"groups\"} ",
        "pyralog_group_memory_bytes{kind=\"offsets\"} ",
        "pyralog_group_memory_bytes{kind=\"members\"} 0\n",
        "pyralog_group_memory_bytes{kind=\"storing\"} 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, Not(HasSubstr("pyralog_server_memory_used_bytes{part=\"groups\"} 0\n")));
  EXPECT_THAT(text, Not(HasSubstr("process_resident_memory_bytes 0\n")));
  EXPECT_THAT(text, HasSubstr("pyralog_build_info{version=\""));
}

TEST_F(NodeTest, lag_and_traffic_are_told_of_as_many_as_the_settings_say) {
  options_.metrics_max_topics = 1;
  options_.metrics_max_groups = 1;
  start();
  some_traffic();
  const std::string text = get("/metrics");
  EXPECT_THAT(text, AllOf(HasSubstr("topic_produced_records_total{topic=\"orders\"} 3\n"),
                          Not(HasSubstr("topic_produced_records_total{topic=\"small\"}")),
                          HasSubstr("pyralog_kafka_topics_left_out 1\n")));
  EXPECT_THAT(text, AllOf(HasSubstr("pyralog_kafka_produced_records_total 4\n"),
                          HasSubstr("pyralog_group_groups 2\n"),
                          HasSubstr("pyralog_group_left_out 2\n")));
  EXPECT_THAT(text, AllOf(HasSubstr("pyralog_group_lag_records{group=\"g\",topic=\"orders\"} 2\n"),
                          Not(HasSubstr("pyralog_group_lag_records{group=\"g\",topic=\"small\"}")),
                          Not(HasSubstr("pyralog_group_lag_records{group=\"h\""))));
}

TEST_F(NodeTest, settings_that_can_change_while_it_runs_do_and_others_are_named) {
  start();
  some_traffic();
  observe::set_log_level(observe::Level::kInfo);
  std::vector<std::string> lines;
  observe::capture_log([&](const std::string& line) { lines.push_back(line); });
  ServerOptions wanted = options_;
  wanted.log_level = "warn";
  wanted.max_connections = 5;
  wanted.retention_ms = 60'000;
  wanted.cluster_defaults = {{"log.retention.ms", "60000"}};
  std::int64_t retention = 0;
  sim_.node(0).run([&]() -> io::Task<void> {
    EXPECT_TRUE(co_await node_->reload(wanted));
    retention = node_->broker().catalog()->topic("orders")->config.retention_ms;
  });
  observe::capture_log({});
  EXPECT_EQ(observe::log_level(), observe::Level::kWarn);
  observe::set_log_level(observe::Level::kInfo);
  EXPECT_EQ(retention, 60'000);
  std::string all;
  for (const auto& line : lines) all += line + "\n";
  EXPECT_THAT(all, AllOf(HasSubstr("setting=log.level from=info to=warn"),
                         HasSubstr("setting=log.retention.ms from=604800000 to=60000"),
                         HasSubstr("server.restart_needed settings=max.connections\n")));
}

TEST_F(NodeTest, a_default_for_topics_that_is_named_no_more_is_the_built_in_one_again) {
  options_.retention_ms = 60'000;
  options_.cluster_defaults = {{"log.retention.ms", "60000"}};
  start();
  some_traffic();
  observe::set_log_level(observe::Level::kInfo);
  std::vector<std::string> lines;
  observe::capture_log([&](const std::string& line) { lines.push_back(line); });
  ServerOptions wanted = options_;
  wanted.retention_ms = ServerOptions().retention_ms;
  wanted.cluster_defaults.clear();
  std::vector<std::int64_t> retention;
  sim_.node(0).run([&]() -> io::Task<void> {
    const auto look = [&] {
      retention.push_back(node_->broker().catalog()->topic("orders")->config.retention_ms);
    };
    look();
    EXPECT_TRUE(co_await node_->reload(wanted));
    look();
    // Who sets it by other means keeps it.
    catalog::AlterSetting set{"log.retention.ms", catalog::AlterOp::kSet, "70000"};
    EXPECT_EQ((co_await node_->broker().alter_defaults({set}, false)).error, KafkaError::kNone);
    EXPECT_TRUE(co_await node_->reload(wanted));
    look();
  });
  observe::capture_log({});
  EXPECT_THAT(retention, ::testing::ElementsAre(60'000, 604'800'000, 70'000));
  std::string all;
  for (const auto& line : lines) all += line + "\n";
  EXPECT_THAT(all, AllOf(HasSubstr("setting=log.retention.ms from=60000 to=604800000"),
                         HasSubstr("server.reloaded changed=1"), HasSubstr("server.reloaded changed=0")));
}

TEST_F(NodeTest, the_largest_request_is_lowered_to_what_finds_room_on_its_shard) {
  options_.queued_max_request_bytes = 256 << 20;
  start();  // each shard has 128, of which 88 are for the largest
  const auto is_refused = [this](std::int32_t mib) {
    bool refused = false;
    with_client([&, mib](RawClient& client) -> io::Task<void> {
      Bytes length(4);
      store_be(length.data(), mib << 20);
      co_await client.send_raw(std::move(length));
      refused = co_await client.closed(1s);
    });
    return refused;
  };
  EXPECT_FALSE(is_refused(88));
  EXPECT_TRUE(is_refused(89));
}

TEST_F(NodeTest, a_start_that_is_given_up_ends_before_clients_are_accepted) {
  sim_.node(0).run([this]() -> io::Task<void> {
    Node node(sim_.node(0).shards(), options_);
    node.give_up_start();
    const auto started = co_await node.start();
    EXPECT_FALSE(started);
    if (!started) EXPECT_EQ(started.error().code, Code::kCancelled);
    EXPECT_TRUE(co_await node.stop());
  });
  start();  // it left all as it was
}

TEST_F(NodeTest, recovery_that_is_given_up_ends_soon_and_leaves_what_a_kill_leaves) {
  start();
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_EQ(co_await Requests::create(client, "orders"), 0);
    for (int i = 0; i < 8; ++i) {
      Bytes batch = batch_of({std::string(900'000, 'x')}, {.keys = false});
      EXPECT_EQ((co_await Requests::send(client, "orders", std::move(batch))).error_code, 0);
    }
  });
  sim_.node(0).kill();
  sim_.node(0).restart();
  running_ = false;
  int reads = 0;
  sim_.node(0).run([&, this]() -> io::Task<void> {
    Node node(sim_.node(0).shards(), options_);
    sim_.node(0).disk().set_hook([&](DiskOp op, const std::string& path) {
      if (op == DiskOp::kRead && path.ends_with(".log") && ++reads == 3) node.give_up_start();
      return DiskFault::kNone;
    });
    const auto started = co_await node.start();
    EXPECT_FALSE(started);
    if (!started) EXPECT_EQ(started.error().code, Code::kCancelled);
    EXPECT_TRUE(co_await node.stop());
    sim_.node(0).disk().set_hook({});
  });
  EXPECT_GE(reads, 3);
  EXPECT_LE(reads, 6) << "of some 30";
  start();
  EXPECT_THAT(get("/partitions/orders-0/status"),
              AllOf(HasSubstr(R"("log_end":8)"), HasSubstr(R"("status":"ok")")));
}

TEST_F(NodeTest, one_partition_whole) {
  start();
  some_traffic();
  const std::string answer = get("/partitions/orders-0/status");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  for (const char* part :
       {R"("name":"orders-0")", R"("log_end":3)", R"("high_watermark":3)", R"("status":"ok")",
        R"("durability":"fsync")", R"("segments":1)", R"("active":true)", R"("problems":[])"}) {
    EXPECT_THAT(answer, HasSubstr(part));
  }
  EXPECT_THAT(get("/partitions/orders-1/status"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("/partitions/orders/status"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(get("/partitions/orders-x/status"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(NodeTest, health_names_the_partition_that_is_offline) {
  start();
  some_traffic();
  EXPECT_THAT(get("/health"),
              AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr(R"("problems":[],"status":"ok")")));
  sick_disk_ = true;
  sim_.node(0).disk().set_hook([](DiskOp op, const std::string& path) {
    return op == DiskOp::kSync && path.ends_with(".log") ? DiskFault::kError : DiskFault::kNone;
  });
  with_client([](RawClient& client) -> io::Task<void> {
    EXPECT_NE((co_await Requests::send(client, "orders", batch_of({"d"}))).error_code, 0);
  });
  const std::string health = get("/health");
  EXPECT_THAT(health, AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr(R"("kind":"partition_offline")"),
                            HasSubstr(R"("subject":"orders-0")"), HasSubstr(R"("remedy":)"),
                            HasSubstr(R"("status":"degraded")")));
  EXPECT_THAT(get("/partitions/orders-0/status"),
              AllOf(HasSubstr(R"("status":"degraded")"), HasSubstr(R"("offline":)")));
  EXPECT_THAT(get("/partitions/small-0/status"), HasSubstr(R"("status":"ok")"));
  EXPECT_THAT(get("/metrics"), HasSubstr("pyralog_server_problems{kind=\"partition_offline\"} 1\n"));
  sim_.node(0).disk().set_hook({});
}

TEST_F(NodeTest, a_clock_that_was_moved_is_told_and_takes_the_node_out_of_no_balancer) {
  start();
  EXPECT_THAT(get("/health"), StartsWith("HTTP/1.1 200 "));
  sim_.node(0).set_wall_offset(1h);
  EXPECT_THAT(get("/health"), AllOf(StartsWith("HTTP/1.1 200 "), HasSubstr(R"("kind":"clock_jumped")"),
                                    HasSubstr(R"("status":"warning")")));
}

TEST_F(NodeTest, status_tells_what_is_used_beside_what_may_be_and_the_last_minute) {
  start();
  some_traffic();
  (void)get("/status");
  sim_.run_for(3s);
  const std::string status = get("/status");
  for (const char* part :
       {R"("requests":{"limit_bytes":335544320,"used_bytes":0})", R"("groups":{"limit_bytes":1073741824,)",
        R"("records_in":4)", R"("produce_p99_ms":)", R"("records_out":0)", R"("uptime_ms":)",
        R"("resident_bytes":)", R"("cpu_seconds":)"}) {
    EXPECT_THAT(status, HasSubstr(part));
  }
  EXPECT_THAT(status, Not(HasSubstr(R"("resident_bytes":0)")));
  EXPECT_THAT(status, Not(HasSubstr(R"("groups":{"limit_bytes":1073741824,"used_bytes":0})")));
  sim_.run_for(2min);
  EXPECT_THAT(get("/status"), AllOf(HasSubstr(R"("records_in":0)"), Not(HasSubstr("produce_p99_ms"))));
}

}  // namespace
}  // namespace pyralog::server
