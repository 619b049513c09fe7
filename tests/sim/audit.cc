// After every restart: all that is in the logs, read as a client reads it, against all that was
// promised.
#include <algorithm>

#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/metadata.h"
#include "world.h"

namespace pyralog::simtest {

using namespace std::chrono_literals;

namespace {

/// The offset that stands for `timestamp` (−1 the end, −2 the beginning).
io::Task<Result<std::int64_t>> offset_of(Link& link, const Oracle::Partition& partition,
                                         std::int64_t timestamp) {
  wire::ListOffsetsRequest request;
  request.topics.push_back(
      {partition.topic,
       {{.partition_index = partition.index, .current_leader_epoch = -1, .timestamp = timestamp}}});
  PYRALOG_CO_ASSIGN(const auto answer,
                    co_await link.call<wire::ListOffsetsResponse>(std::move(request), 7, 10s));
  const auto& found = answer.message.topics.at(0).partitions.at(0);
  if (found.error_code != 0) {
    co_return fail(Code::kUnavailable, fmt::format("error {}", found.error_code));
  }
  co_return found.offset;
}

io::Task<Result<Answer<wire::FetchResponse>>> read_from(Link& link,
                                                        const Oracle::Partition& partition,
                                                        std::int64_t offset) {
  wire::FetchRequest request;
  request.session_id = 0;
  request.session_epoch = -1;
  auto& topic = request.topics.emplace_back();
  topic.topic = partition.topic;
  auto& item = topic.partitions.emplace_back();
  item.partition = partition.index;
  item.fetch_offset = offset;
  item.partition_max_bytes = 1 << 16;
  co_return co_await link.call<wire::FetchResponse>(std::move(request), 12, 10s);
}

}  // namespace

io::Task<bool> World::audit_partition(Link& link, std::uint32_t p, std::int32_t epoch) {
  const Oracle::Partition& partition = oracle.partition(p);
  auto start = co_await offset_of(link, partition, -2);
  const auto end = co_await offset_of(link, partition, -1);
  if (!start || !end) {
    oracle.violate(fmt::format("{}: cannot be listed after a restart: {}", partition.name(),
                               (start ? end : start).error().message));
    co_return false;
  }
  std::vector<Bytes> kept;
  for (std::int64_t at = *start; at < *end;) {
    auto answer = co_await read_from(link, partition, at);
    const std::int16_t error =
        answer ? answer->message.responses.at(0).partitions.at(0).error_code : std::int16_t{0};
    if (error == static_cast<std::int16_t>(KafkaError::kOffsetOutOfRange) &&
        partition.forgets.from_the_front) {
      // Retention goes on meanwhile.
      const auto now = co_await offset_of(link, partition, -2);
      if (now && *now > at) {
        count("rare.forgotten_while_audited");
        kept.clear();
        start = now;
        at = *now;
        continue;
      }
    }
    if (!answer || error != 0) {
      oracle.violate(fmt::format("{}: cannot be read at {} after a restart: {}", partition.name(), at,
                                 answer ? fmt::format("error {}", error) : answer.error().message));
      co_return false;
    }
    const auto& data = answer->message.responses.at(0).partitions.at(0);
    ByteView rest = data.records.view;
    const std::int64_t before = at;
    while (rest.size() >= kBatchHeaderBytes) {
      const auto header = parse_batch_header(rest);
      if (!header || header->total_bytes() > rest.size()) break;
      kept.emplace_back(rest.begin(),
                        rest.begin() + static_cast<std::ptrdiff_t>(header->total_bytes()));
      at = header->next_offset();
      rest = rest.subspan(header->total_bytes());
    }
    if (at == before) {
      oracle.violate(fmt::format("{}: nothing can be read at {}, below the end {}",
                                 partition.name(), at, *end));
      co_return false;
    }
  }
  trace.add("audit of {}: {} to {}, epoch {}, must survive {}", partition.name(), *start, *end,
            epoch, simtest::name(survives_));
  oracle.recovered(p, kept, *start, *end, epoch, survives_, io::Shard::current().wall().ms);
  co_return true;
}

io::Task<bool> World::audit_all() {
  Link link("audit");
  if (!co_await link.connect({"server", kKafkaPort}, 1s)) co_return false;
  wire::MetadataRequest request;
  request.topics.emplace();
  for (const DataTopic& topic : topics_) request.topics->push_back({{}, topic.name});
  request.allow_auto_topic_creation = false;
  auto answer = co_await link.call<wire::MetadataResponse>(std::move(request), 12, 10s);
  if (!answer) co_return false;
  for (std::size_t t = 0; t < topics_.size(); ++t) {
    const auto& found = answer->message.topics.at(t);
    if (found.error_code != 0 || found.partitions.size() != topics_[t].partitions.size()) {
      oracle.violate(fmt::format("{} is not whole after a restart: error {}, {} partitions",
                                 topics_[t].name, found.error_code, found.partitions.size()));
      co_return false;
    }
    for (std::size_t i = 0; i < found.partitions.size(); ++i) {
      if (!co_await audit_partition(link, topics_[t].partitions[i],
                                    found.partitions[i].leader_epoch)) {
        co_return false;
      }
    }
  }
  link.close();
  co_return true;
}

void World::audit() {
  const bool done = clients_->run([this] { return audit_all(); });
  if (!done && violations().empty()) oracle.violate("the server does not answer after a restart");
}

}  // namespace pyralog::simtest
