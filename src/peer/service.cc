#include "peer/service.h"

#include <utility>

#include "base/plant.h"
#include "wire/peer/gen/handshake.h"

namespace pyralog::peer {
namespace {

/// What a request takes beside its body.
constexpr std::size_t kOverhead = 128;
constexpr std::size_t kMostText = 1000;

}  // namespace

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this != &other) {
    Responder before(std::move(*this));
    channel_ = std::move(other.channel_);
    kind_ = other.kind_;
    correlation_ = other.correlation_;
    hold_ = std::move(other.hold_);
  }
  return *this;
}

Responder::~Responder() {
  if (!wanted() || io::Shard::tearing_down()) return;
  refuse({Code::kUnavailable, "the request was dropped; the node may be stopping", 0});
}

void Responder::send(Packed message, std::uint8_t flags) {
  const std::shared_ptr<Channel> channel = std::move(channel_);
  hold_.resize(message.bytes + kOverhead);
  message.kind = kind_;
  if (PYRALOG_PLANT("peer.forget_replies_under_way")) hold_.release();
  channel->send({std::move(message), correlation_, flags, std::move(hold_)});
}

void Responder::reply(Packed message) {
  if (!wanted()) return;
  if (message.bytes > channel_->options().max_body_bytes) {
    return refuse(
        {Code::kTooLarge,
         "a reply of " + std::to_string(message.bytes) + " bytes is over the limit; ask for less",
         0});
  }
  send(std::move(message), kReply);
}

void Responder::refuse(const Error& why) {
  if (!wanted()) return;
  wire::peer::Refusal refusal;
  refusal.code = wire::peer::code_number(why.code);
  refusal.message = why.message.substr(0, kMostText);
  auto packed = wire::peer::pack(refusal);
  PYRALOG_ASSERT(packed.has_value());
  send(std::move(*packed), kReply | kFailed);
}

struct Service::Open {
  std::shared_ptr<Channel> channel;
  std::shared_ptr<const Peer> peer;
  Credits credits;
};

void Service::on(Kind kind, Handler handler) {
  handlers_[static_cast<std::uint16_t>(kind)] = std::move(handler);
}

void Service::on_task(Kind kind, TaskHandler handler) {
  on(kind, [this, handler = std::move(handler)](Request request) {
    tasks_.spawn(handler(std::move(request)));
  });
}

io::Task<Error> Service::serve(std::unique_ptr<io::Stream> stream, Agreed agreed, std::string name,
                               std::uint64_t number) {
  if (stopping_) {
    stream->close();
    co_return Error{Code::kCancelled, name + ": this node is stopping", 0};
  }
  Open open{nullptr, std::make_shared<const Peer>(agreed.peer),
            Credits(options_.max_requests, options_.max_request_bytes)};
  open.channel =
      std::make_shared<Channel>(std::move(stream), agreed.keys.to_dialer, agreed.keys.to_acceptor,
                                std::move(name), options_.channel);
  open.credits.on_free([&open] {
    if (!open.credits.full()) open.channel->hold_reading(false);
  });
  open_.emplace(number, open.channel);
  ++stats_.opened;
  Error why = co_await open.channel->run(
      [this, &open](Frame frame) { return take(open, std::move(frame)); });
  open.credits.on_free(nullptr);
  open_.erase(number);
  ++stats_.closed;
  co_return why;
}

Result<void> Service::take(Open& open, Frame frame) {
  const Header& header = frame.header;
  if (header.flags != 0) {
    return fail(Code::kCorrupt, "a reply on a connection that carries only requests");
  }
  const auto handler = handlers_.find(header.kind);
  auto hold = open.credits.take(frame.body.size() + kOverhead);
  const bool is_cast = header.correlation == 0;
  ++(is_cast ? stats_.casts : stats_.requests);
  Responder respond(open.channel, static_cast<Kind>(header.kind), header.correlation,
                    std::move(hold));
  if (handler == handlers_.end()) {
    ++stats_.unknown;
    respond.refuse(
        {Code::kUnsupported,
         "does not know requests of " + wire::peer::kind_name(header.kind) + "; upgrade it", 0});
    return {};
  }
  handler->second(Request{open.peer->identity.node, open.peer, static_cast<Kind>(header.kind),
                          header.version, std::move(frame.body), std::move(respond)});
  if (open.credits.full() && !PYRALOG_PLANT("peer.read_without_bound")) {
    ++stats_.paused;
    open.channel->hold_reading(true);
  }
  return {};
}

void Service::drop(std::uint64_t number, Error why) {
  const auto found = open_.find(number);
  if (found == open_.end()) return;
  const std::shared_ptr<Channel> channel = found->second;
  channel->close(std::move(why));
}

io::Task<void> Service::stop() {
  stopping_ = true;
  const auto open = open_;
  for (const auto& [number, channel] : open) {
    channel->close({Code::kCancelled, channel->name() + ": this node is stopping", 0});
  }
  co_await tasks_.join();
}

}  // namespace pyralog::peer
