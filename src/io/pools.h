#pragma once

#include <coroutine>
#include <functional>
#include <optional>
#include <type_traits>

#include "base/result.h"
#include "io/shard.h"

namespace pyralog::io {

enum class Pool : std::uint8_t {
  kSync,  ///< fsync only
  kDisk,  ///< cold reads, open, unlink
  kWork,  ///< compaction, inflation, SQL
};

/// The node's three bounded thread pools, which never wait for each other. A job may block its
/// thread; it touches only what it owns.
class Pools {
 public:
  virtual ~Pools() = default;
  virtual void submit(Pool pool, Shard::Job job) = 0;
};

/// Runs the plain function `f` in `pool` and comes back to the calling shard with its value.
template <typename F>
auto run_in(Pool pool, F f) -> Task<std::invoke_result_t<F>> {
  using R = std::invoke_result_t<F>;
  struct Awaiter {
    Pool pool;
    F f;
    std::optional<R> value{};
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
      Shard& home = Shard::current();
      home.pools().submit(pool, [this, h, &home] {
        value.emplace(f());
        home.post([h] { h.resume(); });
      });
    }
    R await_resume() { return std::move(*value); }
  };
  co_return co_await Awaiter{pool, std::move(f)};
}

}  // namespace pyralog::io
