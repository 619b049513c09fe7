#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "io/frame_pool.h"

namespace pyralog::io {

template <typename T>
class Task;

namespace detail {

/// Where the frames of coroutines come from.
struct Framed {
  static void* operator new(std::size_t bytes) { return FramePool::take(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept { FramePool::give(frame, bytes); }
};

struct PromiseBase : Framed {
  std::coroutine_handle<> continuation = std::noop_coroutine();

  std::suspend_always initial_suspend() noexcept { return {}; }
  struct Final {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) noexcept {
      return done.promise().continuation;
    }
    void await_resume() noexcept {}
  };
  Final final_suspend() noexcept { return {}; }
  // Rooms report failure by Result; an exception that reaches a coroutine's edge is a bug.
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& v) {
    value.emplace(std::forward<U>(v));
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
};

}  // namespace detail

/// A coroutine that starts when it is awaited and resumes its awaiter, by symmetric transfer, when it
/// is done. Move-only, awaited once (`co_await std::move(task)` or a temporary). It runs on the shard
/// that its last awaited operation resumed on, which is the caller's for everything in `io`.
/// Destroying a Task that has started and not finished is only sound if nothing will resume it:
/// close or cancel what it waits for, and join it, instead.
template <typename T = void>
class [[nodiscard]] Task {
 public:
  using Value = T;
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  auto operator co_await() && noexcept {
    struct Awaiter {
      Handle handle;
      bool await_ready() const noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
        handle.promise().continuation = awaiting;
        return handle;
      }
      T await_resume() {
        if constexpr (!std::is_void_v<T>) return std::move(*handle.promise().value);
      }
    };
    PYRALOG_ASSERT(handle_);
    return Awaiter{handle_};
  }

 private:
  Handle handle_;
};

namespace detail {
template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

/// The coroutines that run on their own, newest last. Whoever tears a shard down destroys them, and
/// with each root all frames that it awaits. One shard only (in the simulator, one node).
class RootList {
 public:
  struct Link {
    RootList* list = nullptr;
    Link* prev = nullptr;
    Link* next = nullptr;
    std::coroutine_handle<> frame;
    Link() = default;
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;
    ~Link();
  };
  RootList() = default;
  RootList(const RootList&) = delete;
  RootList& operator=(const RootList&) = delete;
  void add(Link& link, std::coroutine_handle<> frame);
  [[nodiscard]] bool empty() const { return tail_ == nullptr; }
  /// Destroys all frames, newest first: what a frame uses is mostly older than the frame. Nothing may
  /// resume any of them any more; Shard::tearing_down() is true meanwhile.
  void destroy_all();

 private:
  Link* tail_ = nullptr;
};

/// Makes Shard::tearing_down() true on this thread while it lives.
class TeardownScope {
 public:
  TeardownScope();
  TeardownScope(const TeardownScope&) = delete;
  TeardownScope& operator=(const TeardownScope&) = delete;
  ~TeardownScope();

 private:
  bool before_;
};

/// A coroutine nobody awaits: starts at once, frees itself, and is a root of the current shard as
/// long as it lives. Only TaskGroup and `spawn_on` use it.
struct Detached {
  struct promise_type : Framed {
    RootList::Link link;
    promise_type();
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
  };
};
}  // namespace detail

}  // namespace pyralog::io
