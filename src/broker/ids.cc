// Ids and counters, from any shard.
#include "broker/broker.h"
#include "cluster/pharaoh.h"

namespace pyralog::broker {
namespace {

std::unexpected<Error> not_here(NodeId node) {
  return fail(Code::kNotFound, "node " + std::to_string(node.value) +
                                   ": issues no ids and counters, by its role; ask another node");
}

}  // namespace

io::Task<Result<obelisk::ScarabRange>> Broker::next_ids(std::uint64_t count, Instant deadline) {
  co_return co_await io::on(*shards_[0], [&]() -> io::Task<Result<obelisk::ScarabRange>> {
    if (pharaoh_ == nullptr) co_return not_here(node_);
    co_return co_await pharaoh_->next_ids(count, deadline);
  });
}

io::Task<Result<std::int64_t>> Broker::next_counter(std::string name, std::int64_t count,
                                                    bool strict, Instant deadline) {
  co_return co_await io::on(*shards_[0], [&]() -> io::Task<Result<std::int64_t>> {
    if (pharaoh_ == nullptr) co_return not_here(node_);
    co_return co_await pharaoh_->next_counter(name, count, strict, deadline);
  });
}

}  // namespace pyralog::broker
