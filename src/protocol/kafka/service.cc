#include "protocol/kafka/service.h"

#include <algorithm>

#include "base/plant.h"
#include "wire/kafka/gen/api_versions.h"
#include "wire/kafka/gen/fetch.h"
#include "wire/kafka/gen/produce.h"

namespace pyralog::protocol::kafka {

using wire::ApiKey;

const std::vector<OfferedApi>& offered_apis() {
  static const std::vector<OfferedApi> kOffered = {
      {ApiKey::kProduce, 0, 11},
      {ApiKey::kFetch, 0, 16},
      {ApiKey::kListOffsets, 1, 7},
      {ApiKey::kMetadata, 0, 12},
      {ApiKey::kOffsetCommit, 2, 9},
      {ApiKey::kOffsetFetch, 1, 9},
      {ApiKey::kFindCoordinator, 0, 4},
      {ApiKey::kJoinGroup, 0, 9},
      {ApiKey::kHeartbeat, 0, 4},
      {ApiKey::kLeaveGroup, 0, 5},
      {ApiKey::kSyncGroup, 0, 5},
      {ApiKey::kDescribeGroups, 0, 5},
      {ApiKey::kListGroups, 0, 5},
      {ApiKey::kApiVersions, 0, 4},
      {ApiKey::kCreateTopics, 2, 7},
      {ApiKey::kDeleteTopics, 1, 6},
      {ApiKey::kDeleteRecords, 0, 2},
      {ApiKey::kInitProducerId, 0, 4},
      {ApiKey::kOffsetForLeaderEpoch, 2, 4},
      {ApiKey::kDescribeConfigs, 1, 4},
      {ApiKey::kAlterConfigs, 0, 2},
      {ApiKey::kDescribeLogDirs, 1, 4},
      {ApiKey::kCreatePartitions, 0, 3},
      {ApiKey::kDeleteGroups, 0, 2},
      {ApiKey::kElectLeaders, 0, 2},
      {ApiKey::kIncrementalAlterConfigs, 0, 1},
      {ApiKey::kAlterPartitionReassignments, 0, 0},
      {ApiKey::kListPartitionReassignments, 0, 0},
      {ApiKey::kOffsetDelete, 0, 0},
      {ApiKey::kDescribeCluster, 0, 1},
      {ApiKey::kDescribeProducers, 0, 0},
      {ApiKey::kDrainNode, 0, 0},
      {ApiKey::kChangeMember, 0, 0},
      {ApiKey::kNextIds, 0, 0},
      {ApiKey::kNextCounter, 0, 0},
  };
  return kOffered;
}

namespace {

constexpr std::size_t kMaxLoggedClientId = 256;
/// What clients call themselves that know messages of our own.
constexpr std::string_view kOurSoftware = "pyralog";

const OfferedApi* offered(ApiKey key) {
  for (const OfferedApi& api : offered_apis()) {
    if (api.key == key) return &api;
  }
  return nullptr;
}

using Function = Handled (*)(Service&, Request);

Function handler_of(ApiKey key) {
  switch (key) {
    case ApiKey::kProduce: return handle_produce;
    case ApiKey::kFetch: return handle_fetch;
    case ApiKey::kListOffsets: return handle_list_offsets;
    case ApiKey::kMetadata: return handle_metadata;
    case ApiKey::kOffsetCommit: return handle_offset_commit;
    case ApiKey::kOffsetFetch: return handle_offset_fetch;
    case ApiKey::kFindCoordinator: return handle_find_coordinator;
    case ApiKey::kJoinGroup: return handle_join_group;
    case ApiKey::kHeartbeat: return handle_heartbeat;
    case ApiKey::kLeaveGroup: return handle_leave_group;
    case ApiKey::kSyncGroup: return handle_sync_group;
    case ApiKey::kDescribeGroups: return handle_describe_groups;
    case ApiKey::kListGroups: return handle_list_groups;
    case ApiKey::kApiVersions: return handle_api_versions;
    case ApiKey::kCreateTopics: return handle_create_topics;
    case ApiKey::kDeleteTopics: return handle_delete_topics;
    case ApiKey::kInitProducerId: return handle_init_producer_id;
    case ApiKey::kOffsetForLeaderEpoch: return handle_offset_for_leader_epoch;
    case ApiKey::kDescribeConfigs: return handle_describe_configs;
    case ApiKey::kAlterConfigs: return handle_alter_configs;
    case ApiKey::kCreatePartitions: return handle_create_partitions;
    case ApiKey::kDeleteGroups: return handle_delete_groups;
    case ApiKey::kIncrementalAlterConfigs: return handle_incremental_alter_configs;
    case ApiKey::kDescribeCluster: return handle_describe_cluster;
    case ApiKey::kDescribeProducers: return handle_describe_producers;
    case ApiKey::kDeleteRecords: return handle_delete_records;
    case ApiKey::kDescribeLogDirs: return handle_describe_log_dirs;
    case ApiKey::kOffsetDelete: return handle_offset_delete;
    case ApiKey::kElectLeaders: return handle_elect_leaders;
    case ApiKey::kAlterPartitionReassignments: return handle_alter_partition_reassignments;
    case ApiKey::kListPartitionReassignments: return handle_list_partition_reassignments;
    case ApiKey::kDrainNode: return handle_drain_node;
    case ApiKey::kChangeMember: return handle_change_member;
    case ApiKey::kNextIds: return handle_next_ids;
    case ApiKey::kNextCounter: return handle_next_counter;
  }
  return nullptr;
}

}  // namespace

Service::Service(broker::Broker& broker, unsigned shard, Options options)
    : broker_(broker),
      options_(options),
      sessions_(shard, options.sessions),
      shard_(shard),
      counts_(options.metrics) {}

std::optional<unsigned> Service::shard_of_all(ByteView request) const {
  if (shard_count() < 2 || PYRALOG_PLANT("kafka.stay_where_accepted")) return std::nullopt;
  const auto frame = wire::parse_request(request);
  if (!frame || frame->api == nullptr) return std::nullopt;
  std::optional<unsigned> shard;
  // Whether all that was looked at is there.
  const auto there = [&](const std::string& topic, std::int32_t partition) {
    const auto its = broker_.shard_of({topic, partition});
    const bool same = its && *its != shard_ && (!shard || shard == its);
    shard = same ? its : std::nullopt;
    return same;
  };
  const std::int16_t version = frame->header.request_api_version;
  if (frame->api->key == ApiKey::kProduce) {
    const auto produce = wire::decode_message<wire::ProduceRequest>(frame->body, version,
                                                                    {.allow_trailing = true});
    if (!produce) return std::nullopt;
    for (const auto& topic : produce->topic_data) {
      for (const auto& each : topic.partition_data) {
        if (!there(topic.name, each.index)) return std::nullopt;
      }
    }
  } else if (frame->api->key == ApiKey::kFetch) {
    const auto fetch = wire::decode_message<wire::FetchRequest>(frame->body, version,
                                                                {.allow_trailing = true});
    if (!fetch || fetch->session_id != 0) return std::nullopt;
    for (const auto& topic : fetch->topics) {
      std::string name = topic.topic;
      if (names_topics_by_id(version)) {
        const auto known = broker_.catalog()->topic(TopicId{topic.topic_id});
        if (known == nullptr) return std::nullopt;
        name = known->name;
      }
      for (const auto& each : topic.partitions) {
        if (!there(name, each.partition)) return std::nullopt;
      }
    }
  }
  return shard;
}

io::Task<Result<Reply>> Service::handle(Request request) {
  const wire::RequestFrame& frame = request.frame;
  const OfferedApi* api = offered(frame.api->key);
  const std::int16_t version = request.version();
  if (api == nullptr) {
    co_return fail(Code::kUnsupported, std::string("request ") + frame.api->name +
                                           " is not offered; ApiVersions lists what is");
  }
  if (api->key != ApiKey::kApiVersions &&
      (version < api->min_version || version > api->max_version || !frame.known_version)) {
    co_return fail(Code::kUnsupported, std::string("request ") + frame.api->name + " version " +
                                           std::to_string(version) + " is not offered (" +
                                           std::to_string(api->min_version) + " to " +
                                           std::to_string(api->max_version) + " are)");
  }
  const Instant began = io::Shard::current().now();
  const auto place = static_cast<std::size_t>(api - offered_apis().data());
  counts_.begun(place, request.bytes->size(), request.queued);
  RequestTimes times;
  request.times = &times;
  AnswerRoom room(options_.max_answer_bytes);
  request.room = &room;
  // The request is the handler's from here on.
  const std::string client_id(std::string_view(request.client_id()).substr(0, kMaxLoggedClientId));
  const std::string client_host = request.client_host;
  const Duration queued = request.queued;
  const char* name = frame.api->name;
  auto reply = co_await handler_of(api->key)(*this, std::move(request));
  const Duration took = io::Shard::current().now() - began;
  if (reply) counts_.served(place, took, *reply);
  const bool meant = PYRALOG_PLANT("kafka.meant_waits_are_slow");
  const Duration ours = meant ? took : took - times.meant;
  if (!is_slow(ours)) co_return reply;
  std::vector<observe::Field> fields = {
      {"api", name}, {"client_id", client_id}, {"client", client_host}};
  if (!times.partition.empty()) fields.push_back({"partition", times.partition});
  fields.push_back({"queue_ms", observe::to_ms(queued)});
  fields.push_back({"disk_ms", observe::to_ms(times.disk)});
  fields.push_back({"client_wait_ms", observe::to_ms(times.meant)});
  options_.slow->note(observe::SlowKind::kRequest, ours, std::move(fields));
  co_return reply;
}

namespace {

/// Whether a client may call itself, or its version, so: letters and digits, between them also - and .
/// (KIP-511).
bool is_software_name(std::string_view name) {
  constexpr auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && is_plain(name.front()) && is_plain(name.back()) &&
         std::ranges::all_of(name, [&](char c) { return is_plain(c) || c == '-' || c == '.'; });
}

}  // namespace

Handled handle_api_versions(Service&, Request request) {
  wire::ApiVersionsResponse out;
  const OfferedApi* self = offered(ApiKey::kApiVersions);
  const bool known = request.frame.known_version && request.version() >= self->min_version &&
                     request.version() <= self->max_version;
  if (!known) {
    // KIP-511: version 0, with our range, so that the client can ask again.
    out.error_code = code(KafkaError::kUnsupportedVersion);
    out.api_keys.push_back({static_cast<std::int16_t>(self->key), self->min_version,
                            self->max_version});
    PYRALOG_CO_ASSIGN(wire::Frame frame,
                      wire::encode_response(out, 0, request.frame.header.correlation_id));
    Reply refused = assemble(std::move(frame), {});
    count_errors(out, refused.errors);
    co_return refused;
  }
  PYRALOG_CO_ASSIGN(const auto in, decode<wire::ApiVersionsRequest>(request));
  if (request.version() >= 3 && !PYRALOG_PLANT("kafka.any_software_name") &&
      !(is_software_name(in.client_software_name) && is_software_name(in.client_software_version))) {
    out.error_code = code(KafkaError::kInvalidRequest);
    co_return reply(request, out);
  }
  // Others take a key that they do not know for an error, or for something of theirs to come.
  const bool ours = in.client_software_name == kOurSoftware || PYRALOG_PLANT("kafka.native_for_all");
  for (const OfferedApi& api : offered_apis()) {
    if (wire::is_native(api.key) && !ours) continue;
    out.api_keys.push_back(
        {static_cast<std::int16_t>(api.key), api.min_version, api.max_version});
  }
  co_return reply(request, out);
}

Reply assemble(wire::Frame frame, std::vector<std::vector<io::Piece>> external) {
  Reply out;
  const SharedBytes bytes(std::move(frame.bytes));
  std::size_t at = 0;
  for (const wire::Splice& splice : frame.splices) {
    if (splice.position > at) {
      out.pieces.emplace_back(bytes.slice(at, splice.position - at));
      at = splice.position;
    }
    auto& payload = external[splice.external_id];
    std::move(payload.begin(), payload.end(), std::back_inserter(out.pieces));
  }
  if (at < bytes.size()) out.pieces.emplace_back(bytes.slice(at, bytes.size() - at));
  return out;
}

}  // namespace pyralog::protocol::kafka
