#pragma once

#include <cstddef>
#include <list>
#include <utility>

#include "io/budget.h"
#include "io/shard.h"

namespace pyralog::protocol::kafka {

/// Bounds what the requests of a shard's connections hold. A large request takes its memory in
/// steps as its bytes arrive: what is only announced costs nothing. A step is granted only if all
/// that have begun can still end one after the other, so they never wait for each other in a
/// circle. Small requests find a reserve of their own when the rest is used up or waited for.
class RequestMemory {
 public:
  static constexpr std::size_t kSmall = 64u << 10;  ///< a request that may use the reserve
  static constexpr std::size_t kReserve = 8u << 20;

  explicit RequestMemory(std::size_t limit_bytes, std::size_t reserve_bytes = kReserve)
      : limit_(limit_bytes), reserve_(reserve_bytes) {}
  RequestMemory(const RequestMemory&) = delete;
  RequestMemory& operator=(const RequestMemory&) = delete;

 private:
  struct Entry {
    std::size_t held = 0;
    std::size_t whole = 0;  ///< what it will hold once the request is there
  };
  using Entries = std::list<Entry>;

 public:
  /// What one request holds; gives it back when destroyed.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Hold&& o) noexcept
        : memory_(std::exchange(o.memory_, nullptr)), at_(o.at_), small_(std::move(o.small_)) {}
    Hold& operator=(Hold&& o) noexcept {
      if (this != &o) {
        release();
        memory_ = std::exchange(o.memory_, nullptr);
        at_ = o.at_;
        small_ = std::move(o.small_);
      }
      return *this;
    }
    ~Hold() { release(); }
    [[nodiscard]] explicit operator bool() const { return memory_ != nullptr || small_; }
    void release();

   private:
    friend class RequestMemory;
    RequestMemory* memory_ = nullptr;
    Entries::iterator at_;
    io::Budget::Hold small_;  ///< instead: it is in the reserve
  };

  /// For a request of `whole` bytes, of which `now` are needed now; a small one gets all. Waits
  /// until there is room; more than there will ever be counts as all of it.
  [[nodiscard]] io::Task<Hold> begin(std::size_t whole, std::size_t now);
  /// Waits until `hold` may have `bytes` in all.
  [[nodiscard]] io::Task<void> grow(Hold& hold, std::size_t bytes);
  [[nodiscard]] std::size_t used() const { return used_ + reserve_.used(); }
  [[nodiscard]] std::size_t limit() const { return limit_; }

 private:
  struct Waiter {
    Entry* entry;
    std::size_t bytes;
    bool granted = false;
  };
  [[nodiscard]] bool fits(const Entry& entry, std::size_t bytes) const;
  bool try_grant(Entry& entry, std::size_t bytes);
  io::Task<void> wait_for(Entry& entry, std::size_t bytes);
  void serve();

  std::size_t limit_;
  std::size_t used_ = 0;    ///< without the reserve
  std::size_t wholes_ = 0;  ///< what all entries will hold
  Entries entries_;
  std::list<Waiter*> waiting_;
  io::WaitList granted_;
  io::Budget reserve_;
};

}  // namespace pyralog::protocol::kafka
