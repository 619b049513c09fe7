#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/shard.h"
#include "io/task.h"

namespace pyralog::io::posix {

struct Options {
  unsigned shards = 1;
  unsigned sync_threads = 16;  ///< started as needed, as are the others
  unsigned disk_threads = 4;
  unsigned work_threads = 2;
  bool pin = false;  ///< bind shard i to the i-th processor that this process may use
  bool follow_readers = true;  ///< shards that are not bound stay beside readers on this machine
};

/// The real shards and pools of one process. Made, started and stopped by one thread that is no
/// shard.
class Runtime {
 public:
  explicit Runtime(Options options);
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  /// Stops.
  ~Runtime();
  /// Starts the shards' threads, with all signals blocked in them; SIGPIPE is ignored from here on.
  /// kExhausted if the system gives no event descriptors.
  [[nodiscard]] Result<void> start();
  [[nodiscard]] const Shards& shards() const;
  [[nodiscard]] Shard& shard(unsigned index = 0) const { return *shards().at(index); }
  /// Ends the shards after what they are running, then the pools, and destroys the coroutines that
  /// have not finished. Whoever wants them to finish joins them first.
  void stop();

  /// Runs `make()`, a Task, on the shard and waits for its value; from a thread that is no shard.
  template <typename F>
  auto run(F make, unsigned shard_index = 0);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Raises this process's limit of open files as far as it may; returns the new limit.
[[nodiscard]] Result<std::uint64_t> raise_open_file_limit();

/// Keeps these signals from ending the process, in this thread and those that it starts later, so
/// that next_signal can take them. Call it first in main.
void block_signals(const std::vector<int>& signals);

/// The next of these signals, which must be blocked. On any shard; one waiter at a time.
[[nodiscard]] Task<Result<int>> next_signal(std::vector<int> signals);

template <typename F>
auto Runtime::run(F make, unsigned shard_index) {
  using Value = typename std::invoke_result_t<F>::Value;
  std::promise<Value> promise;
  auto future = promise.get_future();
  spawn_on(shard(shard_index),
           [make = std::move(make), promise = std::move(promise)]() mutable -> Task<void> {
             if constexpr (std::is_void_v<Value>) {
               co_await make();
               promise.set_value();
             } else {
               promise.set_value(co_await make());
             }
           });
  return future.get();
}

}  // namespace pyralog::io::posix
