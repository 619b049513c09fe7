#include "io/posix/thread_pools.h"

#include <pthread.h>

#include "base/assert.h"
#include "base/plant.h"

namespace pyralog::io::posix {

ThreadPool::ThreadPool(std::string name, unsigned limit) : name_(std::move(name)), limit_(limit) {
  if (::sched_getaffinity(0, sizeof processors_, &processors_) != 0) CPU_ZERO(&processors_);
}

void ThreadPool::submit(Shard::Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    jobs_.push_back(std::move(job));
    if (idle_ < jobs_.size() && threads_.size() < limit_) {
      threads_.emplace_back([this] { run(); });
      return;
    }
  }
  more_.notify_one();
}

void ThreadPool::run() {
  pthread_setname_np(pthread_self(), name_.c_str());
  if (CPU_COUNT(&processors_) > 0 && !PYRALOG_PLANT("io.pools_stay_beside_shards")) {
    ::sched_setaffinity(0, sizeof processors_, &processors_);
  }
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (jobs_.empty()) {
      ++idle_;
      more_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
      --idle_;
      continue;
    }
    Shard::Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

void ThreadPool::stop() {
  std::vector<std::thread> threads;
  std::deque<Shard::Job> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    threads.swap(threads_);
    dropped.swap(jobs_);
  }
  more_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

ThreadPools::ThreadPools(unsigned sync_threads, unsigned disk_threads, unsigned work_threads)
    : sync_("io-sync", sync_threads), disk_("io-disk", disk_threads), work_("io-work", work_threads) {
  PYRALOG_ASSERT(sync_threads > 0 && disk_threads > 0 && work_threads > 0);
}

void ThreadPools::submit(Pool pool, Shard::Job job) {
  switch (pool) {
    case Pool::kSync: return sync_.submit(std::move(job));
    case Pool::kDisk: return disk_.submit(std::move(job));
    case Pool::kWork: return work_.submit(std::move(job));
  }
}

void ThreadPools::stop() {
  sync_.stop();
  disk_.stop();
  work_.stop();
}

}  // namespace pyralog::io::posix
