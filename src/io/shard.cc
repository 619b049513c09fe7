#include "io/shard.h"

#include "base/assert.h"

namespace pyralog::io {

namespace {
thread_local Shard* current_shard = nullptr;
}  // namespace

Shard& Shard::current() {
  PYRALOG_ASSERT(current_shard != nullptr);
  return *current_shard;
}

void Shard::set_current(Shard* shard) { current_shard = shard; }

Task<void> sleep_for(Duration delay) {
  WaitList nobody_wakes;
  co_await nobody_wakes.wait(Shard::current().now() + delay);
}

WaitList::~WaitList() { PYRALOG_ASSERT(head_ == nullptr); }

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

TaskGroup::~TaskGroup() { PYRALOG_ASSERT(running_ == 0); }

detail::Detached TaskGroup::run(TaskGroup& group, Task<void> task) {
  co_await std::move(task);
  if (--group.running_ == 0) group.idle_.wake_all();
}

void TaskGroup::spawn(Task<void> task) {
  ++running_;
  run(*this, std::move(task));
}

Task<void> TaskGroup::join() {
  while (running_ != 0) co_await idle_.wait(Instant::never());
}

Task<Turn::Guard> Turn::lock() {
  while (busy_) co_await waiting_.wait(Instant::never());
  busy_ = true;
  co_return Guard(this);
}

void Turn::release() {
  busy_ = false;
  waiting_.wake_one();
}

}  // namespace pyralog::io
