// What lies in the logs: deleting records, and how much there is.
#include <algorithm>
#include <map>
#include <set>

#include "protocol/kafka/service.h"
#include "wire/kafka/gen/delete_records.h"
#include "wire/kafka/gen/describe_log_dirs.h"

namespace pyralog::protocol::kafka {

namespace {

io::Task<void> delete_records(Service& service, broker::PartitionRef target, std::int64_t offset,
                              Duration timeout, wire::DeleteRecordsResponse::Partition& out) {
  const auto start = co_await service.broker().delete_records(std::move(target), offset, timeout);
  out.low_watermark = start.value_or(-1);
  out.error_code = code(start ? KafkaError::kNone : start.error());
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
  // Side by side: each waits for the disk, and they can share its syncs.
  io::TaskGroup deletions;
  for (std::size_t t = 0; t < in.topics.size(); ++t) {
    for (std::size_t p = 0; p < in.topics[t].partitions.size(); ++p) {
      const auto& asked = in.topics[t].partitions[p];
      deletions.spawn(delete_records(service, {in.topics[t].name, asked.partition_index}, asked.offset,
                                     timeout, out.topics[t].partitions[p]));
    }
  }
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
