#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

#include "raft/types.h"

namespace pyralog::raft {

/// What a leader knows of a member's log, and how it sends to it. Pure.
class Progress {
 public:
  enum class State : std::uint8_t {
    kProbe,      ///< one message at a time, until it is known where the logs agree
    kReplicate,  ///< one message after the other, before the answers come
    kSnapshot,   ///< nothing but heartbeats until a snapshot has arrived
  };
  struct Limits {
    std::size_t messages = 64;  ///< on their way
    std::size_t bytes = 16u << 20;
  };

  Progress(Index next, Limits limits) : limits_(limits), next_(next) {}

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] Index match() const { return match_; }  ///< its log agrees up to here, durably
  [[nodiscard]] Index next() const { return next_; }    ///< to be sent
  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] std::uint64_t round() const { return round_; }
  [[nodiscard]] bool waits() const;
  [[nodiscard]] bool is_full() const {
    return on_the_way_.size() >= limits_.messages || bytes_ >= limits_.bytes;
  }

  /// Up to where it knows that entries are committed.
  [[nodiscard]] Index committed() const { return committed_; }
  void heard_of(Index committed) {
    active_ = true;
    committed_ = std::max(committed_, committed);
  }
  /// Whether it was heard of since the last time.
  bool take_active() { return std::exchange(active_, false); }
  void answered_round(std::uint64_t round) {
    round_ = std::max(round_, round);
    probing_ = false;
    // Answers may have been lost: at least one message is let through.
    if (is_full()) forget_first();
  }

  /// Entries up to `last`, of so many bytes, were sent.
  void sent(Index last, std::size_t bytes);
  /// A probe without entries, or one that must be answered before the next.
  void sent_probe() { probing_ = state_ == State::kProbe; }
  void sent_snapshot(Index index);
  /// Its log agrees up to `index`. False if that is old news.
  bool agrees_up_to(Index index);
  /// It has refused what follows on `refused`, and may agree up to `hint`. False if that is old
  /// news.
  bool refused(Index refused, Index hint);
  void probe();
  void replicate();
  /// The snapshot has arrived, or not.
  void snapshot_ended(bool arrived);
  [[nodiscard]] Index pending_snapshot() const { return snapshot_; }

 private:
  void forget_first();
  void become(State state);

  Limits limits_;
  State state_ = State::kProbe;
  Index match_;
  Index next_;
  Index committed_;
  bool probing_ = false;  ///< a probe is on its way
  bool active_ = false;
  std::uint64_t round_ = 0;
  Index snapshot_;
  std::deque<std::pair<Index, std::size_t>> on_the_way_;  ///< last index and bytes of each message
  std::size_t bytes_ = 0;
};

}  // namespace pyralog::raft
