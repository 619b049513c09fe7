// What a number costs that is never issued twice: an Obelisk in its modes, beside a bare atomic and
// beside a counter that writes and syncs each value. Google Benchmark; the files are made in the
// folder BENCH_FOLDER (default: the working directory).

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "io/posix/runtime.h"
#include "load.h"
#include "obelisk/scarab_generator.h"
#include "obelisk/sequencer.h"

namespace {

using namespace pyralog;

std::string fresh_path(const std::string& name) {
  const char* folder = std::getenv("BENCH_FOLDER");
  std::string path = std::string(folder == nullptr ? "." : folder) + "/" + name;
  ::unlink(path.c_str());
  ::unlink((path + ".lock").c_str());
  return path;
}

template <typename T>
T must(Result<T> result) {
  if (!result) bench::die(result.error().message);
  return std::move(*result);
}

/// A shard and a sequencer in a fresh file on it.
class Opened {
 public:
  Opened(obelisk::Mode mode, std::uint64_t lease) {
    if (const auto started = runtime_.start(); !started) bench::die(started.error().message);
    obelisk::Header header;
    header.mode = mode;
    const std::string path = fresh_path(std::string("ids_bench.") + obelisk::name(mode));
    sequencer_ = must(runtime_.run(
        [&] { return obelisk::ObeliskSequencer::open_or_create(path, header, {.lease = lease}); }));
  }
  ~Opened() {
    runtime_.run([&] { return sequencer_->close(); });
    runtime_.stop();
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  [[nodiscard]] obelisk::ObeliskSequencer& sequencer() { return *sequencer_; }
  [[nodiscard]] io::posix::Runtime& runtime() { return runtime_; }

 private:
  io::posix::Runtime runtime_{{.shards = 1}};
  std::unique_ptr<obelisk::ObeliskSequencer> sequencer_;
};

void count_ids(benchmark::State& state, std::int64_t ids) {
  state.SetItemsProcessed(ids);
}

std::atomic<std::uint64_t> bare{0};
void bare_atomic(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(bare.fetch_add(1));
  count_ids(state, state.iterations());
}

/// The counter that everybody writes first.
void fsync_per_id(benchmark::State& state) {
  const std::string path = fresh_path("ids_bench.fsync");
  const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) bench::die_of_errno("open " + path);
  std::uint64_t value = 0;
  for (auto _ : state) {
    ++value;
    if (::pwrite(fd, &value, sizeof value, 0) != sizeof value || ::fdatasync(fd) != 0) {
      bench::die_of_errno(path);
    }
  }
  ::close(fd);
  ::unlink(path.c_str());
  count_ids(state, state.iterations());
}

// A lease lasts for many times the slowest sync.
constexpr std::uint64_t kLease = std::uint64_t{1} << 24;
std::unique_ptr<Opened> leased;  // shared by the threads of a benchmark
void open_leased(const benchmark::State&) {
  leased = std::make_unique<Opened>(obelisk::Mode::kLease, kLease);
}
void close_leased(const benchmark::State&) {
  leased.reset();
}

void lease(benchmark::State& state) {
  obelisk::ObeliskSequencer& sequencer = leased->sequencer();
  std::int64_t waits = 0;
  for (auto _ : state) {
    while (true) {
      const auto value = sequencer.try_take();
      if (value) {
        benchmark::DoNotOptimize(*value);
        break;
      }
      ++waits;
      std::this_thread::yield();
    }
  }
  count_ids(state, state.iterations());
  state.counters["waits"] = benchmark::Counter(static_cast<double>(waits));
}

io::Task<void> strict_caller(obelisk::ObeliskSequencer& sequencer, std::int64_t ids) {
  for (std::int64_t i = 0; i < ids; ++i) {
    const auto value = co_await sequencer.take();
    if (!value) bench::die(value.error().message);
  }
}

/// `range(0)` callers, each asking for its next id when it has the last.
void strict(benchmark::State& state) {
  Opened opened(obelisk::Mode::kStrict, 1);
  const std::int64_t callers = state.range(0);
  constexpr std::int64_t kEach = 16;
  for (auto _ : state) {
    opened.runtime().run([&]() -> io::Task<void> {
      io::TaskGroup group;
      for (std::int64_t i = 0; i < callers; ++i) {
        group.spawn(strict_caller(opened.sequencer(), kEach));
      }
      co_await group.join();
    });
  }
  count_ids(state, state.iterations() * callers * kEach);
}

BENCHMARK(bare_atomic)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(fsync_per_id)->UseRealTime();
BENCHMARK(lease)->ThreadRange(1, 2)->UseRealTime()->Setup(open_leased)->Teardown(close_leased);
BENCHMARK(strict)->Arg(1)->Arg(64)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
