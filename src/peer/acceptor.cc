#include "peer/acceptor.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::peer {

Acceptor::Acceptor(std::unique_ptr<io::Listener> bound, io::Shards shards,
                   std::vector<Service*> services, Options options)
    : bound_(std::move(bound)),
      shards_(std::move(shards)),
      services_(std::move(services)),
      options_(std::move(options)) {
  PYRALOG_ASSERT(!shards_.empty() && services_.size() == shards_.size() &&
                 options_.max_half_open > 0);
}

unsigned Acceptor::shard_of(std::int32_t lane) const {
  return static_cast<unsigned>(lane) % static_cast<unsigned>(shards_.size());
}

io::Task<void> Acceptor::run() {
  while (!stopping_) {
    auto stream = co_await bound_->accept();
    if (!stream) {
      if (stopping_ || stream.error().code == Code::kCancelled) break;
      // Out of descriptors or memory: those who are here may leave; trying at once would spin.
      observe::log_warn("peer.accept_failed", {{"reason", stream.error().message}});
      co_await io::sleep_for(100ms);
      continue;
    }
    if (stopping_) break;
    ++stats_.accepted;
    // Strangers who open connections and say nothing must not keep nodes out: theirs are the
    // oldest.
    if (half_open_.size() >= options_.max_half_open &&
        !PYRALOG_PLANT("peer.half_open_without_end")) {
      ++stats_.displaced;
      half_open_.front()->close();
      half_open_.pop_front();
    }
    tasks_.spawn(take(std::move(*stream)));
  }
}

io::Task<void> Acceptor::take(std::unique_ptr<io::Stream> stream) {
  const std::uint64_t number = next_number_++;
  std::string where = "peer at " + io::to_string(stream->peer());
  half_open_.push_back(stream.get());
  AcceptorHandshake handshake(options_.local, make_nonce(options_.local, -1, number));
  auto agreed = co_await shake_as_acceptor(
      stream.get(), std::move(handshake), where,
      [this, number](const Peer& peer) { return admit(peer, number); },
      io::Shard::current().now() + options_.handshake_timeout);
  std::erase(half_open_, stream.get());
  if (agreed && !stopping_) {
    ++stats_.welcomed;
    std::string name = "node " + std::to_string(agreed->peer.identity.node.value) + ", " + where;
    co_await give(std::move(stream), std::move(*agreed), std::move(name), number);
  } else if (!agreed) {
    stream->close();
    ++stats_.refused;
    stats_.last_refusal = agreed.error().message;
    observe::log_warn("peer.refused", {{"reason", agreed.error().message}});
  }
  open_.erase(number);
}

io::Task<void> Acceptor::give(std::unique_ptr<io::Stream> stream, Agreed agreed, std::string name,
                              std::uint64_t number) {
  const unsigned shard = shard_of(agreed.peer.lane);
  auto moved = co_await stream->move_to(*shards_[shard]);
  stream.reset();
  if (!moved) co_return;
  // What drops this connection from now on is posted to its shard behind what serves it there.
  const bool over = stopping_ || open_.at(number).replaced;
  const NodeId node = agreed.peer.identity.node;
  Error why = co_await io::on(
      *shards_[shard], [service = services_[shard], number, over, from = std::move(*moved),
                        with = std::move(agreed), called = std::move(name)]() mutable {
        if (over) from->close();
        return service->serve(std::move(from), std::move(with), std::move(called), number);
      });
  const bool notable = why.code == Code::kCorrupt || why.code == Code::kTooLarge;
  observe::log(notable ? observe::Level::kWarn : observe::Level::kInfo, "peer.connection_ended",
               {{"node", node.value}, {"reason", why.message}});
}

/// Decides on a node that has proved itself, and makes room for it.
Result<void> Acceptor::admit(const Peer& peer, std::uint64_t number) {
  const Identity& who = peer.identity;
  const std::string name = "node " + std::to_string(who.node.value);
  if (stopping_) return fail(Code::kUnavailable, "this node is stopping");
  if (admit_) PYRALOG_TRY(admit_(peer));
  std::size_t same = 0;
  for (const auto& [other, open] : open_) {
    if (open.peer.identity.node != who.node) continue;
    if (open.lane == peer.lane) ++same;
    if (!open.replaced && open.peer.identity.incarnation == who.incarnation &&
        open.peer.identity.boot_counter > who.boot_counter &&
        !PYRALOG_PLANT("peer.admit_older_start")) {
      return fail(Code::kFenced, name + " is connected already by a later start of it, number " +
                                     std::to_string(open.peer.identity.boot_counter) +
                                     "; this is number " + std::to_string(who.boot_counter) +
                                     "; stop the older process");
    }
  }
  if ((same >= options_.max_per_lane || open_.size() >= options_.max_connections) &&
      !PYRALOG_PLANT("peer.any_number_per_lane")) {
    return fail(Code::kExhausted,
                name + " has too many connections that are ending here; try again");
  }
  for (auto& [other, open] : open_) {
    if (open.peer.identity.node != who.node || open.replaced) continue;
    const bool same_start = open.peer.identity.incarnation == who.incarnation &&
                            open.peer.identity.boot_counter == who.boot_counter;
    if (same_start && open.lane != peer.lane) continue;
    replace(other, open,
            {Code::kCancelled, name + ": a newer connection of it takes the place of this one", 0});
  }
  open_.emplace(number, Open{peer, peer.lane, false});
  return {};
}

void Acceptor::admit_again() {
  if (!admit_) return;
  for (auto& [number, open] : open_) {
    if (open.replaced) continue;
    if (auto may = admit_(open.peer); !may) replace(number, open, std::move(may.error()));
  }
}

void Acceptor::replace(std::uint64_t number, Open& open, Error why) {
  if (PYRALOG_PLANT("peer.keep_replaced")) return;
  ++stats_.replaced;
  open.replaced = true;
  const unsigned shard = shard_of(open.lane);
  shards_[shard]->post([service = services_[shard], number, reason = std::move(why)]() mutable {
    service->drop(number, std::move(reason));
  });
}

io::Task<void> Acceptor::stop() {
  stopping_ = true;
  bound_->close();
  for (io::Stream* const stream : std::exchange(half_open_, {})) stream->close();
  for (unsigned s = 0; s < shards_.size(); ++s) {
    co_await io::on(*shards_[s], [service = services_[s]] { return service->stop(); });
  }
  co_await tasks_.join();
}

}  // namespace pyralog::peer
