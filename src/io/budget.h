#pragma once

#include <cstddef>
#include <utility>

#include "base/assert.h"
#include "io/shard.h"

namespace pyralog::io {

/// A bound on memory in bytes that a room hands out before it allocates. One shard only.
class Budget {
 public:
  explicit Budget(std::size_t limit_bytes) : limit_(limit_bytes) {}
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
      if (budget != nullptr && !Shard::tearing_down()) budget->used_ -= bytes_;
    }

   private:
    Budget* budget_ = nullptr;
    std::size_t bytes_ = 0;
  };
  /// An empty hold if `bytes` do not fit now.
  [[nodiscard]] Hold try_take(std::size_t bytes) {
    if (bytes > limit_ - used_) return {};
    used_ += bytes;
    return {this, bytes};
  }
  [[nodiscard]] std::size_t used() const { return used_; }
  [[nodiscard]] std::size_t limit() const { return limit_; }

 private:
  std::size_t limit_;
  std::size_t used_ = 0;
};

}  // namespace pyralog::io
