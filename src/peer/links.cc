#include "peer/links.h"

#include <cerrno>
#include <utility>
#include <vector>

#include "base/plant.h"
#include "observe/log.h"
#include "wire/peer/gen/handshake.h"

namespace pyralog::peer {

/// A call that waits for its reply, in the frame of its coroutine.
struct Links::Pending {
  Kind kind;
  io::WaitList done;
  std::optional<Result<Reply>> answer;
};

/// A call that waits for room or for a connection, likewise.
struct Links::Ticket {
  io::WaitList go;
};

struct Links::Link {
  Link(NodeId id, io::Address where, const LinkLimits& limits)
      : node(id),
        address(std::move(where)),
        name("node " + std::to_string(id.value) + " at " + io::to_string(address)),
        casts(limits.max_casts, limits.max_cast_bytes),
        calls(limits.max_calls, limits.max_call_bytes) {
    calls.on_free([this] { wake_first(); });
  }
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() { calls.on_free(nullptr); }

  [[nodiscard]] bool up() const { return channel != nullptr && !channel->closed(); }
  void wake_first() {
    if (!waiting.empty()) waiting.front()->go.wake_all();
  }
  void wake_all() {
    for (Ticket* ticket : waiting) ticket->go.wake_all();
  }

  NodeId node;
  io::Address address;
  std::string name;
  bool stopping = false;
  io::WaitList stopped;              ///< ends the pause between two attempts
  io::Stream* shaking = nullptr;     ///< in its handshake
  std::shared_ptr<Channel> channel;  ///< nullptr: no connection
  Peer peer;                         ///< while there is one
  std::string why_down;
  bool ended = false;  ///< whoever listened there
  std::uint64_t next_correlation = 1;
  std::unordered_map<std::uint64_t, Pending*> pending;
  std::list<Ticket*> waiting;
  Credits casts;
  Credits calls;
};

struct Links::Dialled {
  std::unique_ptr<io::Stream> stream;
  Agreed agreed;
};

Links::Links(Options options) : options_(std::move(options)) {
  PYRALOG_ASSERT(options_.lane >= 0 && options_.lane < kMaxLanes);
}

Links::~Links() = default;

void Links::set_peers(std::map<NodeId, io::Address> peers) {
  if (stopping_) return;
  std::vector<std::shared_ptr<Link>> gone;
  for (auto at = links_.begin(); at != links_.end();) {
    const auto wanted = peers.find(at->first);
    if (wanted != peers.end() && wanted->second == at->second->address) {
      ++at;
      continue;
    }
    gone.push_back(at->second);
    at = links_.erase(at);
  }
  for (const auto& link : gone) end(*link, "is no peer of this node any more");
  for (auto& [node, address] : peers) {
    if (node == options_.local.self.node || links_.contains(node)) continue;
    auto link = std::make_shared<Link>(node, std::move(address), options_.limits);
    links_.emplace(node, link);
    tasks_.spawn(keep(std::move(link)));
  }
}

void Links::admit_again() {
  if (!admit_) return;
  for (auto& [node, link] : links_) {
    if (!link->up()) continue;
    if (auto may = admit_(link->peer); !may) {
      link->channel->close({may.error().code, link->name + ": " + may.error().message, 0});
    }
  }
}

void Links::end(Link& link, const char* why) {
  link.stopping = true;
  if (link.shaking != nullptr) link.shaking->close();
  if (link.channel != nullptr) {
    link.channel->close({Code::kCancelled, link.name + ": " + why, 0});
  }
  link.stopped.wake_all();
  link.wake_all();
}

io::Task<void> Links::stop() {
  stopping_ = true;
  for (auto& [node, link] : links_) end(*link, "this node is stopping");
  co_await tasks_.join();
  links_.clear();
}

// --- the life of a link

io::Task<void> Links::keep(std::shared_ptr<Link> link) {
  io::Backoff backoff(options_.redial);
  while (!link->stopping) {
    auto dialled = co_await dial(link);
    if (link->stopping) break;
    if (dialled) {
      const Instant up = io::Shard::current().now();
      co_await live(link, std::move(*dialled));
      // One that ends at once is no better than none. Else the next dial tells whether the other
      // process has ended, which somebody may wait for.
      if (io::Shard::current().now() - up > options_.channel.dead_after) {
        backoff.reset();
        if (!link->stopping && !PYRALOG_PLANT("peer.redial_later")) continue;
      }
    } else {
      ++stats_.failed_dials;
      note_failure(*link, dialled.error());
      const bool refused = dialled.error().sys_errno == ECONNREFUSED;
      if (refused && !std::exchange(link->ended, true) && on_change_)
        on_change_(link->node, false, link->why_down);
    }
    if (link->stopping) break;
    io::Shard& shard = io::Shard::current();
    co_await link->stopped.wait(shard.now() + backoff.next_delay(shard.rng()));
  }
}

void Links::note_failure(Link& link, const Error& why) {
  // A node that is down fails the same way for hours.
  if (why.message == link.why_down) return;
  link.why_down = why.message;
  observe::log_warn(
      "peer.not_connected",
      {{"node", link.node.value}, {"lane", options_.lane}, {"reason", link.why_down}});
}

io::Task<Result<Links::Dialled>> Links::dial(std::shared_ptr<Link> link) {
  ++stats_.dials;
  io::Shard& shard = io::Shard::current();
  const Instant deadline = shard.now() + options_.connect_timeout;
  auto stream = co_await shard.net().connect(link->address, deadline);
  if (!stream) {
    co_return fail(stream.error().code,
                   link->name + ": " + without(link->address, stream.error().message),
                   stream.error().sys_errno);
  }
  if (link->stopping) co_return fail(Code::kCancelled, link->name + ": is no peer any more");
  link->shaking = stream->get();
  DialerHandshake handshake(options_.local, link->node, options_.lane,
                            make_nonce(options_.local, options_.lane, handshakes_++));
  auto agreed = co_await shake_as_dialer(stream->get(), std::move(handshake), link->name, deadline);
  link->shaking = nullptr;
  if (!agreed) {
    (*stream)->close();
    co_return fail(std::move(agreed.error()));
  }
  if (admit_ && !PYRALOG_PLANT("peer.take_any_acceptor")) {
    if (auto admitted = admit_(agreed->peer); !admitted) {
      (*stream)->close();
      co_return fail(admitted.error().code, link->name + ": " + admitted.error().message);
    }
  }
  co_return Dialled{std::move(*stream), std::move(*agreed)};
}

io::Task<void> Links::live(std::shared_ptr<Link> link, Dialled dialled) {
  const SessionKeys& keys = dialled.agreed.keys;
  const auto channel = std::make_shared<Channel>(std::move(dialled.stream), keys.to_acceptor,
                                                 keys.to_dialer, link->name, options_.channel);
  link->channel = channel;
  link->peer = dialled.agreed.peer;
  link->why_down.clear();
  link->ended = false;
  ++stats_.ups;
  link->wake_first();
  if (on_change_) on_change_(link->node, true, "");
  const Error why = co_await channel->run(
      [this, at = link.get()](Frame frame) { return take(*at, std::move(frame)); });
  ++stats_.downs;
  link->channel.reset();
  for (auto& [correlation, pending] : std::exchange(link->pending, {})) {
    if (PYRALOG_PLANT("peer.forget_calls_under_way")) break;
    pending->answer = fail(Code::kUnavailable, why.message + "; the request may have been done");
    pending->done.wake_all();
  }
  link->wake_all();
  if (!link->stopping) note_failure(*link, why);
  if (on_change_) on_change_(link->node, false, why.message);
}

// --- messages

bool Links::cast(NodeId node, Packed message) {
  const auto found = links_.find(node);
  Link* const link = found == links_.end() ? nullptr : found->second.get();
  if (link == nullptr || !link->up() || message.bytes > options_.channel.max_body_bytes ||
      (!link->casts.fits(message.bytes) && !PYRALOG_PLANT("peer.unbounded_queue"))) {
    ++stats_.casts_refused;
    return false;
  }
  ++stats_.casts;
  auto hold = link->casts.take(message.bytes);
  link->channel->send({std::move(message), 0, 0, std::move(hold)});
  return true;
}

/// Waits until the call may be sent: it is the first of those that wait, there is a connection, and
/// room.
io::Task<Result<void>> Links::admit(std::shared_ptr<Link> link, std::size_t bytes, Instant deadline,
                                    WhenDown when_down) {
  Ticket ticket;
  const auto place = link->waiting.insert(link->waiting.end(), &ticket);
  Result<void> admitted = {};
  while (true) {
    if (link->stopping) {
      admitted = fail(Code::kUnavailable, link->name + ": is no peer of this node any more");
      break;
    }
    if (!link->up() && when_down == WhenDown::kFail) {
      admitted =
          fail(Code::kUnavailable,
               link->why_down.empty() ? link->name + ": is not connected yet" : link->why_down);
      break;
    }
    const bool first =
        link->waiting.front() == &ticket || PYRALOG_PLANT("peer.overtake_waiting_calls");
    if (link->up() && first && link->calls.fits(bytes)) break;
    if (co_await ticket.go.wait(deadline)) continue;
    ++stats_.calls_timed_out;
    admitted = fail(Code::kTimedOut,
                    link->up() ? link->name + ": too much is under way to it; try again later"
                               : link->name + ": no connection in time: " + link->why_down);
    break;
  }
  link->waiting.erase(place);
  co_return admitted;
}

io::Task<Result<Reply>> Links::call(NodeId node, Packed message, Instant deadline,
                                    WhenDown when_down) {
  const auto found = links_.find(node);
  if (found == links_.end() || stopping_) {
    co_return fail(Code::kUnavailable, "node " + std::to_string(node.value) +
                                           ": is no peer of this node; is it in the cluster?");
  }
  const std::shared_ptr<Link> link = found->second;
  if (message.bytes > options_.channel.max_body_bytes) {
    co_return fail(Code::kTooLarge, link->name + ": a request of " + std::to_string(message.bytes) +
                                        " bytes, over the limit of " +
                                        std::to_string(options_.channel.max_body_bytes) +
                                        "; send less at once");
  }
  if (!link->waiting.empty() || !link->up() || !link->calls.fits(message.bytes)) {
    const auto admitted = co_await admit(link, message.bytes, deadline, when_down);
    if (!admitted) {
      link->wake_first();
      co_return fail(admitted.error());
    }
  }
  const auto hold = link->calls.take(message.bytes);
  link->wake_first();
  const std::uint64_t correlation = link->next_correlation++;
  Pending pending{message.kind, {}, {}};
  link->pending.emplace(correlation, &pending);
  ++stats_.calls;
  link->channel->send({std::move(message), correlation, 0, {}});
  while (!pending.answer) {
    if (co_await pending.done.wait(deadline) || pending.answer) continue;
    ++stats_.calls_timed_out;
    link->pending.erase(correlation);
    if (link->channel != nullptr && !PYRALOG_PLANT("peer.send_what_timed_out")) {
      link->channel->unqueue(correlation);
    }
    co_return fail(Code::kTimedOut,
                   link->name + ": has not answered in time; the request may have been done");
  }
  co_return std::move(*pending.answer);
}

Result<void> Links::take(Link& link, Frame frame) {
  const Header& header = frame.header;
  if ((header.flags & kReply) == 0) {
    return fail(Code::kCorrupt, "a request on a connection that carries only replies");
  }
  const auto found = link.pending.find(header.correlation);
  if (found == link.pending.end()) {
    if (header.correlation == 0 || header.correlation >= link.next_correlation) {
      return fail(Code::kCorrupt, "a reply to what was not asked");
    }
    ++stats_.late_replies;
    return {};
  }
  Pending& pending = *found->second;
  if (header.kind != static_cast<std::uint16_t>(pending.kind)) {
    return fail(Code::kCorrupt, "a reply of another kind than its request");
  }
  if ((header.flags & kFailed) == 0) {
    pending.answer = Reply{header.version, std::move(frame.body)};
  } else {
    PYRALOG_ASSIGN(const auto why, wire::peer::decode_message<wire::peer::Refusal>(
                                       frame.body.view(), header.version));
    pending.answer = fail(wire::peer::code_of(why.code), link.name + ": " + printable(why.message));
  }
  link.pending.erase(found);
  pending.done.wake_all();
  return {};
}

// --- what is asked

const Peer* Links::connected(NodeId node) const {
  const auto found = links_.find(node);
  return found == links_.end() || !found->second->up() ? nullptr : &found->second->peer;
}

std::vector<NodeId> Links::up() const {
  std::vector<NodeId> out;
  for (const auto& [node, link] : links_) {
    if (link->up()) out.push_back(node);
  }
  return out;
}

bool Links::has_ended(NodeId node) const {
  const auto found = links_.find(node);
  return found != links_.end() && found->second->ended;
}

std::string Links::why_down(NodeId node) const {
  const auto found = links_.find(node);
  return found == links_.end() ? "" : found->second->why_down;
}

Channel::Stats Links::channel_stats(NodeId node) const {
  const auto found = links_.find(node);
  if (found == links_.end() || found->second->channel == nullptr) return {};
  return found->second->channel->stats();
}

}  // namespace pyralog::peer
