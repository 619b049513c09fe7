#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

#include "base/time.h"
#include "io/task.h"

namespace pyralog {
using namespace base;
}

namespace pyralog::io {

class Disk;
class Net;
class Rng;
class Pools;

/// One event loop on one thread (real) or one node's share of the simulator's loop (simulated). All
/// data of a shard is touched only by code that this shard runs.
class Shard {
 public:
  using Job = std::move_only_function<void()>;
  using TimerId = std::uint64_t;

  virtual ~Shard() = default;
  /// From 0, dense within the node.
  [[nodiscard]] virtual unsigned index() const = 0;
  /// Runs `job` on this shard, after the caller returns; jobs from one sender keep their order. Never
  /// blocks. Any thread. Jobs that are posted after the shard has stopped are dropped.
  virtual void post(Job job) = 0;
  /// Runs `job` on this shard once `at` has come. This shard's thread only.
  virtual TimerId call_at(Instant at, Job job) = 0;
  /// Forgets a timer that has not fired; harmless if it has. This shard's thread only.
  virtual void cancel_timer(TimerId id) = 0;
  /// Monotonic. Any thread.
  [[nodiscard]] virtual Instant now() const = 0;
  /// Wall clock; may jump. Any thread.
  [[nodiscard]] virtual WallMs wall() const = 0;

  // The rest of io as this shard sees it; this shard's thread only.
  [[nodiscard]] virtual Disk& disk() = 0;
  [[nodiscard]] virtual Net& net() = 0;
  [[nodiscard]] virtual Rng& rng() = 0;
  [[nodiscard]] virtual Pools& pools() = 0;

  /// The shard whose code is running; asserts that there is one.
  [[nodiscard]] static Shard& current();
  /// For implementations of Shard: set around everything that a shard runs; nullptr = none.
  static void set_current(Shard* shard);
  /// Whether code of some shard is running on this thread.
  [[nodiscard]] static bool has_current();
  /// True on a thread that is destroying the coroutines of a shard that has stopped or crashed:
  /// destructors then let go of what they hold and touch nothing else.
  [[nodiscard]] static bool tearing_down();

 protected:
  Shard() : roots_(&own_roots_) {}
  /// Several shards that always end together may share one list.
  explicit Shard(detail::RootList* shared) : roots_(shared) {}
  [[nodiscard]] detail::RootList& roots() { return *roots_; }

 private:
  friend struct detail::Detached;
  detail::RootList own_roots_;
  detail::RootList* roots_;
};

/// The shards of one node, by index; fixed while the node runs.
using Shards = std::vector<Shard*>;

/// Awaitable: the coroutine goes on, later, on `target`.
inline auto resume_on(Shard& target) {
  struct Awaiter {
    Shard& target;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) const {
      target.post([h] { h.resume(); });
    }
    void await_resume() const noexcept {}
  };
  return Awaiter{target};
}

/// Awaitable: lets other work of this shard run first.
inline auto yield() { return resume_on(Shard::current()); }

/// Runs `make()`, which returns a Task, on `target` and comes back to the calling shard with its
/// result. What `make` captures is moved along: own it or share it immutably.
template <typename F>
auto on(Shard& target, F make) -> std::invoke_result_t<F> {
  Shard& home = Shard::current();
  if (&home == &target) co_return co_await make();
  co_await resume_on(target);
  if constexpr (std::is_same_v<std::invoke_result_t<F>, Task<void>>) {
    co_await make();
    co_await resume_on(home);
  } else {
    auto result = co_await make();
    co_await resume_on(home);
    co_return result;
  }
}

/// Starts `make()`, a Task<void>, on `target`, later. It belongs to the shard: if it has not finished
/// when the shard is torn down it is destroyed there. Any thread.
void spawn_on(Shard& target, std::move_only_function<Task<void>()> make);

/// Goes on after `delay`, on the same shard.
[[nodiscard]] Task<void> sleep_for(Duration delay);

/// Coroutines of one shard that wait for something to change. Awaiting `wait` yields true when woken
/// and false when `deadline` has come first. One shard's thread only; wakes are posted, so a waker is
/// never re-entered. Destroying a list with waiters is a bug (but in a teardown): wake them and let
/// them leave.
class WaitList {
 public:
  WaitList() = default;
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList();

  class Awaiter {
   public:
    Awaiter(WaitList& list, Instant deadline) : list_(&list), deadline_(deadline) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    ~Awaiter();
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h);
    bool await_resume() const noexcept { return woken_; }

   private:
    friend class WaitList;
    void unlink();
    void fire(bool woken);
    WaitList* list_;
    Instant deadline_;
    std::coroutine_handle<> handle_;
    Shard* shard_ = nullptr;
    Shard::TimerId timer_ = 0;
    bool has_timer_ = false;
    bool linked_ = false;
    bool woken_ = false;
    Awaiter* prev_ = nullptr;
    Awaiter* next_ = nullptr;
  };

  [[nodiscard]] Awaiter wait(Instant deadline) { return Awaiter(*this, deadline); }
  void wake_all();
  void wake_one();
  [[nodiscard]] bool empty() const { return head_ == nullptr; }

 private:
  Awaiter* head_ = nullptr;
  Awaiter* tail_ = nullptr;
};

/// Owns coroutines that nobody awaits singly. `spawn` starts one at once on this shard; `join` waits
/// until all have finished. Destroying a group with running tasks is a bug (but in a teardown). One
/// shard only.
class TaskGroup {
 public:
  TaskGroup() = default;
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  ~TaskGroup();
  void spawn(Task<void> task);
  [[nodiscard]] Task<void> join();
  [[nodiscard]] std::size_t running() const { return state_ == nullptr ? 0 : state_->running; }

 private:
  // Shared with the running tasks: in a teardown either side may go first.
  struct State {
    std::size_t running = 0;
    WaitList idle;
  };
  static detail::Detached run(std::shared_ptr<State> state, Task<void> task);
  std::shared_ptr<State> state_;
};

/// One at a time, first come first served, on one shard. `co_await mutex.lock()` returns a guard.
/// For sequences of awaited steps on one shard's data; it is no thread lock.
class Turn {
 public:
  class [[nodiscard]] Guard {
   public:
    explicit Guard(Turn* turn) : turn_(turn) {}
    Guard(Guard&& other) noexcept : turn_(std::exchange(other.turn_, nullptr)) {}
    Guard& operator=(Guard&&) = delete;
    ~Guard() {
      if (turn_ != nullptr && !Shard::tearing_down()) turn_->release();
    }

   private:
    Turn* turn_;
  };
  [[nodiscard]] Task<Guard> lock();
  [[nodiscard]] bool busy() const { return busy_; }

 private:
  void release();
  bool busy_ = false;
  WaitList waiting_;
};

}  // namespace pyralog::io
