#include "raft/progress.h"

namespace pyralog::raft {

bool Progress::waits() const {
  switch (state_) {
    case State::kProbe:
      return probing_;
    case State::kReplicate:
      return is_full();
    case State::kSnapshot:
      return true;
  }
  return true;
}

void Progress::become(State state) {
  state_ = state;
  probing_ = false;
  snapshot_ = Index(0);
  on_the_way_.clear();
  bytes_ = 0;
}

void Progress::probe() {
  // What a snapshot was to bring, if it has, is behind it.
  const Index from = state_ == State::kSnapshot ? std::max(match_, snapshot_) : match_;
  become(State::kProbe);
  next_ = Index(from.value + 1);
}

void Progress::replicate() {
  become(State::kReplicate);
  next_ = Index(match_.value + 1);
}

void Progress::sent(Index last, std::size_t bytes) {
  if (state_ != State::kReplicate) {
    probing_ = true;
    return;
  }
  next_ = Index(last.value + 1);
  on_the_way_.emplace_back(last, bytes);
  bytes_ += bytes;
}

void Progress::sent_snapshot(Index index) {
  become(State::kSnapshot);
  snapshot_ = index;
}

void Progress::snapshot_ended(bool arrived) {
  if (state_ != State::kSnapshot) return;
  if (!arrived) snapshot_ = Index(0);
  probe();
  // Its own word, or the next heartbeat, sets it going.
  probing_ = true;
}

void Progress::forget_first() {
  bytes_ -= on_the_way_.front().second;
  on_the_way_.pop_front();
}

bool Progress::agrees_up_to(Index index) {
  while (!on_the_way_.empty() && on_the_way_.front().first <= index) forget_first();
  if (index <= match_) return false;
  match_ = index;
  next_ = std::max(next_, Index(index.value + 1));
  probing_ = false;
  return true;
}

bool Progress::refused(Index refused, Index hint) {
  if (state_ == State::kReplicate) {
    if (refused <= match_) return false;
    probe();
    return true;
  }
  // A probe is answered about the entry before its first.
  if (state_ != State::kProbe || next_.value - 1 != refused.value) return false;
  next_ = Index(
      std::max({std::min(refused.value, hint.value + 1), match_.value + 1, std::uint64_t{1}}));
  probing_ = false;
  return true;
}

}  // namespace pyralog::raft
