#include "client/ids.h"

#include <algorithm>
#include <iterator>

#include "io/rng.h"
#include "wire/kafka/gen/next_counter.h"
#include "wire/kafka/gen/next_ids.h"

namespace pyralog::client {

namespace kafka = wire::kafka;

namespace {

bool is_for_another(std::int16_t code) {
  const auto error = static_cast<KafkaError>(code);
  return error == KafkaError::kNotController || traits_of(error).retriable;
}

}  // namespace

std::optional<std::int32_t> Ids::another(std::int32_t than) const {
  const auto& nodes = cluster_.nodes();
  if (nodes.empty()) return std::nullopt;
  const auto next = nodes.upper_bound(than);
  return next != nodes.end() ? next->first : nodes.begin()->first;
}

void Ids::leave(std::int32_t node) {
  if (node_ == node) node_ = another(node);
}

template <typename Response, typename Request>
io::Task<Result<Response>> Ids::ask(std::string thing, Request request, Instant deadline) {
  io::Shard& shard = io::Shard::current();
  io::Backoff backoff(cluster_.options().backoff);
  // One that is frozen must not keep us from asking the next; a large cluster needs its time.
  for (Duration wait = 1s; cluster_.nodes().empty(); wait = std::min<Duration>(2 * wait, 30s)) {
    const auto told = co_await cluster_.all_topics(std::min(deadline, shard.now() + wait));
    if (told || !cluster_.nodes().empty()) break;
    if (!is_retriable(told.error()) || !co_await backoff.wait(deadline))
      co_return fail(told.error());
  }
  std::size_t refused = 0;  // by nodes, one after the other
  Error last{Code::kUnavailable, thing + ": no node is known; check the addresses to begin with",
             0};
  while (true) {
    if (!node_ && !cluster_.nodes().empty()) {
      // Clients spread over the nodes.
      const auto skip = shard.rng().below(cluster_.nodes().size());
      node_ = std::next(cluster_.nodes().begin(), static_cast<std::ptrdiff_t>(skip))->first;
    }
    if (!node_) co_return fail(std::move(last));
    const std::int32_t node = *node_;
    const Instant end = std::min(deadline, shard.now() + options_.patience);
    auto connection = co_await cluster_.node(node, end);
    if (connection) {
      auto reply = co_await (*connection)->template call<Response>(request, end);
      if (reply && reply->message.error_code == 0) co_return std::move(reply->message);
      if (reply) {
        const std::int16_t code = reply->message.error_code;
        last = to_error(thing, code, reply->message.error_message);
        if (!is_for_another(code)) co_return fail(std::move(last));
      } else {
        last = std::move(reply.error());
        // An older node does not know the message.
        if (!is_retriable(last) && last.code != Code::kUnsupported) co_return fail(std::move(last));
      }
    } else {
      last = std::move(connection.error());
    }
    leave(node);
    if (shard.now() >= deadline) co_return fail(std::move(last));
    // Once round without an answer: they need a moment.
    if (++refused % cluster_.nodes().size() != 0) continue;
    if (!co_await backoff.wait(deadline)) co_return fail(std::move(last));
  }
}

io::Task<Result<obelisk::ScarabRange>> Ids::next_ids(std::uint64_t count, Instant deadline) {
  if (count < 1 || count > obelisk::kScarabMaxBatch) {
    co_return fail(Code::kInvalidArgument, "ids: " + std::to_string(count) +
                                               " at once; ask for 1 to " +
                                               std::to_string(obelisk::kScarabMaxBatch));
  }
  kafka::NextIdsRequest request;
  request.timeout_ms = static_cast<std::int32_t>(options_.patience.count() / 1'000'000);
  request.count = static_cast<std::int32_t>(count);
  PYRALOG_CO_ASSIGN(const auto got,
                    (co_await ask<kafka::NextIdsResponse>("ids", request, deadline)));
  const bool sound = got.first_ms >= 0 &&
                     static_cast<std::uint64_t>(got.first_ms) < obelisk::kScarabEndMs &&
                     got.sequence >= 0 && std::uint64_t(got.sequence) < obelisk::kScarabPerMs &&
                     got.machine >= 0 && std::uint64_t(got.machine) < obelisk::kScarabMachines &&
                     static_cast<std::uint64_t>(got.count) == count;
  if (!sound) {
    co_return fail(Code::kCorrupt,
                   "ids: the server's answer makes no sense; check what listens there");
  }
  const std::uint64_t tick =
      static_cast<std::uint64_t>(got.first_ms) << 13 | static_cast<std::uint64_t>(got.sequence);
  co_return obelisk::ScarabRange(tick, count, static_cast<std::uint16_t>(got.machine));
}

io::Task<Result<std::int64_t>> Ids::next_counter(std::string name, std::int32_t count, bool strict,
                                                 Instant deadline) {
  kafka::NextCounterRequest request;
  request.timeout_ms = static_cast<std::int32_t>(options_.patience.count() / 1'000'000);
  request.name = name;
  request.count = count;
  request.strict = strict;
  const std::string thing = "counter \"" + name + "\"";
  PYRALOG_CO_ASSIGN(const auto got, (co_await ask<kafka::NextCounterResponse>(
                                        thing, std::move(request), deadline)));
  co_return got.first;
}

}  // namespace pyralog::client
