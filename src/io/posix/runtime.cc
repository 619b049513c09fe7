#include "io/posix/runtime.h"

#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>

#include "io/posix/errors.h"
#include "io/posix/posix_shard.h"

namespace pyralog::io::posix {

struct Runtime::State {
  Options options;
  ThreadPools pools;
  std::vector<std::unique_ptr<PosixShard>> owned;
  Shards shards;
  bool running = false;
  explicit State(const Options& o)
      : options(o), pools(o.sync_threads, o.disk_threads, o.work_threads) {}
};

namespace {
std::uint64_t random_seed() {
  std::uint64_t seed = 0;
  if (::getrandom(&seed, sizeof seed, 0) != sizeof seed) {
    seed = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }
  return seed;
}

/// The n-th processor that this process may use, going round.
int processor_of(unsigned n) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return -1;
  unsigned left = n % static_cast<unsigned>(CPU_COUNT(&set));
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &set) && left-- == 0) return cpu;
  }
  return -1;
}

/// All signals are blocked in threads that are started while this lives.
class BlockAllSignals {
 public:
  BlockAllSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockAllSignals(const BlockAllSignals&) = delete;
  BlockAllSignals& operator=(const BlockAllSignals&) = delete;
  ~BlockAllSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};
}  // namespace

Runtime::Runtime(Options options) : state_(std::make_unique<State>(options)) {
  PYRALOG_ASSERT(options.shards > 0);
  for (unsigned i = 0; i < options.shards; ++i) {
    state_->owned.push_back(
        std::make_unique<PosixShard>(state_.get(), i, options.shards, state_->pools, random_seed()));
    state_->shards.push_back(state_->owned.back().get());
  }
}

Runtime::~Runtime() { stop(); }

Result<void> Runtime::start() {
  PYRALOG_ASSERT(!state_->running);
  ::signal(SIGPIPE, SIG_IGN);
  for (const auto& shard : state_->owned) {
    if (!shard->open_wake()) return fail(system_error(errno, "runtime", "eventfd"));
  }
  const BlockAllSignals scope;
  for (unsigned i = 0; i < state_->options.shards; ++i) {
    state_->owned[i]->start(state_->options.pin ? processor_of(i) : -1,
                            state_->options.follow_readers);
  }
  state_->running = true;
  return {};
}

const Shards& Runtime::shards() const { return state_->shards; }

void Runtime::stop() {
  if (!state_->running) return;
  state_->running = false;
  for (const auto& shard : state_->owned) shard->request_stop();
  for (const auto& shard : state_->owned) shard->join();
  state_->pools.stop();
  for (auto it = state_->owned.rbegin(); it != state_->owned.rend(); ++it) (*it)->tear_down();
}

Result<std::uint64_t> raise_open_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return fail(system_error(errno, "limit of open files", "getrlimit"));
  }
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) {
      return fail(system_error(errno, "limit of open files", "setrlimit"));
    }
  }
  return static_cast<std::uint64_t>(limit.rlim_cur);
}

void block_signals(const std::vector<int>& signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : signals) sigaddset(&set, number);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace pyralog::io::posix
