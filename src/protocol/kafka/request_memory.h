#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <utility>

#include "io/shard.h"
#include "protocol/kafka/waits.h"

namespace pyralog::protocol::kafka {

/// Bounds what the requests of a shard's connections hold. A large request takes its memory in
/// steps as its bytes arrive: what is only announced costs nothing. A step is granted only if all
/// that have begun can still end one after the other, so they never wait for each other in a
/// circle. Small, ordinary and large requests have a part each; the smaller ones also use what the
/// larger ones leave, never the other way round: who sends much and slowly holds up only others of
/// its size. Of those who wait, connections that hold no more than their fair part come first.
/// Lives on its shard.
class RequestMemory {
 public:
  static constexpr std::size_t kSmall = 64u << 10;

  explicit RequestMemory(std::size_t limit_bytes);
  RequestMemory(const RequestMemory&) = delete;
  RequestMemory& operator=(const RequestMemory&) = delete;

  /// The largest request that there is room for under such a limit; a larger one counts as this.
  [[nodiscard]] static std::size_t largest(std::size_t limit_bytes);

 private:
  struct Waiter;
  struct Part;
  using Order = std::pair<std::size_t, std::uint64_t>;  ///< bytes that lack, and who came first

 public:
  /// One connection. Outlives what it holds and whoever waits for it; reads one request at a time.
  class Holder {
   public:
    explicit Holder(RequestMemory& memory) : memory_(memory) {}
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    /// Its client is gone: whoever waits goes on, without what it waited for.
    void leave();

   private:
    friend class RequestMemory;
    RequestMemory& memory_;
    std::size_t held_ = 0;
    Waiter* waiting_ = nullptr;
    bool counted_ = false;
    bool left_ = false;
  };

 private:
  struct Entry {
    Part* part;
    Holder* holder;
    std::uint64_t number;
    std::size_t held = 0;
    std::size_t whole = 0;  ///< what it will hold once the request is there
    [[nodiscard]] bool arriving() const { return held > 0 && held < whole; }
    [[nodiscard]] Order order() const { return {whole - held, number}; }
  };
  using Entries = std::list<Entry>;

 public:
  /// What one request holds; gives it back when destroyed.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Hold&& o) noexcept : memory_(std::exchange(o.memory_, nullptr)), at_(o.at_) {}
    Hold& operator=(Hold&& o) noexcept {
      if (this != &o) {
        release();
        memory_ = std::exchange(o.memory_, nullptr);
        at_ = o.at_;
      }
      return *this;
    }
    ~Hold() { release(); }
    [[nodiscard]] explicit operator bool() const { return memory_ != nullptr; }
    void release();

   private:
    friend class RequestMemory;
    RequestMemory* memory_ = nullptr;
    Entries::iterator at_;
  };

  /// For a request of `whole` bytes, of which `now` are needed now; a small one gets all. Waits
  /// until there is room. Empty: not by `deadline`, or the client has left.
  [[nodiscard]] io::Task<Hold> begin(Holder& holder, std::size_t whole, std::size_t now,
                                     Instant deadline);
  /// Waits until `hold` may have `bytes` in all. False: not by `deadline`, or the client has left.
  [[nodiscard]] io::Task<bool> grow(Hold& hold, std::size_t bytes, Instant deadline);
  /// Whether others wait for what `hold` has.
  [[nodiscard]] bool is_wanted(const Hold& hold) const;

  [[nodiscard]] std::size_t used() const;
  [[nodiscard]] std::size_t limit() const { return limit_; }
  [[nodiscard]] const Waits& waits() const { return waits_; }

 private:
  struct Waiter {
    Entry* entry;
    std::size_t bytes;
    bool granted = false;
    bool queued = true;
    io::WaitList changed{};
  };
  struct Part {
    std::size_t limit = 0;
    std::size_t used = 0;
    std::size_t wholes = 0;         ///< what all its entries will hold
    std::size_t arriving_held = 0;  ///< by those in `arriving`
    std::map<Order, Entry*> arriving{};  ///< that hold some and need more
    std::map<Order, Waiter*> growing{};
    std::list<Waiter*> fresh{};  ///< that hold nothing yet
    [[nodiscard]] bool waited_for() const { return !growing.empty() || !fresh.empty(); }
  };
  [[nodiscard]] std::size_t part_of(std::size_t whole) const;
  [[nodiscard]] static bool fits(const Part& part, const Entry& entry, std::size_t bytes);
  [[nodiscard]] bool try_grant(Entry& entry, std::size_t bytes);
  /// Gives all of a request that holds nothing yet its memory from a part of larger ones.
  [[nodiscard]] bool try_lend(Entry& entry);
  [[nodiscard]] bool is_fair(const Waiter& waiter) const;
  [[nodiscard]] io::Task<bool> wait_for(Entry& entry, std::size_t bytes, Instant deadline);
  void take_out(Waiter& waiter);
  void grant(Waiter& waiter);
  void count(Holder& holder);
  void serve(Part& part);
  void serve_growing(Part& part);
  void serve_fresh(Part& part, bool fair);

  std::size_t limit_;
  std::array<Part, 3> parts_;  ///< for small, ordinary and large requests
  Entries entries_;
  std::uint64_t next_ = 0;
  std::size_t counting_ = 0;  ///< connections that hold some or wait
  Waits waits_;
};

}  // namespace pyralog::protocol::kafka
