#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <utility>

#include "io/shard.h"

namespace pyralog::io::posix {

/// Jobs from one shard to another, in order: a chain of chunks with one producer and one consumer
/// and no lock. It has no bound; admission is at the edge.
class Mailbox {
 public:
  Mailbox() : head_(new Chunk), tail_(head_) {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() {
    while (head_ != nullptr) delete std::exchange(head_, head_->next.load(std::memory_order_relaxed));
    delete spare_.load(std::memory_order_relaxed);
  }

  /// The producer's thread.
  void push(Shard::Job job) {
    const std::size_t at = tail_->written.load(std::memory_order_relaxed);
    if (at < kJobs) {
      tail_->jobs[at] = std::move(job);
      tail_->written.store(at + 1, std::memory_order_seq_cst);
      return;
    }
    Chunk* fresh = spare_.exchange(nullptr, std::memory_order_acq_rel);
    if (fresh == nullptr) fresh = new Chunk;
    fresh->jobs[0] = std::move(job);
    fresh->written.store(1, std::memory_order_relaxed);
    tail_->next.store(fresh, std::memory_order_seq_cst);
    tail_ = fresh;
  }

  /// Whether there may be a job; the consumer's thread. Sequentially consistent with `push`, so that
  /// of a consumer that announces its sleep and a producer at least one sees the other.
  [[nodiscard]] bool empty() const {
    return taken_ == head_->written.load(std::memory_order_seq_cst) &&
           (taken_ < kJobs || head_->next.load(std::memory_order_seq_cst) == nullptr);
  }

  /// Moves the next job to `out`; false if there is none. The consumer's thread.
  bool pop(Shard::Job& out) {
    if (taken_ == kJobs) {
      Chunk* const next = head_->next.load(std::memory_order_acquire);
      if (next == nullptr) return false;
      Chunk* const used = std::exchange(head_, next);
      taken_ = 0;
      used->written.store(0, std::memory_order_relaxed);
      used->next.store(nullptr, std::memory_order_relaxed);
      delete spare_.exchange(used, std::memory_order_acq_rel);
    }
    if (taken_ == head_->written.load(std::memory_order_acquire)) return false;
    out = std::exchange(head_->jobs[taken_++], nullptr);
    return true;
  }

 private:
  static constexpr std::size_t kJobs = 62;
  struct Chunk {
    std::array<Shard::Job, kJobs> jobs;
    std::atomic<std::size_t> written{0};
    std::atomic<Chunk*> next{nullptr};
  };
  // The consumer's.
  alignas(64) Chunk* head_;
  std::size_t taken_ = 0;
  // The producer's.
  alignas(64) Chunk* tail_;
  // An empty chunk on its way back to the producer.
  alignas(64) std::atomic<Chunk*> spare_{nullptr};
};

/// Jobs from threads that are no shard: any number of producers, one consumer, each producer's jobs
/// in order.
class Inbox {
 public:
  Inbox() = default;
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  ~Inbox() { take([](Shard::Job) {}); }

  void push(Shard::Job job) {
    auto* const node = new Node{std::move(job), head_.load(std::memory_order_relaxed)};
    while (!head_.compare_exchange_weak(node->next, node, std::memory_order_seq_cst,
                                        std::memory_order_relaxed)) {
    }
  }
  [[nodiscard]] bool empty() const { return head_.load(std::memory_order_seq_cst) == nullptr; }
  /// Hands all jobs of now to `each`, oldest first; returns how many.
  template <typename F>
  std::size_t take(F each) {
    Node* newest = head_.exchange(nullptr, std::memory_order_acquire);
    Node* oldest = nullptr;
    while (newest != nullptr) {
      Node* const next = std::exchange(newest->next, oldest);
      oldest = std::exchange(newest, next);
    }
    std::size_t count = 0;
    while (oldest != nullptr) {
      Node* const node = std::exchange(oldest, oldest->next);
      Shard::Job job = std::move(node->job);
      delete node;
      each(std::move(job));
      ++count;
    }
    return count;
  }

 private:
  struct Node {
    Shard::Job job;
    Node* next;
  };
  std::atomic<Node*> head_{nullptr};
};

}  // namespace pyralog::io::posix
