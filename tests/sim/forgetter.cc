// A client that deletes records: where it is told that a log begins, it begins, whatever happens
// then.
#include "wire/kafka/gen/delete_records.h"
#include "world.h"

namespace pyralog::simtest {

namespace {

using namespace std::chrono_literals;

io::Task<void> delete_some(World& world, Link& link, io::Rng& rng, std::uint32_t p) {
  const auto& partition = world.oracle.partition(p);
  const bool all = rng.chance(0.1);
  const std::int64_t room = partition.high_watermark - partition.start;
  const std::int64_t to =
      all ? -1
          : partition.start +
                (room > 0
                     ? static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(room) + 1))
                     : 0);
  const std::int64_t floor = all ? partition.high_watermark : std::max(partition.start, to);
  const std::uint64_t losses = partition.losses;
  if (partition.forgets.from_the_front) {
    world.oracle.deleting(p, all ? std::numeric_limits<std::int64_t>::max() : to);
  }
  wire::DeleteRecordsRequest request;
  request.topics.push_back({partition.topic, {{.partition_index = partition.index, .offset = to}}});
  request.timeout_ms = 1000;
  auto answer = co_await link.call<wire::DeleteRecordsResponse>(std::move(request), 2, 500ms);
  if (!answer) co_return;
  const auto& done = answer->message.topics.at(0).partitions.at(0);
  const auto error = static_cast<KafkaError>(done.error_code);
  world.trace.add("{} told to begin at {}: error {}, begins at {}", partition.name(), to,
                  done.error_code, done.low_watermark);
  world.count(fmt::format("client.delete_records_error_{}", done.error_code));
  if (!partition.forgets.from_the_front) {
    if (error == KafkaError::kPolicyViolation) co_return;
    world.oracle.violate(fmt::format("{}: records of a compacted topic could be deleted: error {}",
                                     partition.name(), done.error_code));
  } else if (error == KafkaError::kNone) {
    world.oracle.shown_start(p, done.low_watermark, losses == partition.losses ? floor : 0);
  } else if (error == KafkaError::kOffsetOutOfRange && losses == partition.losses) {
    world.oracle.violate(
        fmt::format("{}: cannot begin at {}, though {} was shown as high watermark",
                    partition.name(), to, partition.high_watermark));
  }
}

}  // namespace

io::Task<void> run_forgetter(World& world, std::uint64_t seed) {
  io::SeededRng rng(seed);
  Link link("forgetter");
  while (const auto busy = co_await world.enter(rng, 120ms)) {
    if (!co_await world.connect(link)) continue;
    for (const DataTopic& topic : world.topics()) {
      const std::uint32_t p = topic.partitions.front();
      const Forgets& forgets = world.oracle.partition(p).forgets;
      if (!forgets.from_the_front && !(forgets.compacted && rng.chance(0.1))) continue;
      co_await delete_some(world, link, rng, p);
      if (!link.connected()) break;
    }
  }
  link.close();
}

}  // namespace pyralog::simtest
