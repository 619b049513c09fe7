#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "io/shard.h"

namespace pyralog::io {

/// A bound on memory in bytes that a room hands out before it allocates. One shard only.
class Budget {
 public:
  explicit Budget(std::size_t limit_bytes) : limit_(limit_bytes) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;
  /// Holds part of a budget; gives it back when destroyed.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Budget* budget, std::size_t bytes) : budget_(budget), bytes_(bytes) {}
    Hold(Hold&& o) noexcept : budget_(std::exchange(o.budget_, nullptr)), bytes_(o.bytes_) {}
    Hold& operator=(Hold&& o) noexcept {
      if (this != &o) {
        release();
        budget_ = std::exchange(o.budget_, nullptr);
        bytes_ = o.bytes_;
      }
      return *this;
    }
    ~Hold() { release(); }
    [[nodiscard]] explicit operator bool() const { return budget_ != nullptr; }
    void release() {
      Budget* budget = std::exchange(budget_, nullptr);
      // In a teardown the budget may have gone first.
      if (budget == nullptr || Shard::tearing_down()) return;
      budget->used_ -= bytes_;
      budget->freed_.wake_all();
    }

   private:
    Budget* budget_ = nullptr;
    std::size_t bytes_ = 0;
  };
  /// An empty hold if `bytes` do not fit now, or others wait already.
  [[nodiscard]] Hold try_take(std::size_t bytes) { return waiting_ > 0 ? Hold() : claim(bytes); }
  /// Waits until `bytes` fit; more than there will ever be counts as all of it. First come, first
  /// served: a large request is not starved by small ones.
  [[nodiscard]] Task<Hold> take(std::size_t bytes) {
    bytes = std::min(bytes, limit_);
    ++waiting_;
    const auto guard = co_await turn_.lock();
    Hold hold = claim(bytes);
    while (!hold) {
      co_await freed_.wait(Instant::never());
      hold = claim(bytes);
    }
    --waiting_;
    co_return hold;
  }
  [[nodiscard]] std::size_t used() const { return used_; }
  [[nodiscard]] std::size_t limit() const { return limit_; }

 private:
  Hold claim(std::size_t bytes) {
    if (bytes > limit_ - used_ && !PYRALOG_PLANT("io.budget_without_bound")) return {};
    used_ += bytes;
    return {this, bytes};
  }
  std::size_t limit_;
  std::size_t used_ = 0;
  std::size_t waiting_ = 0;
  Turn turn_;
  WaitList freed_;
};

}  // namespace pyralog::io
