// What lies in the logs: deleting records, and how much there is.
#include <algorithm>
#include <map>
#include <set>

#include "protocol/kafka/service.h"
#include "wire/kafka/gen/delete_records.h"
#include "wire/kafka/gen/describe_log_dirs.h"

namespace pyralog::protocol::kafka {

namespace {

/// What a request asks for, and how far it is; the request's own.
struct Deletions {
  const wire::DeleteRecordsRequest& in;
  wire::DeleteRecordsResponse& out;
  Duration timeout;
  std::size_t topic = 0;
  std::size_t partition = 0;
};

/// Takes one partition after another; several of these share the work.
io::Task<void> delete_records(Service& service, Deletions& all) {
  while (all.topic < all.in.topics.size()) {
    const auto& topic = all.in.topics[all.topic];
    if (all.partition >= topic.partitions.size()) {
      ++all.topic;
      all.partition = 0;
      continue;
    }
    auto& out = all.out.topics[all.topic].partitions[all.partition];
    const auto& asked = topic.partitions[all.partition++];
    const auto start = co_await service.broker().delete_records({topic.name, asked.partition_index},
                                                                asked.offset, all.timeout);
    out.low_watermark = start.value_or(-1);
    out.error_code = code(start ? KafkaError::kNone : start.error());
  }
}

}  // namespace

Handled handle_delete_records(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DeleteRecordsRequest>(request));
  const Duration timeout = std::min<Duration>(
      std::chrono::milliseconds(std::max(in.timeout_ms, 0)), service.options().max_request_time);
  wire::DeleteRecordsResponse out;
  for (const auto& topic : in.topics) {
    auto& to = out.topics.emplace_back();
    to.name = topic.name;
    for (const auto& partition : topic.partitions) {
      to.partitions.emplace_back().partition_index = partition.partition_index;
    }
  }
  // A few side by side: each waits for the disk, and they can share its syncs.
  constexpr int kAtOnce = 32;
  Deletions all{in, out, timeout};
  io::TaskGroup deletions;
  for (int i = 0; i < kAtOnce; ++i) deletions.spawn(delete_records(service, all));
  co_await deletions.join();
  co_return reply(request, out);
}

Handled handle_describe_log_dirs(Service& service, Request request) {
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::DescribeLogDirsRequest>(request));
  std::map<std::string, std::set<std::int32_t>> wanted;
  if (in.topics) {
    for (const auto& topic : *in.topics) {
      wanted[topic.topic].insert(topic.partitions.begin(), topic.partitions.end());
    }
  }
  wire::DescribeLogDirsResponse out;
  auto& dir = out.results.emplace_back();
  dir.log_dir = service.broker().options().data_dir;
  const auto space = co_await io::Shard::current().disk().space(dir.log_dir);
  if (space) {
    dir.total_bytes = static_cast<std::int64_t>(space->total_bytes);
    dir.usable_bytes = static_cast<std::int64_t>(space->free_bytes);
  } else {
    dir.error_code = code(KafkaError::kKafkaStorageError);
  }
  const auto state = service.broker().catalog();
  std::map<std::string, std::vector<wire::DescribeLogDirsResponse::Partition>> topics;
  for (const auto& partition : co_await service.broker().status()) {
    const auto topic = state->topic(partition.id.topic);
    if (topic == nullptr) continue;
    const auto named = wanted.find(topic->name);
    const std::int32_t index = partition.id.partition.value;
    if (in.topics && (named == wanted.end() || !named->second.contains(index))) continue;
    auto& each = topics[topic->name].emplace_back();
    each.partition_index = index;
    each.partition_size = static_cast<std::int64_t>(partition.bytes);
  }
  for (auto& [name, partitions] : topics) {
    std::ranges::sort(partitions, {}, &wire::DescribeLogDirsResponse::Partition::partition_index);
    dir.topics.push_back({name, std::move(partitions)});
  }
  co_return reply(request, out);
}

}  // namespace pyralog::protocol::kafka
