#include "io/shard.h"

#include "base/assert.h"

namespace pyralog::io {

namespace {
thread_local Shard* current_shard = nullptr;
thread_local bool tearing_down_now = false;
}  // namespace

namespace detail {

RootList::Link::~Link() {
  if (list == nullptr) return;
  if (prev != nullptr) prev->next = next;
  (next != nullptr ? next->prev : list->tail_) = prev;
}

void RootList::add(Link& link, std::coroutine_handle<> frame) {
  link.list = this;
  link.frame = frame;
  link.prev = tail_;
  if (tail_ != nullptr) tail_->next = &link;
  tail_ = &link;
}

void RootList::destroy_all() {
  const TeardownScope scope;
  while (tail_ != nullptr) tail_->frame.destroy();
}

TeardownScope::TeardownScope() : before_(std::exchange(tearing_down_now, true)) {}
TeardownScope::~TeardownScope() { tearing_down_now = before_; }

Detached::promise_type::promise_type() {
  Shard::current().roots().add(link, std::coroutine_handle<promise_type>::from_promise(*this));
}

Detached run_root(std::move_only_function<Task<void>()> make) { co_await make(); }

}  // namespace detail

Shard& Shard::current() {
  PYRALOG_ASSERT(current_shard != nullptr);
  return *current_shard;
}

void Shard::set_current(Shard* shard) { current_shard = shard; }
bool Shard::has_current() { return current_shard != nullptr; }
bool Shard::tearing_down() { return tearing_down_now; }

void spawn_on(Shard& target, std::move_only_function<Task<void>()> make) {
  target.post([make = std::move(make)]() mutable { detail::run_root(std::move(make)); });
}

Task<void> sleep_for(Duration delay) {
  WaitList nobody_wakes;
  co_await nobody_wakes.wait(Shard::current().now() + delay);
}

WaitList::~WaitList() {
  PYRALOG_ASSERT(head_ == nullptr || Shard::tearing_down());
  while (head_ != nullptr) head_->unlink();
}

WaitList::Awaiter::~Awaiter() {
  if (linked_) unlink();
  if (has_timer_) shard_->cancel_timer(timer_);
}

void WaitList::Awaiter::await_suspend(std::coroutine_handle<> h) {
  handle_ = h;
  shard_ = &Shard::current();
  prev_ = list_->tail_;
  (prev_ != nullptr ? prev_->next_ : list_->head_) = this;
  list_->tail_ = this;
  linked_ = true;
  if (deadline_ != Instant::never()) {
    has_timer_ = true;
    timer_ = shard_->call_at(deadline_, [this] {
      has_timer_ = false;
      if (linked_) {
        unlink();
        handle_.resume();
      }
    });
  }
}

void WaitList::Awaiter::unlink() {
  (prev_ != nullptr ? prev_->next_ : list_->head_) = next_;
  (next_ != nullptr ? next_->prev_ : list_->tail_) = prev_;
  prev_ = next_ = nullptr;
  linked_ = false;
}

void WaitList::Awaiter::fire(bool woken) {
  unlink();
  woken_ = woken;
  if (has_timer_) {
    has_timer_ = false;
    shard_->cancel_timer(timer_);
  }
  shard_->post([h = handle_] { h.resume(); });
}

void WaitList::wake_all() {
  // Those who start to wait while these are woken belong to the next round: fire() only posts.
  while (head_ != nullptr) head_->fire(true);
}

void WaitList::wake_one() {
  if (head_ != nullptr) head_->fire(true);
}

TaskGroup::~TaskGroup() { PYRALOG_ASSERT(running() == 0 || Shard::tearing_down()); }

detail::Detached TaskGroup::run(std::shared_ptr<State> state, Task<void> task) {
  struct Leave {
    State& state;
    ~Leave() {
      if (--state.running == 0) state.idle.wake_all();
    }
  };
  Leave leave{*state};
  co_await std::move(task);
}

void TaskGroup::spawn(Task<void> task) {
  if (state_ == nullptr) state_ = std::make_shared<State>();
  ++state_->running;
  run(state_, std::move(task));
}

Task<void> TaskGroup::join() {
  const std::shared_ptr<State> state = state_;
  while (state != nullptr && state->running != 0) co_await state->idle.wait(Instant::never());
}

Task<Turn::Guard> Turn::lock() {
  // A turn is handed on, never free in between: nobody overtakes those who wait.
  if (busy_) {
    co_await waiting_.wait(Instant::never());
  } else {
    busy_ = true;
  }
  co_return Guard(this);
}

void Turn::release() {
  if (waiting_.empty()) {
    busy_ = false;
  } else {
    waiting_.wake_one();
  }
}

}  // namespace pyralog::io
