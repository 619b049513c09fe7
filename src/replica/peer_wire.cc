#include "replica/peer_wire.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "io/pace.h"
#include "observe/log.h"
#include "replica/peer_codec.h"
#include "wire/peer/gen/append.h"
#include "wire/peer/gen/append_progress.h"
#include "wire/peer/gen/read_range.h"
#include "wire/peer/gen/seal.h"

namespace pyralog::replica {

namespace {

namespace wp = wire::peer;

template <typename Run>
std::vector<Run> encoded(const std::vector<EpochStart>& runs) {
  std::vector<Run> out;
  for (const EpochStart& run : runs) out.push_back({number(run.epoch), run.start.value});
  return out;
}
template <typename Run>
std::vector<EpochStart> decoded(const std::vector<Run>& runs) {
  std::vector<EpochStart> out;
  for (const Run& run : runs) out.push_back({epoch_of(run.epoch), Offset(run.start)});
  return out;
}

/// Progress stands in two messages alike.
template <typename T>
void write(T& out, const AppendReply& reply) {
  out.kind = static_cast<std::int8_t>(reply.kind);
  out.epoch = number(reply.epoch);
  out.node = reply.from.disk.node.value;
  out.incarnation = reply.from.disk.incarnation;
  out.boot = static_cast<std::int64_t>(reply.from.boot);
  out.log_start = reply.log_start.value;
  out.log_end = reply.log_end.value;
  out.stable_end = reply.stable_end.value;
  out.joined = number(reply.joined);
  out.tail_epoch = number(reply.tail.epoch);
  out.tail_end = reply.tail.end.value;
}
template <typename T>
std::optional<AppendReply> read_reply(const T& in, NodeId from) {
  if (in.kind < 0 || in.kind > static_cast<std::int8_t>(AppendReply::Kind::kFenced))
    return std::nullopt;
  if (NodeId(in.node) != from) return std::nullopt;  // nobody speaks for others
  AppendReply out;
  out.kind = static_cast<AppendReply::Kind>(in.kind);
  out.epoch = epoch_of(in.epoch);
  out.from = {{from, in.incarnation}, static_cast<std::uint64_t>(in.boot)};
  out.log_start = Offset(in.log_start);
  out.log_end = Offset(in.log_end);
  out.stable_end = Offset(in.stable_end);
  out.joined = epoch_of(in.joined);
  out.tail = {epoch_of(in.tail_epoch), Offset(in.tail_end)};
  return out;
}

template <typename T>
PartitionId partition_of(const T& message) {
  return {TopicId{message.topic_id}, PartitionIndex(message.partition)};
}
template <typename T>
void name(T& message, const PartitionId& id) {
  message.topic_id = id.topic.uuid;
  message.partition = id.partition.value;
}

template <typename T>
void answer(const std::shared_ptr<peer::Request>& request, io::Shard& home, T message,
            std::vector<SharedBytes> payloads = {}) {
  run_on(home, [request, message = std::move(message), payloads = std::move(payloads)]() mutable {
    auto packed = wp::pack(message, std::move(payloads));
    if (packed) {
      request->respond.reply(std::move(*packed));
    } else {
      request->respond.refuse(packed.error());
    }
  });
}
void refuse(const std::shared_ptr<peer::Request>& request, io::Shard& home, Error why) {
  run_on(home, [request, why = std::move(why)] { request->respond.refuse(why); });
}

Error unknown(const PartitionId& id) {
  return {Code::kNotFound, "partition " + to_string(id) + ": this node has no replica of it", 0};
}

}  // namespace

PeerWire::PeerWire(io::Shards shards, ShardOf shard_of, peer::Links& links, Options options)
    : shards_(std::move(shards)),
      shard_of_(std::move(shard_of)),
      links_(links),
      options_(options) {}

void PeerWire::serve(peer::Service& service, std::vector<PeerWire*> all) {
  all_ = std::move(all);
  service.on(wp::Kind::kAppend, [this](peer::Request request) { take_append(std::move(request)); });
  service.on(wp::Kind::kAppendProgress, [this](peer::Request request) { take_progress(request); });
  service.on(wp::Kind::kSeal, [this](peer::Request request) { take_seal(std::move(request)); });
  service.on(wp::Kind::kReadRange,
             [this](peer::Request request) { take_read(std::move(request)); });
  service.on(wp::Kind::kHeartbeats,
             [this](peer::Request request) { take_heartbeats(std::move(request)); });
}

void PeerWire::link_changed(NodeId node) {
  if (!connected(node)) heard_.erase(node);
  for (auto& [id, participant] : here_) participant->link_changed(node);
}

io::Task<void> PeerWire::run() {
  running_ = true;
  Instant last = io::Shard::current().now();
  while (!stopping_) {
    look_at_links();
    const Instant now = io::Shard::current().now();
    // Else nobody would tell who leads here that another one does.
    const bool soon = !in_touch_ && !PYRALOG_PLANT("replica.wait_to_be_told");
    const Duration every = soon ? std::min(options_.ask_every, options_.heartbeat) : options_.heartbeat;
    if (now >= last + every) {
      send_heartbeats(every);
      last = now;
    }
    const Instant due = last + every;
    co_await stop_wanted_.wait(std::min(due, io::in_step(options_.look_every)));
  }
  running_ = false;
  stopped_.wake_all();
}

io::Task<void> PeerWire::stop() {
  stopping_ = true;
  stop_wanted_.wake_all();
  while (running_) co_await stopped_.wait(Instant::never());
  co_await tasks_.join();
}

void PeerWire::look_at_links() {
  const Instant now = io::Shard::current().now();
  for (const NodeId node : links_.up()) heard_[node] = now;
  const bool was_in_touch = std::exchange(was_in_touch_, in_touch_);
  if (!in_touch_ || !was_in_touch) {
    for (auto& [id, participant] : here_) participant->look_whether_cut_off();
  }
  const std::uint64_t changed = links_.stats().ups + links_.stats().downs;
  if (changed == links_changed_) return;
  links_changed_ = changed;
  for (auto& [id, participant] : here_) participant->look_at_links();
}

std::optional<Instant> PeerWire::heard(NodeId node) const {
  const auto found = heard_.find(node);
  return found == heard_.end() ? std::nullopt : std::optional(found->second);
}

bool PeerWire::connected(NodeId node) const {
  return links_.connected(node) != nullptr;
}

void PeerWire::at(const PartitionId& id, std::move_only_function<void(Participant*)> work) {
  const unsigned shard = shard_of_(id);
  run_on(*shards_[shard], [wire = all_[shard], id, work = std::move(work)]() mutable {
    const auto found = wire->here_.find(id);
    work(found == wire->here_.end() ? nullptr : found->second);
  });
}

io::Task<Result<std::optional<AppendReply>>> PeerWire::append(NodeId to, PartitionId id,
                                                              Append message, Records records) {
  wp::AppendRequest request;
  name(request, id);
  request.epoch = number(message.epoch);
  request.start = message.start.value;
  request.leader = message.leader.value;
  request.to_boot = static_cast<std::int64_t>(message.to_boot);
  request.previous = number(message.previous);
  request.base = message.base.value;
  request.end = message.end.value;
  request.runs = encoded<wp::AppendRequest::Run>(message.runs);
  request.high_watermark = message.high_watermark.value;
  request.log_start = message.log_start.value;
  request.lossy = number(message.lossy);
  request.active = message.active;
  // One payload: what is in several pieces goes as it is.
  std::size_t bytes = 0;
  for (const SharedBytes& each : records) bytes += each.size();
  Records payloads;
  if (bytes == 0) {
    request.records = wp::Records::of({});
  } else if (records.size() == 1) {
    request.records = wp::Records::external(0, bytes);
    payloads = std::move(records);
  } else {
    Writer all;
    all.bytes().reserve(bytes);
    for (const SharedBytes& each : records) all.raw(each.view());
    request.records = wp::Records::external(0, bytes);
    payloads.emplace_back(all.take());
  }
  PYRALOG_CO_ASSIGN(auto packed, wp::pack(request, std::move(payloads)));
  ++stats_.appends;
  PYRALOG_CO_ASSIGN(const auto reply,
                    co_await links_.call(to, std::move(packed),
                                         io::Shard::current().now() + options_.append_timeout));
  PYRALOG_CO_ASSIGN(const auto read,
                    wp::decode_message<wp::AppendResponse>(reply.body.view(), reply.version));
  co_return read_reply(read.progress, to);
}

void PeerWire::take_append(peer::Request incoming) {
  io::Shard& home = io::Shard::current();
  const auto request = std::make_shared<peer::Request>(std::move(incoming));
  auto read = wp::decode_message<wp::AppendRequest>(request->body.view(), request->version);
  if (!read) return request->respond.refuse(read.error());
  if (NodeId(read->leader) != request->from) {
    return request->respond.refuse(
        {Code::kInvalidArgument, "an Append that is not its leader's", 0});
  }
  Append message;
  message.epoch = epoch_of(read->epoch);
  message.start = Offset(read->start);
  message.leader = request->from;
  message.to_boot = static_cast<std::uint64_t>(read->to_boot);
  message.previous = epoch_of(read->previous);
  message.base = Offset(read->base);
  message.end = Offset(read->end);
  message.runs = decoded(read->runs);
  message.high_watermark = Offset(read->high_watermark);
  message.log_start = Offset(read->log_start);
  message.lossy = epoch_of(read->lossy);
  message.active = read->active;
  SharedBytes records;
  if (!read->records.view.empty()) {
    const auto from = static_cast<std::size_t>(read->records.view.data() - request->body.data());
    records = request->body.slice(from, read->records.view.size());
  }
  request->body = {};
  const PartitionId id = partition_of(*read);
  at(id, [request, &home, id, message = std::move(message),
          records = std::move(records)](Participant* participant) mutable {
    if (participant == nullptr) return refuse(request, home, unknown(id));
    participant->take(std::move(message), std::move(records),
                      [request, &home](std::optional<AppendReply> reply) {
                        wp::AppendResponse response;
                        if (reply) write(response.progress, *reply);
                        answer(request, home, std::move(response));
                      });
  });
}

void PeerWire::progress(NodeId to, PartitionId id, AppendReply reply) {
  wp::AppendProgress message;
  name(message, id);
  write(message, reply);
  // If it does not leave, the leader asks again.
  if (auto packed = wp::pack(message)) (void)links_.cast(to, std::move(*packed));
}

void PeerWire::take_progress(const peer::Request& request) {
  auto read = wp::decode_message<wp::AppendProgress>(request.body.view(), request.version);
  if (!read) return;
  const auto reply = read_reply(*read, request.from);
  if (!reply) return;
  at(partition_of(*read), [reply = *reply](Participant* participant) {
    if (participant != nullptr) participant->take(reply);
  });
}

io::Task<Result<SealAnswer>> PeerWire::seal(NodeId to, PartitionId id, Seal seal) {
  wp::SealRequest request;
  name(request, id);
  request.epoch = number(seal.epoch);
  request.candidate = seal.candidate.value;
  PYRALOG_CO_ASSIGN(auto packed, wp::pack(request));
  PYRALOG_CO_ASSIGN(const auto reply,
                    co_await links_.call(to, std::move(packed),
                                         io::Shard::current().now() + options_.seal_timeout));
  PYRALOG_CO_ASSIGN(const auto read,
                    wp::decode_message<wp::SealResponse>(reply.body.view(), reply.version));
  if (NodeId(read.node) != to) co_return fail(Code::kCorrupt, "a seal's answer of another node");
  SealAnswer out;
  out.epoch = epoch_of(read.epoch);
  out.promised = epoch_of(read.promised);
  out.from = {{to, read.incarnation}, static_cast<std::uint64_t>(read.boot)};
  out.last_epoch = epoch_of(read.last_epoch);
  PYRALOG_CO_ASSIGN(
      out.log, History::make(Offset(read.log_start), Offset(read.log_end), decoded(read.epochs)));
  out.lossy = epoch_of(read.lossy);
  out.high_watermark = Offset(read.high_watermark);
  out.in_doubt = read.in_doubt;
  out.emptied = read.emptied;
  co_return out;
}

void PeerWire::take_seal(peer::Request incoming) {
  io::Shard& home = io::Shard::current();
  const auto request = std::make_shared<peer::Request>(std::move(incoming));
  const auto read = wp::decode_message<wp::SealRequest>(request->body.view(), request->version);
  if (!read) return request->respond.refuse(read.error());
  if (NodeId(read->candidate) != request->from) {
    return request->respond.refuse(
        {Code::kInvalidArgument, "a Seal that is not its candidate's", 0});
  }
  const PartitionId id = partition_of(*read);
  const Seal seal{epoch_of(read->epoch), request->from};
  at(id, [request, &home, id, seal](Participant* participant) {
    if (participant == nullptr) return refuse(request, home, unknown(id));
    participant->take(seal, [request, &home](Result<SealAnswer> sealed) {
      if (!sealed) return refuse(request, home, std::move(sealed.error()));
      wp::SealResponse response;
      response.epoch = number(sealed->epoch);
      response.promised = number(sealed->promised);
      response.node = sealed->from.disk.node.value;
      response.incarnation = sealed->from.disk.incarnation;
      response.boot = static_cast<std::int64_t>(sealed->from.boot);
      response.last_epoch = number(sealed->last_epoch);
      response.log_start = sealed->log.start().value;
      response.log_end = sealed->log.end().value;
      response.epochs = encoded<wp::SealResponse::EpochStart>(sealed->log.epochs());
      response.lossy = number(sealed->lossy);
      response.high_watermark = sealed->high_watermark.value;
      response.in_doubt = sealed->in_doubt;
      response.emptied = sealed->emptied;
      answer(request, home, std::move(response));
    });
  });
}

io::Task<Result<Wire::Range>> PeerWire::read(NodeId to, PartitionId id, ReadRange range) {
  wp::ReadRangeRequest request;
  name(request, id);
  request.epoch = number(range.epoch);
  request.from = range.from.value;
  request.to = range.to.value;
  request.max_bytes = static_cast<std::int32_t>(range.max_bytes);
  PYRALOG_CO_ASSIGN(auto packed, wp::pack(request));
  PYRALOG_CO_ASSIGN(const auto reply,
                    co_await links_.call(to, std::move(packed),
                                         io::Shard::current().now() + options_.read_timeout));
  PYRALOG_CO_ASSIGN(const auto read,
                    wp::decode_message<wp::ReadRangeResponse>(reply.body.view(), reply.version));
  if (read.code != 0) co_return fail(wp::code_of(read.code), read.message);
  Range out{Offset(read.end), decoded(read.runs), {}};
  if (!read.records.view.empty()) {
    const auto from = static_cast<std::size_t>(read.records.view.data() - reply.body.data());
    out.records = reply.body.slice(from, read.records.view.size());
  }
  co_return out;
}

void PeerWire::take_read(peer::Request incoming) {
  io::Shard& home = io::Shard::current();
  const auto request = std::make_shared<peer::Request>(std::move(incoming));
  const auto read =
      wp::decode_message<wp::ReadRangeRequest>(request->body.view(), request->version);
  if (!read) return request->respond.refuse(read.error());
  const PartitionId id = partition_of(*read);
  ReadRange range{epoch_of(read->epoch), Offset(read->from), Offset(read->to), 0};
  range.max_bytes = read->max_bytes < 0 ? 0 : static_cast<std::uint32_t>(read->max_bytes);
  at(id, [request, &home, id, range](Participant* participant) {
    if (participant == nullptr) return refuse(request, home, unknown(id));
    participant->take(range, [request, &home](Result<Wire::Range> given) {
      if (!given) return refuse(request, home, std::move(given.error()));
      wp::ReadRangeResponse response;
      response.end = given->end.value;
      response.runs = encoded<wp::ReadRangeResponse::Run>(given->runs);
      response.records = wp::Records::external(0, given->records.size());
      answer(request, home, std::move(response), {given->records});
    });
  });
}

}  // namespace pyralog::replica
