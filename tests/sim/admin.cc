// A client that makes and deletes one topic over and over: what was acknowledged must stand after
// every crash, and nothing of a topic may live on in the next one of its name.
#include "wire/kafka/gen/create_topics.h"
#include "wire/kafka/gen/delete_topics.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/metadata.h"
#include "wire/kafka/gen/offset_commit.h"
#include "wire/kafka/gen/offset_fetch.h"
#include "wire/kafka/gen/produce.h"
#include "world.h"

namespace pyralog::simtest {

namespace {

using namespace std::chrono_literals;
constexpr Duration kPatience = 300ms;

class Admin {
 public:
  Admin(World& world, unsigned number, std::uint64_t seed)
      : world_(world),
        topic_(fmt::format("churn-{}", number)),
        group_(fmt::format("churn-group-{}", number)),
        rng_(seed),
        link_(topic_) {}

  io::Task<void> run() {
    while (const auto busy = co_await world_.enter(rng_, 60ms)) {
      if (!co_await world_.connect(link_)) continue;
      if (state_ == State::kDoubtful && doubtful_in_ != world_.life()) state_ = State::kAsk;
      switch (state_) {
        case State::kDoubtful:  // a request that was given up may still be under way
        case State::kAsk:
          co_await look();
          break;
        case State::kAbsent:
          co_await (rng_.chance(0.3) ? look() : create());
          break;
        case State::kPresent:
          co_await (rng_.chance(0.3) ? look() : rng_.chance(0.5) ? use() : remove());
          break;
      }
    }
    link_.close();
  }

 private:
  enum class State : std::uint8_t { kAbsent, kPresent, kDoubtful, kAsk };

  void doubt(const char* what) {
    world_.trace.add("{}: {} is in doubt", topic_, what);
    state_ = State::kDoubtful;
    doubtful_in_ = world_.life();
    fresh_ = false;
  }

  io::Task<void> create() {
    wire::CreateTopicsRequest request;
    auto& topic = request.topics.emplace_back();
    topic.name = topic_;
    topic.num_partitions = static_cast<std::int32_t>(1 + rng_.below(4));
    topic.replication_factor = -1;
    const char* durabilities[] = {"fsync", "os", "memory"};
    topic.configs.push_back({"durability", durabilities[rng_.below(3)]});
    auto answer = co_await link_.call<wire::CreateTopicsResponse>(std::move(request), 7, kPatience);
    if (!answer) co_return doubt("creation");
    const auto error = static_cast<KafkaError>(answer->message.topics.at(0).error_code);
    world_.trace.add("{} created: {}", topic_, static_cast<int>(error));
    world_.count(fmt::format("client.create_error_{}", static_cast<int>(error)));
    if (error == KafkaError::kNone) {
      state_ = State::kPresent;
      fresh_ = true;
      co_return;
    }
    if (error == KafkaError::kTopicAlreadyExists) {
      world_.oracle.violate(fmt::format("{}: exists though its deletion was acknowledged", topic_));
    }
    doubt("creation");
  }

  io::Task<void> remove() {
    wire::DeleteTopicsRequest request;
    request.topic_names.push_back(topic_);
    request.timeout_ms = 1000;
    auto answer = co_await link_.call<wire::DeleteTopicsResponse>(std::move(request), 5, kPatience);
    if (!answer) co_return doubt("deletion");
    const auto error = static_cast<KafkaError>(answer->message.responses.at(0).error_code);
    world_.trace.add("{} deleted: {}", topic_, static_cast<int>(error));
    world_.count(fmt::format("client.delete_error_{}", static_cast<int>(error)));
    if (error == KafkaError::kNone) {
      state_ = State::kAbsent;
      co_return;
    }
    if (error == KafkaError::kUnknownTopicOrPartition) {
      world_.oracle.violate(
          fmt::format("{}: is gone though its creation was acknowledged", topic_));
    }
    doubt("deletion");
  }

  io::Task<void> look() {
    wire::MetadataRequest request;
    request.topics.emplace().push_back({{}, topic_});
    request.allow_auto_topic_creation = false;
    auto answer = co_await link_.call<wire::MetadataResponse>(std::move(request), 12, kPatience);
    if (!answer) co_return;
    const bool there = answer->message.topics.at(0).error_code == 0;
    world_.trace.add("{} is {}", topic_, there ? "there" : "not there");
    if (state_ == State::kAsk) {
      state_ = there ? State::kPresent : State::kAbsent;
      fresh_ = false;
      world_.count(there ? "rare.doubtful_topic_stood" : "rare.doubtful_topic_gone");
    } else if ((state_ == State::kPresent && !there) || (state_ == State::kAbsent && there)) {
      world_.oracle.violate(fmt::format("{}: is {} against what was acknowledged", topic_,
                                        there ? "there" : "not there"));
    }
  }

  /// A topic that has just been made has no records and no committed offsets; then it gets both.
  io::Task<void> use() {
    if (fresh_ && !co_await check_empty()) co_return;
    fresh_ = false;
    wire::ProduceRequest request;
    request.acks = -1;
    request.timeout_ms = 200;
    auto& topic = request.topic_data.emplace_back();
    topic.name = topic_;
    auto& partition = topic.partition_data.emplace_back();
    BatchBuilder builder;
    builder.add(
        {.timestamp = io::Shard::current().wall().ms, .key = {}, .value = {}, .headers = {}});
    const Bytes batch = builder.build().value();
    partition.records = wire::Records::of(batch);
    if (!co_await link_.call<wire::ProduceResponse>(std::move(request), 9, kPatience)) {
      co_return doubt("a record");
    }
    wire::OffsetCommitRequest commit;
    commit.group_id = group_;
    commit.topics.push_back({topic_,
                             {{.partition_index = 0,
                               .committed_offset = 1,
                               .committed_leader_epoch = -1,
                               .committed_metadata = std::nullopt}}});
    if (!co_await link_.call<wire::OffsetCommitResponse>(std::move(commit), 8, kPatience)) {
      doubt("a commit");
    }
  }

  io::Task<bool> check_empty() {
    wire::ListOffsetsRequest request;
    request.topics.push_back(
        {topic_, {{.partition_index = 0, .current_leader_epoch = -1, .timestamp = -1}}});
    auto answer = co_await link_.call<wire::ListOffsetsResponse>(std::move(request), 7, kPatience);
    if (!answer) co_return false;
    const auto& end = answer->message.topics.at(0).partitions.at(0);
    if (end.error_code == 0 && end.offset != 0) {
      world_.oracle.violate(fmt::format("{}: was just made and ends at {}", topic_, end.offset));
    }
    wire::OffsetFetchRequest fetch;
    fetch.group_id = group_;
    fetch.topics.emplace().push_back({topic_, {0}});
    auto found = co_await link_.call<wire::OffsetFetchResponse>(std::move(fetch), 5, kPatience);
    if (!found) co_return false;
    if (found->message.error_code != 0) co_return true;
    const auto& offset = found->message.topics.at(0).partitions.at(0);
    if (offset.error_code == 0 && offset.committed_offset >= 0) {
      world_.oracle.violate(
          fmt::format("{}: was just made and has a committed offset of its predecessor", topic_));
    }
    world_.count("client.fresh_topic_checked");
    co_return true;
  }

  World& world_;
  std::string topic_;
  std::string group_;
  io::SeededRng rng_;
  Link link_;
  State state_ = State::kAbsent;
  bool fresh_ = false;
  std::uint64_t doubtful_in_ = 0;
};

}  // namespace

io::Task<void> run_admin(World& world, unsigned number, std::uint64_t seed) {
  Admin admin(world, number, seed);
  co_await admin.run();
}

}  // namespace pyralog::simtest
