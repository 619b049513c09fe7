// Seals: what candidates ask of this replica, and what this one asks as a candidate.
#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "replica/participant.h"

namespace pyralog::replica {

void Participant::end_old_seals() {
  const Epoch promised = following_.promise().promised;
  std::erase_if(seals_, [&](auto& each) {
    if (each.first.epoch >= promised) return false;
    each.second(fail(Code::kFenced, "partition " + options_.name + ": epoch " +
                                        std::to_string(promised.value) +
                                        " has been promised since"));
    return true;
  });
}

void Participant::take(const Seal& seal, SealedAnswer answer) {
  if (failed_) return answer(fail(*failed_));
  if (stopping_)
    return answer(fail(Code::kUnavailable, "partition " + options_.name + ": is being closed"));
  // Who asks again does not wait for the first answer any more.
  std::erase_if(seals_, [&](auto& each) {
    if (each.first.candidate != seal.candidate) return false;
    each.second(fail(Code::kUnavailable, "asked again"));
    return true;
  });
  // The candidate may have heard of its proposal before this node has.
  if (is_early(seal.epoch) && !PYRALOG_PLANT("replica.refuse_early_seals")) {
    seals_.emplace_back(seal, std::move(answer));
    return;
  }
  if (seal.epoch.value == 0 || !may_speak(seal.candidate, seal.epoch)) {
    return answer(fail(Code::kUnavailable, "partition " + options_.name + ": epoch " +
                                               std::to_string(seal.epoch.value) + " of node " +
                                               std::to_string(seal.candidate.value) +
                                               " has not been heard of here; ask again"));
  }
  seals_.emplace_back(seal, std::move(answer));
  apply(following_.seal(seal), nullptr);
  settle();
}

bool Participant::is_early(Epoch epoch) const {
  return epoch > std::max(known_.highest, known_.current);
}

void Participant::take_early_seals(Epoch heard_before) {
  std::vector<std::pair<Seal, SealedAnswer>> heard;
  for (auto& each : std::exchange(seals_, {})) {
    const bool now = each.first.epoch > heard_before && !is_early(each.first.epoch);
    (now ? heard : seals_).push_back(std::move(each));
  }
  for (auto& [seal, answer] : heard) take(seal, std::move(answer));
}

io::Task<void> Participant::ask_seal(NodeId node, Seal seal) {
  auto answer = co_await wire_.seal(node, id_, seal);
  if (!answer || !recovery_ || recovery_->plan().epoch != seal.epoch || stopping_ || failed_)
    co_return;
  apply(recovery_->answered(*answer, io::Shard::current().now()));
  settle();
}

}  // namespace pyralog::replica
