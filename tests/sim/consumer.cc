// Clients that read: consumers that follow a topic's partitions, and one that searches by time.
#include <algorithm>

#include "base/hash.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/list_offsets.h"
#include "world.h"

namespace pyralog::simtest {

namespace {

using wire::FetchRequest;
using wire::FetchResponse;
using wire::ListOffsetsRequest;
using wire::ListOffsetsResponse;
using namespace std::chrono_literals;

constexpr std::int16_t kFetchVersion = 12;
constexpr std::int16_t kListVersion = 7;

class Consumer {
 public:
  Consumer(World& world, const DataTopic& topic, std::uint64_t seed)
      : world_(world), topic_(topic), rng_(seed), link_("consumer") {
    at_.resize(topic.partitions.size());
  }

  io::Task<void> run() {
    while (const auto busy = co_await world_.enter(rng_, 20ms)) {
      if (!co_await world_.connect(link_)) continue;
      co_await fetch();
    }
    link_.close();
  }

 private:
  struct Place {
    std::int64_t offset = 0;
    std::int32_t epoch = -1;   ///< of the record before
    std::uint64_t losses = 0;  ///< the partition's, when the place was taken
    std::int64_t floor = 0;    ///< high watermark seen before the request
    std::int64_t start = 0;    ///< where the log was known to begin then
    std::uint64_t floor_losses = 0;
  };

  io::Task<void> fetch() {
    FetchRequest request;
    request.max_wait_ms = static_cast<std::int32_t>(rng_.below(60));
    request.min_bytes = rng_.chance(0.2) ? 5000 : 1;
    request.max_bytes = rng_.chance(0.3) ? 1000 : 1 << 20;
    request.session_id = 0;
    request.session_epoch = -1;
    auto& topic = request.topics.emplace_back();
    topic.topic = topic_.name;
    for (std::size_t i = 0; i < at_.size(); ++i) {
      Place& place = at_[i];
      const auto& partition = world_.oracle.partition(topic_.partitions[i]);
      if (rng_.chance(0.05)) place = {.offset = 0, .epoch = -1, .losses = partition.losses};
      place.floor = partition.high_watermark;
      place.start = partition.start;
      place.floor_losses = partition.losses;
      auto& item = topic.partitions.emplace_back();
      item.partition = static_cast<std::int32_t>(i);
      item.fetch_offset = place.offset;
      item.last_fetched_epoch = rng_.chance(0.5) ? place.epoch : -1;
      item.partition_max_bytes = rng_.chance(0.3) ? 200 : 1 << 20;
    }
    auto answer = co_await link_.call<FetchResponse>(std::move(request), kFetchVersion, 500ms);
    if (!answer) co_return;
    if (answer->message.error_code != 0) {
      world_.oracle.violate(fmt::format("a fetch failed with {}", answer->message.error_code));
    }
    for (const auto& from : answer->message.responses) {
      for (const auto& partition : from.partitions) take(partition);
    }
  }

  void take(const FetchResponse::Partition& data) {
    const auto i = static_cast<std::size_t>(data.partition_index);
    const std::uint32_t p = topic_.partitions.at(i);
    const auto& partition = world_.oracle.partition(p);
    Place& place = at_.at(i);
    const bool changed = place.losses != partition.losses;
    world_.trace.add("consumer of {} from {}: error {}, the log is {} to {}, {} bytes {:016x}",
                     partition.name(), place.offset, data.error_code, data.log_start_offset, data.high_watermark,
                     data.records.view.size(), xxh3_64(data.records.view, 0));
    const auto error = static_cast<KafkaError>(data.error_code);
    if (error == KafkaError::kOffsetOutOfRange || data.diverging_epoch.epoch >= 0) {
      // A memory topic goes on where it ended before an orderly restart, without its records.
      const bool forgets =
          partition.durability == Durability::kMemory || partition.forgets.from_the_front;
      const bool behind = forgets && place.offset < data.log_start_offset;
      if (!changed && !behind) {
        world_.oracle.violate(fmt::format(
            "{}: a consumer at {} is told that its place is gone (error {}, diverging at {}/{})",
            partition.name(), place.offset, data.error_code, data.diverging_epoch.epoch,
            data.diverging_epoch.end_offset));
      }
      world_.count(data.error_code != 0 ? "client.offset_out_of_range" : "client.diverging_epoch");
      place = {.offset = std::max<std::int64_t>(data.log_start_offset, 0),
               .epoch = -1,
               .losses = partition.losses};
      return;
    }
    if (error != KafkaError::kNone) {
      world_.count(fmt::format("client.fetch_error_{}", data.error_code));
      if (error != KafkaError::kKafkaStorageError && error != KafkaError::kNotLeaderOrFollower) {
        world_.oracle.violate(fmt::format("{}: a fetch from {} failed with {}", partition.name(),
                                          place.offset, data.error_code));
      }
      return;
    }
    world_.oracle.shown_high_watermark(p, data.high_watermark, place.floor, place.floor_losses);
    if (partition.forgets.from_the_front) {
      world_.oracle.shown_start(p, data.log_start_offset, place.start);
      if (place.offset < place.start) {
        world_.oracle.violate(fmt::format("{}: a fetch from {} was served, the log began at {}",
                                          partition.name(), place.offset, place.start));
      }
    }
    const auto batches =
        world_.oracle.served(p, place.offset, data.records.view, data.high_watermark);
    if (!batches || batches->empty()) return;
    world_.count("client.batches_read", batches->size());
    place.offset = batches->back().header.next_offset();
    place.epoch = batches->back().header.leader_epoch;
    place.losses = partition.losses;
  }

  World& world_;
  const DataTopic& topic_;
  io::SeededRng rng_;
  Link link_;
  std::vector<Place> at_;
};

/// One answer to one search.
void judge_search(World& world, std::uint32_t p, std::int64_t asked, std::int64_t floor,
                  std::uint64_t losses, const ListOffsetsResponse::Partition& found) {
  const auto& partition = world.oracle.partition(p);
  const auto error = static_cast<KafkaError>(found.error_code);
  if (error == KafkaError::kKafkaStorageError || error == KafkaError::kNotLeaderOrFollower) return;
  // The greatest timestamp may lie in what a slow disk has not taken yet.
  if (asked == -3 && error == KafkaError::kRequestTimedOut) return;
  if (error != KafkaError::kNone) {
    world.oracle.violate(fmt::format("{}: a search for {} failed with {}", partition.name(), asked,
                                     found.error_code));
    return;
  }
  if (partition.losses != losses) return;
  if (asked == -1) {
    world.oracle.shown_high_watermark(p, found.offset, floor, losses);
    if (found.leader_epoch >= 0) world.oracle.shown_epoch(p, found.leader_epoch);
  } else if (asked >= 0) {
    world.oracle.found_by_time(p, asked, found.offset, found.timestamp, floor);
    world.count(found.offset >= 0 ? "client.found_by_time" : "client.nothing_by_time");
  }
}

}  // namespace

io::Task<void> run_consumer(World& world, const DataTopic& topic, std::uint64_t seed) {
  Consumer consumer(world, topic, seed);
  co_await consumer.run();
}

io::Task<void> run_searcher(World& world, std::uint64_t seed) {
  io::SeededRng rng(seed);
  Link link("searcher");
  while (const auto busy = co_await world.enter(rng, 40ms)) {
    if (!co_await world.connect(link)) continue;
    const DataTopic& topic = world.topics()[rng.below(world.topics().size())];
    const std::size_t index = rng.below(topic.partitions.size());
    const std::uint32_t p = topic.partitions[index];
    const std::int64_t wall = io::Shard::current().wall().ms;
    const std::int64_t asked =
        rng.chance(0.4) ? -1
        : rng.chance(0.1)
            ? -3
            : wall - static_cast<std::int64_t>(rng.below(rng.chance(0.5) ? 100 : 2000));
    ListOffsetsRequest request;
    auto& from = request.topics.emplace_back();
    from.name = topic.name;
    auto& item = from.partitions.emplace_back();
    item.partition_index = static_cast<std::int32_t>(index);
    item.timestamp = asked;
    const std::int64_t floor = world.oracle.partition(p).high_watermark;
    const std::uint64_t losses = world.oracle.partition(p).losses;
    auto answer = co_await link.call<ListOffsetsResponse>(std::move(request), kListVersion, 500ms);
    if (!answer) continue;
    const auto& found = answer->message.topics.at(0).partitions.at(0);
    world.trace.add("search in {} for {}: error {} offset {} time {}",
                    world.oracle.partition(p).name(), asked, found.error_code, found.offset,
                    found.timestamp);
    judge_search(world, p, asked, floor, losses, found);
  }
  link.close();
}

}  // namespace pyralog::simtest
