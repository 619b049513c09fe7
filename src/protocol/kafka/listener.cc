#include "protocol/kafka/listener.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::protocol::kafka {

namespace {

constexpr std::size_t kMostMoved = 4096;

/// One connection's requests, on their way to the shard's service.
class Requests : public Handler {
 public:
  /// `let_go` is called once, when the connection's socket has been closed; `may_move` says whether it may
  /// go on on another shard.
  Requests(Service& service, AnswerMemory& answers, Waits& credits, std::string client_host,
           std::move_only_function<void()> let_go, std::move_only_function<bool(unsigned)> may_move)
      : service_(service),
        answers_(answers),
        credits_(credits),
        holder_(answers),
        client_host_(std::move(client_host)),
        let_go_(std::move(let_go)),
        may_move_(std::move(may_move)) {}

  io::Task<Reply> handle(RequestBytes bytes, Duration queued) override {
    auto frame = wire::parse_request(*bytes);
    if (!frame) co_return refuse(frame.error());
    Request request;
    request.frame = std::move(*frame);
    request.bytes = std::move(bytes);
    request.client_host = client_host_;
    request.queued = queued;
    request.produces = &produces_;
    request.answers = &holder_;
    request.fetch_end = &fetch_end_;
    const wire::ApiKey key = request.frame.api->key;
    const auto api = static_cast<std::int16_t>(key);
    std::size_t least = 0;
    while (true) {
      AnswerMemory::Hold hold;
      // What goes by the log's order is not held up here, and who waits for records or for the other
      // members of a group holds nothing meanwhile: these might be waiting for just that.
      if (answers_at_once(key)) hold = co_await answers_.begin(holder_, api, least);
      if (holder_.left()) co_return Reply{.pieces = {}, .close = true};
      const bool again = is_question(key);
      auto reply = again ? co_await service_.handle(request)
                         : co_await service_.handle(std::move(request));
      if (!reply) co_return refuse(reply.error());
      const std::size_t size = memory_of(*reply);
      if (reply->memory) {
        reply->memory.resize(size);
        co_return std::move(*reply);
      }
      if (!again) {
        answers_.settle_anyway(holder_, hold, api, size);
      } else if (!answers_.settle(holder_, hold, api, size)) {
        least = size;
        continue;
      }
      reply->memory = std::move(hold);
      co_return std::move(*reply);
    }
  }

  void client_ended() override { fetch_end_.end(); }
  void client_left() override {
    holder_.leave();
    fetch_end_.end();
  }
  void waited_for_credit(Duration waited) override { credits_.add(waited); }
  void closed() override {
    if (auto let_go = std::exchange(let_go_, nullptr)) let_go();
  }

  std::optional<unsigned> better_shard(ByteView bytes) override {
    if (may_move_ == nullptr || bytes.size() < 2) return std::nullopt;
    const auto key = static_cast<wire::ApiKey>(load_be<std::int16_t>(bytes.data()));
    if (is_ordered(key)) return std::nullopt;
    // Its first such request decides: what a client asks for first it mostly goes on asking for, and a
    // session of fetches stays where it began.
    auto may_move = std::exchange(may_move_, nullptr);
    // On its way a request is in no shard's memory; and a large one would be read twice.
    if (bytes.size() > kMostMoved && !PYRALOG_PLANT("kafka.move_large_requests")) return std::nullopt;
    const std::optional<unsigned> shard = service_.shard_of_all(bytes);
    const bool moves = shard && may_move(*shard);
    if (PYRALOG_PLANT("kafka.move_again_and_again")) may_move_ = std::move(may_move);
    return moves ? shard : std::nullopt;
  }

  bool is_barrier(ByteView bytes) const override {
    // What reads or writes the log is ordered by its partitions; all else waits its turn.
    if (bytes.size() < 2) return true;  // it will be refused, in its turn
    return is_ordered(static_cast<wire::ApiKey>(load_be<std::int16_t>(bytes.data())));
  }

 private:
  static bool answers_at_once(wire::ApiKey key) {
    return is_ordered(key) && key != wire::ApiKey::kJoinGroup && key != wire::ApiKey::kSyncGroup;
  }
  static bool is_ordered(wire::ApiKey key) {
    return key != wire::ApiKey::kProduce && key != wire::ApiKey::kFetch;
  }
  /// Changes nothing, so that an answer that finds no room can be made once more.
  static bool is_question(wire::ApiKey key) {
    switch (key) {
      case wire::ApiKey::kListOffsets:
      case wire::ApiKey::kMetadata:
      case wire::ApiKey::kOffsetFetch:
      case wire::ApiKey::kFindCoordinator:
      case wire::ApiKey::kDescribeGroups:
      case wire::ApiKey::kListGroups:
      case wire::ApiKey::kApiVersions:
      case wire::ApiKey::kOffsetForLeaderEpoch:
      case wire::ApiKey::kDescribeConfigs:
      case wire::ApiKey::kDescribeLogDirs:
      case wire::ApiKey::kDescribeCluster:
      case wire::ApiKey::kDescribeProducers: return true;
      default: return false;
    }
  }
  Reply refuse(const Error& error) {
    service_.counts().refused();
    observe::log_warn("kafka.request_refused",
                         {{"client", client_host_}, {"reason", error.message}});
    return {.pieces = {}, .close = true, .memory = {}};
  }

  Service& service_;
  AnswerMemory& answers_;
  Waits& credits_;
  AnswerMemory::Holder holder_;
  std::string client_host_;
  std::move_only_function<void()> let_go_;
  std::move_only_function<bool(unsigned)> may_move_;
  broker::FetchEnd fetch_end_;
  io::Turn produces_;
};

}  // namespace

Listener::Listener(std::unique_ptr<io::Listener> bound, io::Shards shards,
                   std::vector<Service*> services, Options options)
    : bound_(std::move(bound)),
      shards_(std::move(shards)),
      services_(std::move(services)),
      options_(options) {
  // One request of the largest size must fit on every shard.
  const std::size_t share = std::max(options_.connection.max_frame_bytes,
                                     options_.max_request_memory / shards_.size());
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    parts_.push_back(
        std::make_unique<ShardPart>(share, options_.max_answer_memory / shards_.size()));
  }
}

Listener::~Listener() = default;

io::Task<void> Listener::run() {
  constexpr Duration kTellAgain = 10s;
  home_ = &io::Shard::current();
  Instant tell_again = home_->now();
  while (!stopping_) {
    auto stream = co_await bound_->accept();
    if (!stream) {
      if (stopping_ || stream.error().code == Code::kCancelled) break;
      ++arrivals_.failures;
      // Out of descriptors or memory: those who are here may leave; trying at once would spin.
      if (const Instant now = home_->now(); now >= tell_again) {
        observe::log_error("kafka.accept_failed", {{"reason", stream.error().message}});
        tell_again = now + kTellAgain;
      }
      co_await io::sleep_for(100ms);
      continue;
    }
    if (options_.send_buffer_bytes > 0) (*stream)->limit_send_buffer(options_.send_buffer_bytes);
    if (connections_ >= options_.max_connections && !PYRALOG_PLANT("kafka.connections_without_end")) {
      ++arrivals_.refused;
      (*stream)->close();
      observe::log_warn("kafka.connection_refused",
                           {{"client", (*stream)->peer().host}, {"reason", "max.connections"}});
      continue;
    }
    ++connections_;
    ++arrivals_.accepted;
    ++parts_[next_]->connections;
    accepting_.spawn(take(std::move(*stream), next_));
    next_ = (next_ + 1) % static_cast<unsigned>(shards_.size());
  }
}

bool Listener::may_move(unsigned from, unsigned to) const {
  const std::size_t here = parts_[from]->connections.load(std::memory_order_relaxed);
  const std::size_t there = parts_[to]->connections.load(std::memory_order_relaxed);
  return there <= here + std::max<std::size_t>(2, here / 4) || PYRALOG_PLANT("kafka.crowd_on_a_shard");
}

io::Task<void> Listener::take(std::unique_ptr<io::Stream> stream, unsigned shard) {
  std::optional<Connection::Unread> unread;
  auto moved = co_await stream->move_to(*shards_[shard]);
  stream.reset();
  if (!moved) {
    --parts_[shard]->connections;
    --connections_;
    co_return;
  }
  stream = std::move(*moved);
  while (stream != nullptr) {
    auto next = co_await io::on(*shards_[shard], [this, shard, &stream, &unread] {
      return serve(std::move(stream), shard, std::exchange(unread, std::nullopt));
    });
    --parts_[shard]->connections;
    if (!next) break;
    stream = std::move(next->stream);
    shard = next->shard;
    unread = std::move(next->unread);
    ++arrivals_.moved;
  }
}

io::Task<std::optional<Connection::Move>> Listener::serve(std::unique_ptr<io::Stream> stream, unsigned shard,
                                                          std::optional<Connection::Unread> unread) {
  ShardPart& part = *parts_[shard];
  // Requests of a client that is gone may be under way for minutes; its place is free before.
  Requests requests(*services_[shard], part.answers, part.credits, stream->peer().host,
                    [this] {
                      if (PYRALOG_PLANT("kafka.count_who_has_left")) return;
                      home_->post([this] { --connections_; });
                    },
                    [this, shard, moved = unread.has_value()](unsigned to) {
                      return !moved && may_move(shard, to);
                    });
  if (part.stopping) {
    stream->close();
    requests.closed();
    co_return std::nullopt;
  }
  std::optional<Connection> connection;
  if (unread) {
    connection.emplace(std::move(stream), std::move(*unread), requests, options_.connection, part.memory);
  } else {
    connection.emplace(std::move(stream), requests, options_.connection, part.memory);
  }
  const std::uint64_t number = part.next++;
  part.open.emplace(number, &*connection);
  auto ended = co_await connection->run();
  part.open.erase(number);
  if (auto move = connection->moved()) {
    ++parts_[move->shard]->connections;
    auto there = co_await move->stream->move_to(*shards_[move->shard]);
    if (there) {
      move->stream = std::move(*there);
      co_return move;
    }
    --parts_[move->shard]->connections;
    requests.closed();
    co_return std::nullopt;
  }
  if (ended) co_return std::nullopt;
  // Clients come and go, many by a reset; only what they sent, and what they held up or waited for in
  // vain, is worth a warning.
  const Code why = ended.error().code;
  const bool notable = why == Code::kCorrupt || why == Code::kTooLarge || why == Code::kExhausted;
  observe::log(notable ? observe::Level::kWarn : observe::Level::kDebug,
               "kafka.connection_ended",
               {{"client", connection->stream().peer().host}, {"reason", ended.error().message}});
  co_return std::nullopt;
}

io::Task<Listener::MemoryUse> Listener::memory() {
  MemoryUse all;
  for (unsigned s = 0; s < shards_.size(); ++s) {
    const MemoryUse one = co_await io::on(*shards_[s], [this, s]() -> io::Task<MemoryUse> {
      const ShardPart& part = *parts_[s];
      co_return MemoryUse{part.memory.used(), part.answers.used(), part.memory.waits(),
                          part.answers.waits(), part.credits};
    });
    all.requests += one.requests;
    all.answers += one.answers;
    all.request_waits += one.request_waits;
    all.answer_waits += one.answer_waits;
    all.credit_waits += one.credit_waits;
  }
  co_return all;
}

io::Task<void> Listener::drain() {
  stopping_ = true;
  bound_->close();
  for (unsigned s = 0; s < shards_.size(); ++s) {
    co_await io::on(*shards_[s], [this, s]() -> io::Task<void> {
      ShardPart& part = *parts_[s];
      part.stopping = true;
      // Draining may end a connection and take it out.
      const auto open = part.open;
      for (const auto& [number, each] : open) {
        if (part.open.contains(number)) each->drain();
      }
      co_return;
    });
  }
}

io::Task<void> Listener::finish(Instant deadline) {
  io::Shard& shard = io::Shard::current();
  while (accepting_.running() > 0 && shard.now() < deadline) co_await io::sleep_for(5ms);
  for (unsigned s = 0; s < shards_.size(); ++s) {
    co_await io::on(*shards_[s], [this, s]() -> io::Task<void> {
      const auto open = parts_[s]->open;
      for (const auto& [number, each] : open) {
        if (parts_[s]->open.contains(number)) each->close();
      }
      co_return;
    });
  }
  co_await accepting_.join();
}

}  // namespace pyralog::protocol::kafka
