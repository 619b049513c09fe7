// What a participant makes of its links to the nodes of the other replicas, and heartbeats.
#include "base/plant.h"
#include "replica/participant.h"

namespace pyralog::replica {

void Participant::look_at_links() {
  Leading* to = feeding();
  if (to == nullptr || failed_) return;
  bool back = false;
  for (const Leading::Follower& each : to->followers()) {
    if (each.linked || !wire_.connected(each.disk.node)) continue;
    to->link_up(each.disk.node, io::Shard::current().now());
    back = true;
  }
  if (back) wake_feeders_.wake_all();
}

void Participant::add_heartbeats(std::map<NodeId, std::vector<Heartbeat>>& out) const {
  if (!leading_ || failed_ || stopping_ || PYRALOG_PLANT("replica.say_nothing_when_idle")) return;
  for (auto& [node, message] : leading_->heartbeats()) {
    out[node].push_back({id_, std::move(message)});
  }
}

void Participant::take_again(const AppendReply& progress) {
  if (failed_ || stopping_) return;
  // Then nobody has to be woken.
  const bool same =
      leading_ && !recovery_ && leading_->heard_again(progress, io::Shard::current().now());
  if (!same) take(progress);
}

void Participant::link_changed(NodeId node) {
  Leading* to = feeding();
  if (to == nullptr || failed_) return;
  if (wire_.connected(node)) {
    to->link_up(node, io::Shard::current().now());
  } else {
    to->link_down(node);
  }
  settle();
}

bool Participant::may_accept(Instant now) {
  if (!leads()) return false;
  for (const catalog::Replica& each : leading_->term().replicas) {
    if (const auto heard = wire_.heard(each.node)) leading_->link_heard(each.node, *heard);
  }
  return leading_->may_accept(now);
}

}  // namespace pyralog::replica
