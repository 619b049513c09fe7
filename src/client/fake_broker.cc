#include "client/fake_broker.h"

#include <algorithm>

#include "model/record_batch.h"
#include "wire/kafka/frame_cutter.h"
#include "wire/kafka/gen/alter_partition_reassignments.h"
#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/delete_records.h"
#include "wire/kafka/gen/drain_node.h"
#include "wire/kafka/gen/next_counter.h"
#include "wire/kafka/gen/next_ids.h"
#include "wire/kafka/gen/elect_leaders.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/find_coordinator.h"
#include "wire/kafka/gen/init_producer_id.h"
#include "wire/kafka/gen/list_offsets.h"
#include "wire/kafka/gen/list_partition_reassignments.h"
#include "wire/kafka/gen/metadata.h"
#include "wire/kafka/gen/produce.h"

namespace pyralog::client::testing {

namespace kafka = wire::kafka;

void FakeBroker::add_topic(const std::string& name, std::int32_t partitions) {
  topics_[name].resize(static_cast<std::size_t>(partitions));
}

io::Task<void> FakeBroker::serve() {
  auto listener = co_await io::Shard::current().net().listen({host_, port_});
  PYRALOG_ASSERT(listener.has_value());
  listener_ = std::move(*listener);
  while (!stopping_) {
    auto stream = co_await listener_->accept();
    if (!stream) break;
    streams_.push_back(std::move(*stream));
    tasks_.spawn(run(std::prev(streams_.end())));
  }
  co_await tasks_.join();
}

void FakeBroker::stop() {
  stopping_ = true;
  if (listener_) listener_->close();
  for (auto& stream : streams_) stream->close();
}

io::Task<void> FakeBroker::run(std::list<std::unique_ptr<io::Stream>>::iterator place) {
  io::Stream& stream = **place;
  kafka::FrameCutter cutter({});
  bool open = true;
  while (open) {
    auto frame = cutter.next();
    PYRALOG_ASSERT(frame.has_value());
    if (!*frame) {
      const auto got = co_await stream.read_some(cutter.buffer(), Instant::never());
      if (!got || *got == 0) break;
      cutter.advance(*got);
      continue;
    }
    const auto request = kafka::parse_request(**frame);
    PYRALOG_ASSERT(request.has_value());
    ++counts_[request->header.request_api_key];
    const Fault chosen = fault ? fault(*request) : Fault{};
    if (chosen.kind == Fault::Kind::kCutBefore) break;
    auto reply = answer(*request, chosen);
    PYRALOG_ASSERT(reply.has_value());
    if (const Duration delay = std::exchange(delay_, Duration(0)); delay.count() > 0) {
      co_await io::sleep_for(delay);
    }
    if (chosen.kind == Fault::Kind::kSwallow) break;
    if (chosen.kind == Fault::Kind::kSilence || reply->empty()) continue;
    std::vector<io::Piece> pieces;
    pieces.emplace_back(SharedBytes(std::move(*reply)));
    open = (co_await stream.write(std::move(pieces), Instant::never())).has_value();
  }
  stream.close();
  streams_.erase(place);
}

int FakeBroker::count(kafka::ApiKey key) const {
  const auto found = counts_.find(static_cast<std::int16_t>(key));
  return found == counts_.end() ? 0 : found->second;
}

std::vector<std::string> FakeBroker::values(const std::string& topic, std::int32_t index) {
  std::vector<std::string> found;
  for (const Bytes& batch : partition(topic, index).batches) {
    auto reader = RecordReader::open(batch, 1u << 24);
    PYRALOG_ASSERT(reader.has_value());
    for (auto record = reader->next(); record && *record; record = reader->next()) {
      found.emplace_back(as_text((*record)->value.value_or(ByteView())));
    }
  }
  return found;
}

template <typename Response>
Result<Bytes> FakeBroker::finish(const kafka::RequestFrame& request, const Response& response) {
  PYRALOG_ASSIGN(auto frame, kafka::encode_response(response, request.header.request_api_version,
                                                    request.header.correlation_id));
  PYRALOG_ASSERT(frame.splices.empty());
  return std::move(frame.bytes);
}

Result<Bytes> FakeBroker::answer(const kafka::RequestFrame& request, const Fault& chosen) {
  const std::int16_t code = chosen.kind == Fault::Kind::kError ? chosen.code : std::int16_t{0};
  switch (request.api->key) {
    case kafka::ApiKey::kApiVersions:
      return api_versions(request);
    case kafka::ApiKey::kMetadata:
      return metadata(request);
    case kafka::ApiKey::kProduce:
      return produce(request, code);
    case kafka::ApiKey::kFetch:
      return fetch(request, code);
    case kafka::ApiKey::kListOffsets:
      return list_offsets(request);
    case kafka::ApiKey::kElectLeaders:
      return elect_leaders(request, code);
    case kafka::ApiKey::kAlterPartitionReassignments:
      return reassign(request, code);
    case kafka::ApiKey::kListPartitionReassignments:
      return list_moves(request);
    case kafka::ApiKey::kDrainNode:
      return drain_node(request, code);
    case kafka::ApiKey::kNextIds:
      return next_ids(request, code);
    case kafka::ApiKey::kNextCounter:
      return next_counter(request, code);
    case kafka::ApiKey::kDeleteRecords:
      return delete_records(request, code);
    case kafka::ApiKey::kInitProducerId:
      return init_producer_id(request);
    case kafka::ApiKey::kFindCoordinator:
      return find_coordinator(request);
    case kafka::ApiKey::kJoinGroup:
      return join_group(request);
    case kafka::ApiKey::kSyncGroup:
      return sync_group(request);
    case kafka::ApiKey::kHeartbeat:
      return heartbeat(request);
    case kafka::ApiKey::kLeaveGroup:
      return leave_group(request);
    case kafka::ApiKey::kOffsetCommit:
      return offset_commit(request, code);
    case kafka::ApiKey::kOffsetFetch:
      return offset_fetch(request);
    default:
      return fail(Code::kUnsupported, "the fake broker does not serve this");
  }
}

Result<Bytes> FakeBroker::api_versions(const kafka::RequestFrame& request) {
  kafka::ApiVersionsResponse response;
  for (const kafka::ApiInfo& api : kafka::kApis) {
    const auto key = static_cast<std::int16_t>(api.key);
    const auto limit = version_limits.find(key);
    response.api_keys.push_back(
        {key, api.min_version, limit == version_limits.end() ? api.max_version : limit->second});
  }
  const auto limit = version_limits.find(request.header.request_api_key);
  if (limit == version_limits.end() || request.header.request_api_version <= limit->second) {
    return finish(request, response);
  }
  response.error_code = 35;
  PYRALOG_ASSIGN(auto frame, kafka::encode_response(response, 0, request.header.correlation_id));
  return std::move(frame.bytes);
}

Result<Bytes> FakeBroker::metadata(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::MetadataRequest>(
                                       request.body, request.header.request_api_version));
  kafka::MetadataResponse response;
  response.brokers.push_back({1, host_, port_, std::nullopt});
  response.controller_id = 1;
  std::vector<std::string> names;
  if (asked.topics) {
    for (const auto& topic : *asked.topics) names.push_back(topic.name.value_or(""));
  } else {
    for (const auto& [name, partitions] : topics_) names.push_back(name);
  }
  for (const std::string& name : names) {
    kafka::MetadataResponse::Topic topic;
    topic.name = name;
    const auto known = topics_.find(name);
    if (known == topics_.end()) {
      topic.error_code = 3;
    } else {
      for (std::size_t i = 0; i < known->second.size(); ++i) {
        kafka::MetadataResponse::Partition partition;
        partition.partition_index = static_cast<std::int32_t>(i);
        partition.leader_id = 1;
        partition.leader_epoch = 1;
        partition.replica_nodes = {1};
        partition.isr_nodes = {1};
        topic.partitions.push_back(partition);
      }
    }
    response.topics.push_back(std::move(topic));
  }
  return finish(request, response);
}

std::int16_t FakeBroker::store(Partition& partition, ByteView batch, std::int64_t& base) {
  BatchHeader header;
  if (check_batch(batch, {}, header)) return 2;
  if (header.idempotent()) {
    auto& next = partition.next_sequence.try_emplace(header.producer_id, 0).first->second;
    if (header.base_sequence < next) {
      base = -1;
      return 46;
    }
    if (header.base_sequence > next) return 45;
    next = header.base_sequence + header.count;
  }
  Bytes copy(batch.begin(), batch.end());
  assign_offset_and_epoch(copy, Offset(partition.end), Epoch(1));
  base = partition.end;
  partition.end += header.count;
  partition.batches.push_back(std::move(copy));
  return 0;
}

Result<Bytes> FakeBroker::produce(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::ProduceRequest>(
                                       request.body, request.header.request_api_version));
  kafka::ProduceResponse response;
  for (const auto& topic : asked.topic_data) {
    kafka::ProduceResponse::Topic into;
    into.name = topic.name;
    for (const auto& data : topic.partition_data) {
      kafka::ProduceResponse::Partition result;
      result.index = data.index;
      result.base_offset = -1;
      result.log_start_offset = partition(topic.name, data.index).start;
      result.error_code = code != 0 ? code
                                    : store(partition(topic.name, data.index), data.records.view,
                                            result.base_offset);
      into.partition_responses.push_back(result);
    }
    response.responses.push_back(std::move(into));
  }
  if (asked.acks == 0) return Bytes();
  return finish(request, response);
}

Result<Bytes> FakeBroker::fetch(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::FetchRequest>(
                                       request.body, request.header.request_api_version));
  kafka::FetchResponse response;
  std::list<Bytes> kept;
  bool nothing = true;
  for (const auto& topic : asked.topics) {
    kafka::FetchResponse::Topic into;
    into.topic = topic.topic;
    for (const auto& wanted : topic.partitions) {
      Partition& log = partition(topic.topic, wanted.partition);
      kafka::FetchResponse::Partition result;
      result.partition_index = wanted.partition;
      result.error_code = code;
      if (code == 0 && (wanted.fetch_offset < log.start || wanted.fetch_offset > log.end)) {
        result.error_code = 1;
      }
      result.high_watermark = log.end;
      result.last_stable_offset = log.end;
      result.log_start_offset = log.start;
      Bytes& records = kept.emplace_back();
      for (const Bytes& batch : log.batches) {
        const auto header = parse_batch_header(batch);
        if (result.error_code != 0 || header->next_offset() <= wanted.fetch_offset) continue;
        records.insert(records.end(), batch.begin(), batch.end());
        if (records.size() >= static_cast<std::size_t>(wanted.partition_max_bytes)) break;
      }
      result.records = kafka::Records::of(records);
      nothing = nothing && records.empty() && result.error_code == 0;
      into.partitions.push_back(std::move(result));
    }
    response.responses.push_back(std::move(into));
  }
  if (nothing) delay_ = std::chrono::milliseconds(asked.max_wait_ms);
  return finish(request, response);
}

Result<Bytes> FakeBroker::delete_records(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::DeleteRecordsRequest>(
                                       request.body, request.header.request_api_version));
  kafka::DeleteRecordsResponse response;
  for (const auto& topic : asked.topics) {
    auto& into = response.topics.emplace_back();
    into.name = topic.name;
    for (const auto& each : topic.partitions) {
      Partition& from = partition(topic.name, each.partition_index);
      const std::int16_t own = each.offset > from.end ? 1 : 0;
      const std::int16_t told = code != 0 ? code : own;
      if (told == 0) from.start = std::max(from.start, each.offset < 0 ? from.end : each.offset);
      into.partitions.push_back({each.partition_index, told == 0 ? from.start : -1, told});
    }
  }
  return finish(request, response);
}

Result<Bytes> FakeBroker::elect_leaders(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::ElectLeadersRequest>(
                                       request.body, request.header.request_api_version));
  kafka::ElectLeadersResponse response;
  response.error_code = code;
  const auto elect = [&](const std::string& name, std::int32_t index, Partition& each) {
    auto& results = response.replica_election_results;
    if (results.empty() || results.back().topic != name) results.emplace_back().topic = name;
    const std::int16_t own = each.led_by_another ? each.refuses_election : std::int16_t{84};
    if (own == 0) each.led_by_another = false;
    const std::string said = "partition " + name + "-" + std::to_string(index) + ": as it was asked";
    results.back().partition_result.push_back({index, own, said});
  };
  if (asked.topic_partitions) {
    for (const auto& topic : *asked.topic_partitions) {
      for (const std::int32_t index : topic.partitions) {
        elect(topic.topic, index, partition(topic.topic, index));
      }
    }
  } else {
    for (auto& [name, partitions] : topics_) {
      for (std::size_t i = 0; i < partitions.size(); ++i) {
        if (partitions[i].led_by_another) elect(name, static_cast<std::int32_t>(i), partitions[i]);
      }
    }
  }
  return finish(request, response);
}

Result<Bytes> FakeBroker::reassign(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::AlterPartitionReassignmentsRequest>(
                                       request.body, request.header.request_api_version));
  kafka::AlterPartitionReassignmentsResponse response;
  for (const auto& topic : asked.topics) {
    auto& into = response.responses.emplace_back();
    into.name = topic.name;
    for (const auto& each : topic.partitions) {
      const TopicPartition id{topic.name, each.partition_index};
      std::int16_t told = code;
      if (told == 0 && each.replicas) moves[id] = *each.replicas;
      if (told == 0 && !each.replicas && moves.erase(id) == 0) told = 85;
      into.partitions.push_back({each.partition_index, told, to_string(id) + ": as it was asked"});
    }
  }
  return finish(request, response);
}

Result<Bytes> FakeBroker::list_moves(const kafka::RequestFrame& request) {
  kafka::ListPartitionReassignmentsResponse response;
  for (const auto& [id, to] : moves) {
    response.topics.push_back({id.topic, {{id.partition, to, to, {1}}}});
  }
  return finish(request, response);
}

Result<Bytes> FakeBroker::drain_node(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::DrainNodeRequest>(
                                       request.body, request.header.request_api_version));
  kafka::DrainNodeResponse response;
  response.error_code = code;
  if (code == 0 && asked.change == 1) draining.insert(asked.node_id);
  if (code == 0 && asked.change == 2) draining.erase(asked.node_id);
  response.draining = draining.contains(asked.node_id);
  response.waiting = 2;
  response.stuck_count = 1;
  response.stuck.push_back({"t", 2, "nobody else is there"});
  return finish(request, response);
}

Result<Bytes> FakeBroker::next_ids(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::NextIdsRequest>(
                                       request.body, request.header.request_api_version));
  kafka::NextIdsResponse response;
  response.error_code = code;
  if (code == 0) {
    response.first_ms = static_cast<std::int64_t>(next_tick >> 13);
    response.machine = 7;
    response.sequence = static_cast<std::int16_t>(next_tick & 8191);
    response.count = asked.count;
    next_tick += static_cast<std::uint64_t>(asked.count);
  }
  return finish(request, response);
}

Result<Bytes> FakeBroker::next_counter(const kafka::RequestFrame& request, std::int16_t code) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::NextCounterRequest>(
                                       request.body, request.header.request_api_version));
  kafka::NextCounterResponse response;
  response.error_code = code;
  if (code == 0) response.first = std::exchange(next_value, next_value + asked.count);
  return finish(request, response);
}

Result<Bytes> FakeBroker::list_offsets(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::ListOffsetsRequest>(
                                       request.body, request.header.request_api_version));
  kafka::ListOffsetsResponse response;
  for (const auto& topic : asked.topics) {
    kafka::ListOffsetsResponse::Topic into;
    into.name = topic.name;
    for (const auto& wanted : topic.partitions) {
      const Partition& log = partition(topic.name, wanted.partition_index);
      kafka::ListOffsetsResponse::Partition result;
      result.partition_index = wanted.partition_index;
      result.offset = wanted.timestamp == -2 ? log.start : wanted.timestamp == -1 ? log.end : -1;
      for (const Bytes& batch : log.batches) {
        const auto header = parse_batch_header(batch);
        if (wanted.timestamp < 0 || header->max_timestamp < wanted.timestamp) continue;
        result.offset = header->base_offset;
        break;
      }
      into.partitions.push_back(result);
    }
    response.topics.push_back(std::move(into));
  }
  return finish(request, response);
}

Result<Bytes> FakeBroker::init_producer_id(const kafka::RequestFrame& request) {
  kafka::InitProducerIdResponse response;
  response.producer_id = next_producer_id++;
  response.producer_epoch = 0;
  return finish(request, response);
}

Result<Bytes> FakeBroker::find_coordinator(const kafka::RequestFrame& request) {
  PYRALOG_ASSIGN(const auto asked, kafka::decode_message<kafka::FindCoordinatorRequest>(
                                       request.body, request.header.request_api_version));
  kafka::FindCoordinatorResponse response;
  response.node_id = 1;
  response.host = host_;
  response.port = port_;
  for (const std::string& key : asked.coordinator_keys) {
    response.coordinators.push_back({key, 1, host_, port_, 0, std::nullopt});
  }
  return finish(request, response);
}

}  // namespace pyralog::client::testing
