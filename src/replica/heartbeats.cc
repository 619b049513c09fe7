// Heartbeats: what idle partitions say to each other's replicas, all of a pair of nodes together.

#include "wire/peer/gen/heartbeats.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "base/plant.h"
#include "replica/peer_codec.h"
#include "replica/peer_wire.h"

namespace pyralog::replica {

namespace {

namespace wp = wire::peer;

/// In one message; it is all handled in one go.
constexpr std::size_t kMostTogether = 4096;
/// Messages under way to who takes one for each partition.
constexpr std::size_t kMostApart = 64;

Append read_append(const wp::HeartbeatsRequest::Partition& read, NodeId from) {
  Append out;
  out.epoch = epoch_of(read.epoch);
  out.start = Offset(read.start);
  out.leader = from;
  out.to_boot = static_cast<std::uint64_t>(read.to_boot);
  out.previous = epoch_of(read.previous);
  out.base = out.end = Offset(read.base);
  out.high_watermark = Offset(read.high_watermark);
  out.log_start = Offset(read.log_start);
  out.lossy = epoch_of(read.lossy);
  out.active = true;
  return out;
}

wp::HeartbeatsResponse::Progress written(const AppendReply& reply) {
  wp::HeartbeatsResponse::Progress out;
  out.kind = static_cast<std::int8_t>(reply.kind);
  out.epoch = number(reply.epoch);
  out.boot = static_cast<std::int64_t>(reply.from.boot);
  out.log_start = reply.log_start.value;
  out.log_end = reply.log_end.value;
  out.stable_end = reply.stable_end.value;
  out.joined = number(reply.joined);
  out.tail_epoch = number(reply.tail.epoch);
  out.tail_end = reply.tail.end.value;
  return out;
}

}  // namespace

void PeerWire::send_heartbeats(Duration every) {
  std::map<NodeId, std::vector<Heartbeat>> due;
  for (const auto& [id, participant] : here_) participant->add_heartbeats(due);
  for (auto& [node, all] : due) {
    // Who has not answered the last ones is not asked again.
    if (!connected(node) || !beating_.insert(node).second) continue;
    tasks_.spawn(PYRALOG_PLANT("replica.a_message_for_each_partition")
                     ? send_apart(node, std::move(all))
                     : send_heartbeats(node, std::move(all), every * 3 / 4));
  }
}

/// `patience`: for each message. Less than until the next ones are due, so that what is lost costs
/// one of them.
io::Task<void> PeerWire::send_heartbeats(NodeId to, std::vector<Heartbeat> all, Duration patience) {
  const std::span<const Heartbeat> left(all);
  for (std::size_t at = 0; at < left.size() && !stopping_; at += kMostTogether) {
    const auto sent = co_await send_some(
        to, left.subspan(at, std::min(kMostTogether, left.size() - at)), patience);
    if (sent) continue;
    // What is lost comes again with the next ones.
    if (sent.error().code != Code::kUnsupported) break;
    // An older build.
    all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(at));
    co_await send_apart(to, std::move(all));
    co_return;
  }
  beating_.erase(to);
}

/// `some` lie with the caller, who waits for this.
io::Task<Result<void>> PeerWire::send_some(NodeId to, std::span<const Heartbeat> some,
                                           Duration patience) {
  wp::HeartbeatsRequest request;
  request.partitions.reserve(some.size());
  for (const auto& [id, message] : some) {
    request.partitions.push_back(
        {id.topic.uuid, id.partition.value, number(message.epoch), message.start.value,
         static_cast<std::int64_t>(message.to_boot), number(message.previous), message.base.value,
         message.high_watermark.value, message.log_start.value, number(message.lossy)});
  }
  ++stats_.heartbeats;
  PYRALOG_CO_ASSIGN(auto packed, wp::pack(request));
  PYRALOG_CO_ASSIGN(const auto reply, co_await links_.call(to, std::move(packed),
                                                           io::Shard::current().now() + patience));
  PYRALOG_CO_ASSIGN(const auto read,
                    wp::decode_message<wp::HeartbeatsResponse>(reply.body.view(), reply.version));
  if (read.progress.size() != some.size()) {
    co_return fail(Code::kCorrupt, "not as many answers as heartbeats");
  }
  for (std::size_t i = 0; i < some.size(); ++i) {
    const auto& each = read.progress[i];
    if (each.kind < 0 || each.kind > static_cast<std::int8_t>(AppendReply::Kind::kFenced)) continue;
    const auto found = here_.find(some[i].id);
    if (found == here_.end()) continue;
    AppendReply progress;
    progress.kind = static_cast<AppendReply::Kind>(each.kind);
    progress.epoch = epoch_of(each.epoch);
    progress.from = {{to, read.incarnation}, static_cast<std::uint64_t>(each.boot)};
    progress.log_start = Offset(each.log_start);
    progress.log_end = Offset(each.log_end);
    progress.stable_end = Offset(each.stable_end);
    progress.joined = epoch_of(each.joined);
    progress.tail = {epoch_of(each.tail_epoch), Offset(each.tail_end)};
    found->second->take_again(progress);
  }
  co_return Result<void>{};
}

io::Task<void> PeerWire::send_apart(NodeId to, std::vector<Heartbeat> all) {
  const auto send_one = [](PeerWire* self, NodeId to, Heartbeat each) -> io::Task<void> {
    const auto reply = co_await self->append(to, each.id, std::move(each.message), {});
    const auto found = self->here_.find(each.id);
    if (reply && *reply && found != self->here_.end()) found->second->take_again(**reply);
  };
  for (std::size_t at = 0; at < all.size() && !stopping_ && connected(to); at += kMostApart) {
    io::TaskGroup some;
    for (std::size_t i = at; i < std::min(at + kMostApart, all.size()); ++i) {
      some.spawn(send_one(this, to, std::move(all[i])));
    }
    co_await some.join();
  }
  beating_.erase(to);
}

// ---- What comes from others ----

struct PeerWire::Heard {
  struct Question {
    std::size_t at;  ///< in the message
    Heartbeat said;
  };
  NodeId from;
  std::vector<Question> questions;
  std::vector<std::pair<std::size_t, AppendReply>> answers;
  bool done = false;  ///< what is answered from now on goes by itself
};

void PeerWire::hear(const std::shared_ptr<Heard>& heard) {
  for (auto& [at, said] : heard->questions) {
    const auto found = here_.find(said.id);
    if (found == here_.end()) continue;
    found->second->take(std::move(said.message), {},
                        [this, heard, at, id = said.id](std::optional<AppendReply> reply) {
                          if (!reply) return;
                          if (heard->done) return progress(heard->from, id, *reply);
                          heard->answers.emplace_back(at, *reply);
                        });
  }
  heard->done = true;
}

void PeerWire::take_heartbeats(peer::Request request) {
  auto read = wp::decode_message<wp::HeartbeatsRequest>(request.body.view(), request.version);
  if (!read) return request.respond.refuse(read.error());
  if (read->partitions.size() > kMostTogether) {
    return request.respond.refuse({Code::kTooLarge,
                                   "heartbeats of " + std::to_string(read->partitions.size()) +
                                       " partitions in one message; send at most " +
                                       std::to_string(kMostTogether),
                                   0});
  }
  /// Lives and ends on this shard, but for the hands that it goes through.
  struct Round {
    peer::Request request;
    wp::HeartbeatsResponse answer;
    std::size_t left = 1;
    void take(const std::vector<std::pair<std::size_t, AppendReply>>& answers) {
      for (const auto& [at, reply] : answers) {
        answer.incarnation = reply.from.disk.incarnation;
        answer.progress[at] = written(reply);
      }
      if (--left == 0) peer::answer(request, answer);
    }
  };
  const auto round = std::make_shared<Round>();
  round->answer.progress.resize(read->partitions.size());
  std::vector<std::shared_ptr<Heard>> heard(shards_.size());
  for (std::size_t i = 0; i < read->partitions.size(); ++i) {
    const auto& each = read->partitions[i];
    const PartitionId id{TopicId{each.topic_id}, PartitionIndex(each.partition)};
    std::shared_ptr<Heard>& its = heard[shard_of_(id)];
    if (its == nullptr) {
      its = std::make_shared<Heard>();
      its->from = request.from;
      ++round->left;
    }
    its->questions.push_back({i, {id, read_append(each, request.from)}});
  }
  round->request = std::move(request);
  io::Shard& home = io::Shard::current();
  for (unsigned s = 0; s < heard.size(); ++s) {
    if (heard[s] == nullptr) continue;
    run_on(*shards_[s], [wire = all_[s], its = heard[s], round, &home]() mutable {
      wire->hear(its);
      run_on(home, [answers = std::move(its->answers), round = std::move(round)] {
        round->take(answers);
      });
    });
  }
  round->take({});
}

}  // namespace pyralog::replica
