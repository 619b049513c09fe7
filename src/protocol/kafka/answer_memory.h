#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <utility>

#include "base/result.h"
#include "base/time.h"
#include "io/shard.h"
#include "io/task.h"
#include "protocol/kafka/waits.h"

namespace pyralog::protocol::kafka {

/// Bounds what the answers of a shard's connections hold that their clients have not taken yet. Nobody
/// gets more than there is: who finds no room waits, first come first served, small answers in a queue
/// of their own and with a quarter of the memory that large ones never take. A connection that holds
/// some already gets no more than its fair part, so clients that take their answers slowly hold up
/// themselves and not the quick ones. Lives on its shard.
class AnswerMemory {
 public:
  static constexpr std::size_t kSmall = 64u << 10;  ///< other answers than fetches are not counted up to this

  explicit AnswerMemory(std::size_t limit_bytes);
  AnswerMemory(const AnswerMemory&) = delete;
  AnswerMemory& operator=(const AnswerMemory&) = delete;

  /// One connection. Outlives what it holds and whoever waits for it.
  class Holder {
   public:
    explicit Holder(AnswerMemory& memory) : memory_(memory) {}
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    ~Holder();
    /// Its client is gone: whoever waits goes on, without what it waited for.
    void leave();
    [[nodiscard]] bool left() const { return left_; }
    [[nodiscard]] std::size_t held() const { return held_; }
    /// Whether it has read records of topics in memory; a guess at what its next fetch needs.
    [[nodiscard]] bool& reads_memory() { return reads_memory_; }
    [[nodiscard]] AnswerMemory& memory() const { return memory_; }

   private:
    friend class AnswerMemory;
    [[nodiscard]] bool counts() const { return held_ > 0 || waiting_ > 0; }
    AnswerMemory& memory_;
    std::size_t held_ = 0;
    std::size_t waiting_ = 0;
    bool left_ = false;
    bool reads_memory_ = false;
  };

  /// What one answer holds; gives it back when destroyed.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Hold&& o) noexcept
        : holder_(std::exchange(o.holder_, nullptr)),
          bytes_(std::exchange(o.bytes_, 0)),
          small_(o.small_) {}
    Hold& operator=(Hold&& o) noexcept {
      if (this != &o) {
        release();
        holder_ = std::exchange(o.holder_, nullptr);
        bytes_ = std::exchange(o.bytes_, 0);
        small_ = o.small_;
      }
      return *this;
    }
    ~Hold() { release(); }
    [[nodiscard]] explicit operator bool() const { return holder_ != nullptr; }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }
    void release();
    /// It has come to `bytes`, whatever it was taken for.
    void resize(std::size_t bytes);

   private:
    friend class AnswerMemory;
    Hold(Holder* holder, std::size_t bytes, bool small)
        : holder_(holder), bytes_(bytes), small_(small) {}
    Holder* holder_ = nullptr;
    std::size_t bytes_ = 0;
    bool small_ = false;
  };

  /// Before a request of kind `api` is served: waits until there is room for what such answers took of
  /// late, or for `least` if that is more. At once where they are small. Empty, too, if the client left.
  [[nodiscard]] io::Task<Hold> begin(Holder& holder, std::int16_t api, std::size_t least = 0);
  /// The answer has come to `bytes`. False: it was taken for less and there is no room for it, nothing
  /// was changed; it is to be dropped and made again when there is, from begin() with `least`.
  [[nodiscard]] bool settle(Holder& holder, Hold& hold, std::int16_t api, std::size_t bytes);
  /// As settle, for what cannot be made again.
  void settle_anyway(Holder& holder, Hold& hold, std::int16_t api, std::size_t bytes);

  /// What a fetch can have at once, at most `wanted`: a quarter of what is free, no more than makes the
  /// connection's fair part; a minimum where the rest is used up. May be empty.
  [[nodiscard]] Hold take_some(Holder& holder, std::size_t wanted);
  /// Waits until there is room for `bytes`; more than there will ever be counts as all of it. Empty: not
  /// by `deadline`, or the client has left.
  [[nodiscard]] io::Task<Hold> take(Holder& holder, std::size_t bytes, Instant deadline);

  [[nodiscard]] std::size_t used() const { return large_used_ + small_used_; }
  [[nodiscard]] std::size_t limit() const { return limit_; }
  [[nodiscard]] const Waits& waits() const { return waits_; }
  /// What one connection may hold while others hold some or wait; at least a minimum answer.
  [[nodiscard]] std::size_t fair_part(const Holder& holder) const;

 private:
  struct Waiter {
    Holder* holder;
    std::size_t bytes;
    bool small;
    bool granted = false;
    io::WaitList changed{};
  };
  using Queue = std::list<Waiter*>;
  [[nodiscard]] std::size_t wanted(std::int16_t api, std::size_t least);
  [[nodiscard]] bool is_small(std::size_t bytes) const;
  [[nodiscard]] bool fits(std::size_t bytes, bool small) const;
  [[nodiscard]] bool is_fair(const Holder& holder, std::size_t bytes) const;
  [[nodiscard]] std::size_t large_room() const;
  [[nodiscard]] Queue& queue(bool small) { return small ? small_waiting_ : large_waiting_; }
  void add(Holder& holder, std::size_t bytes, bool small);
  void give_back(Holder& holder, std::size_t bytes, bool small);
  void put_waiting(Holder& holder, std::size_t waiting);
  void serve();

  std::size_t limit_;
  std::size_t reserve_;   ///< for small answers
  std::size_t minimum_;   ///< of a fair part
  std::size_t small_;     ///< what counts as small
  std::size_t large_used_ = 0;
  std::size_t small_used_ = 0;
  std::size_t counting_ = 0;  ///< connections that hold some or wait
  std::map<std::int16_t, std::size_t> expected_;
  Queue small_waiting_;
  Queue large_waiting_;
  Waits waits_;
};

/// Bounds what one request makes the server build: names and entries that it repeats, what is told of
/// each. A handler takes from it as it builds.
class AnswerRoom {
 public:
  explicit AnswerRoom(std::size_t bytes) : left_(bytes) {}
  /// kTooLarge once more is built than there was; the connection then ends.
  [[nodiscard]] Result<void> take(std::size_t bytes);

 private:
  std::size_t left_;
};

}  // namespace pyralog::protocol::kafka
