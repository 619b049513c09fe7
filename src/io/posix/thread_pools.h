#pragma once

#include <sched.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "io/pools.h"

namespace pyralog::io::posix {

/// At most `limit` threads that run jobs in order of arrival; a thread starts when a job finds none
/// idle. They run where the maker of the pool may, wherever the one who submits is bound to. Any thread.
class ThreadPool {
 public:
  ThreadPool(std::string name, unsigned limit);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() { stop(); }
  void submit(Shard::Job job);
  /// Lets running jobs finish, forgets waiting ones, joins the threads.
  void stop();

 private:
  void run();

  const std::string name_;
  const unsigned limit_;
  cpu_set_t processors_{};
  std::mutex mutex_;
  std::condition_variable more_;
  std::deque<Shard::Job> jobs_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

/// The three pools of one process.
class ThreadPools final : public Pools {
 public:
  ThreadPools(unsigned sync_threads, unsigned disk_threads, unsigned work_threads);
  void submit(Pool pool, Shard::Job job) override;
  void stop();

 private:
  ThreadPool sync_;
  ThreadPool disk_;
  ThreadPool work_;
};

}  // namespace pyralog::io::posix
