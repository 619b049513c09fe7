#include "client/session.h"

#include <algorithm>

#include "base/plant.h"

namespace pyralog::client {

void Session::reached(const TopicPartition& partition, const Position& met) {
  if (PYRALOG_PLANT("client.carry_no_session")) return;
  Position& known = positions_[partition];
  if (known.topic != met.topic) known = {met.topic, -1, 0};
  known.leader_epoch = std::max(known.leader_epoch, met.leader_epoch);
  known.next = std::max(known.next, met.next);
}

std::optional<Session::Position> Session::position(const TopicPartition& partition,
                                                   const TopicId& topic) const {
  const auto known = positions_.find(partition);
  if (known == positions_.end() || known->second.topic != topic) return std::nullopt;
  return known->second;
}

}  // namespace pyralog::client
