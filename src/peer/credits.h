#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "base/assert.h"
#include "io/shard.h"

namespace pyralog::peer {

/// A bound on what is under way, in requests and in bytes. One shard. One request always fits where
/// none is under way, however large it is.
class Credits {
  struct State {
    std::size_t max_requests = 0;
    std::size_t max_bytes = 0;
    std::size_t requests = 0;
    std::size_t bytes = 0;
    std::function<void()> told;
    void tell() const {
      // In a teardown whoever is to be told may have gone first.
      if (told && !io::Shard::tearing_down()) told();
    }
  };

 public:
  Credits(std::size_t max_requests, std::size_t max_bytes) : state_(std::make_shared<State>()) {
    PYRALOG_ASSERT(max_requests > 0);
    state_->max_requests = max_requests;
    state_->max_bytes = max_bytes;
  }
  /// A part of the bound; gives it back when it is destroyed, even after the Credits.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : state_(std::move(other.state_)), bytes_(other.bytes_) {}
    Hold& operator=(Hold&& other) noexcept {
      if (this != &other) {
        release();
        state_ = std::move(other.state_);
        bytes_ = other.bytes_;
      }
      return *this;
    }
    ~Hold() { release(); }
    /// Takes what it has become, even over the bound.
    void resize(std::size_t bytes) {
      if (state_ == nullptr) return;
      const bool less = bytes < bytes_;
      state_->bytes += bytes;
      state_->bytes -= bytes_;
      bytes_ = bytes;
      if (less) state_->tell();
    }
    void release() {
      const std::shared_ptr<State> state = std::move(state_);
      if (state == nullptr) return;
      --state->requests;
      state->bytes -= bytes_;
      state->tell();
    }

   private:
    friend class Credits;
    Hold(const Credits& credits, std::size_t bytes) : state_(credits.state_), bytes_(bytes) {}
    std::shared_ptr<State> state_;
    std::size_t bytes_ = 0;
  };

  [[nodiscard]] bool fits(std::size_t bytes) const {
    const State& now = *state_;
    if (now.requests == 0) return true;
    return now.requests < now.max_requests && now.bytes <= now.max_bytes &&
           bytes <= now.max_bytes - now.bytes;
  }
  /// Whether nothing more should be begun.
  [[nodiscard]] bool full() const {
    return state_->requests >= state_->max_requests || state_->bytes >= state_->max_bytes;
  }
  [[nodiscard]] Hold take(std::size_t bytes) {
    ++state_->requests;
    state_->bytes += bytes;
    return {*this, bytes};
  }
  /// Called whenever something has been given back; empty = nobody.
  void on_free(std::function<void()> told) { state_->told = std::move(told); }
  [[nodiscard]] std::size_t requests() const { return state_->requests; }
  [[nodiscard]] std::size_t bytes() const { return state_->bytes; }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace pyralog::peer
