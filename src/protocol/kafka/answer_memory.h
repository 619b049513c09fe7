#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "base/result.h"
#include "base/time.h"
#include "io/shard.h"
#include "io/task.h"

namespace pyralog::protocol::kafka {

/// Bounds what the answers of a shard's connections hold that their clients have not taken yet, beside
/// small ones. How large an answer gets is not known before it is made, so a kind of request takes what
/// such requests took of late (no more than half of all), waits until that is there, and puts right
/// afterwards what it really was. Nobody waits for ever: clients that do not take their answers can slow
/// the others down, not stop them. Lives on its shard.
class AnswerMemory {
 public:
  static constexpr std::size_t kSmall = 64u << 10;  ///< answers up to this are not counted
  static constexpr Duration kLongestWait = std::chrono::seconds(5);  ///< of who is first in the queue

  explicit AnswerMemory(std::size_t limit_bytes) : limit_(limit_bytes) {}
  AnswerMemory(const AnswerMemory&) = delete;
  AnswerMemory& operator=(const AnswerMemory&) = delete;

  /// What one answer holds; gives it back when destroyed.
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(Hold&& o) noexcept
        : memory_(std::exchange(o.memory_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
    Hold& operator=(Hold&& o) noexcept {
      if (this != &o) {
        release();
        memory_ = std::exchange(o.memory_, nullptr);
        bytes_ = std::exchange(o.bytes_, 0);
      }
      return *this;
    }
    ~Hold() { release(); }
    [[nodiscard]] std::size_t bytes() const { return bytes_; }
    void release();

   private:
    friend class AnswerMemory;
    Hold(AnswerMemory* memory, std::size_t bytes) : memory_(memory), bytes_(bytes) {}
    AnswerMemory* memory_ = nullptr;
    std::size_t bytes_ = 0;
  };

  /// Before a request of kind `api` is served: waits until there is room, first come first served. At
  /// once where such answers are small.
  [[nodiscard]] io::Task<Hold> begin(std::int16_t api);
  /// The answer has come to `bytes`, whatever `hold` was taken for.
  void settle(Hold& hold, std::int16_t api, std::size_t bytes);
  /// What may still be made without waiting.
  [[nodiscard]] std::size_t room() const { return used_ < limit_ ? limit_ - used_ : 0; }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  [[nodiscard]] std::size_t wanted(std::int16_t api);

  std::size_t limit_;
  std::size_t used_ = 0;
  std::map<std::int16_t, std::size_t> expected_;
  io::Turn turn_;
  io::WaitList freed_;
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
