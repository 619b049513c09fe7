#include "client/offsets.h"

#include <memory>

#include "wire/kafka/gen/list_offsets.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

using Times = std::map<TopicPartition, std::int64_t>;
using Found = std::map<TopicPartition, OffsetAtTime>;

kafka::ListOffsetsRequest request_for(const Times& times, bool committed) {
  kafka::ListOffsetsRequest request;
  request.isolation_level = committed ? 1 : 0;
  for (const auto& [partition, time] : times) {
    if (request.topics.empty() || request.topics.back().name != partition.topic) {
      request.topics.emplace_back().name = partition.topic;
    }
    kafka::ListOffsetsRequest::Partition wanted;
    wanted.partition_index = partition.partition;
    wanted.timestamp = time;
    request.topics.back().partitions.push_back(wanted);
  }
  return request;
}

/// One round: moves what was answered from `open` to `found`; the error that may pass, or one that
/// does not.
io::Task<Result<Error>> ask_leaders(Cluster& cluster, Times& open, Found& found, bool committed,
                                    Instant deadline) {
  std::map<std::shared_ptr<Connection>, Times> by_leader;
  Error passing{Code::kTimedOut, "offsets: not answered in time", 0};
  const Times all = open;
  for (const auto& [partition, time] : all) {
    auto leader = co_await cluster.leader(partition, deadline);
    if (leader) {
      by_leader[*leader].emplace(partition, time);
    } else if (is_retriable(leader.error())) {
      passing = leader.error();
    } else {
      co_return fail(leader.error());
    }
  }
  for (const auto& [connection, times] : by_leader) {
    const auto reply = co_await connection->call<kafka::ListOffsetsResponse>(
        request_for(times, committed), cluster.attempt_end(deadline));
    if (!reply) {
      if (!is_retriable(reply.error())) co_return fail(reply.error());
      passing = reply.error();
      continue;
    }
    for (const auto& topic : reply->message.topics) {
      for (const auto& answer : topic.partitions) {
        const TopicPartition partition{topic.name, answer.partition_index};
        if (answer.error_code == 0) {
          found[partition] = {answer.offset, answer.timestamp, answer.leader_epoch};
          open.erase(partition);
          continue;
        }
        const ErrorTraits& traits = traits_of(answer.error_code);
        const Error error = to_error(to_string(partition), answer.error_code);
        if (!traits.retriable) co_return fail(error);
        if (traits.stale_metadata) cluster.forget_topic(topic.name);
        passing = error;
      }
    }
  }
  co_return passing;
}

}  // namespace

io::Task<Result<Found>> list_offsets(Cluster& cluster, Times times, bool committed,
                                     Instant deadline) {
  Found found;
  io::Backoff backoff(cluster.options().backoff);
  for (;;) {
    PYRALOG_CO_ASSIGN(const Error passing,
                      co_await ask_leaders(cluster, times, found, committed, deadline));
    if (times.empty()) co_return found;
    if (!co_await backoff.wait(deadline)) co_return fail(passing);
  }
}

}  // namespace pyralog::client
