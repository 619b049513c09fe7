// Issues ids until it is killed and reports each range on standard output as "FIRST COUNT", after
// it was issued: what the parent has read was certainly handed out.
//
//   obelisk_worker FILE MODE LEASE THREADS [COUNT]
//
// Modes strict, lease, relaxed, scarab. Prints "open" once the file is open. With COUNT it ends
// after so many ranges per thread. It ends with 1 and a line on standard error when no more can be
// issued.

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "io/posix/runtime.h"
#include "obelisk/scarab_generator.h"
#include "obelisk/sequencer.h"

namespace {

using namespace pyralog;

struct Args {
  std::string path;
  std::string mode;
  std::uint64_t lease = 0;
  unsigned threads = 1;
  std::uint64_t ranges = UINT64_MAX;
};

/// One write per line: lines of several threads don't mix in a pipe.
void report(std::uint64_t first, std::uint64_t count) {
  char line[64];
  const int length =
      std::snprintf(line, sizeof line, "%llu %llu\n", static_cast<unsigned long long>(first),
                    static_cast<unsigned long long>(count));
  if (write(STDOUT_FILENO, line, static_cast<std::size_t>(length)) != length) std::_Exit(3);
}

int fail_with(const Error& error) {
  std::fprintf(stderr, "obelisk_worker: %s\n", error.message.c_str());
  return 1;
}
/// So many times in vain, and whoever issues asks what is wrong.
constexpr unsigned kPatience = 1u << 16;

void say_open() {
  if (write(STDOUT_FILENO, "open\n", 5) != 5) std::_Exit(3);
}

/// Runs `body(thread)` on so many threads of their own.
template <typename F>
void on_threads(unsigned count, F body) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (auto& thread : threads) thread.join();
}

io::Task<void> strict_caller(obelisk::ObeliskSequencer& sequencer, std::uint64_t ranges) {
  for (std::uint64_t i = 0; i < ranges; ++i) {
    const auto first = co_await sequencer.take();
    if (!first) std::_Exit(fail_with(first.error()));
    report(*first, 1);
  }
}

int run_counter(io::posix::Runtime& runtime, const Args& args, obelisk::Mode mode) {
  obelisk::Header header;
  header.mode = mode;
  auto opened = runtime.run([&] {
    return obelisk::ObeliskSequencer::open_or_create(args.path, header, {.lease = args.lease});
  });
  if (!opened) return fail_with(opened.error());
  obelisk::ObeliskSequencer& sequencer = **opened;
  say_open();
  if (mode == obelisk::Mode::kStrict) {
    runtime.run([&]() -> io::Task<void> {
      io::TaskGroup callers;
      for (unsigned i = 0; i < args.threads; ++i) {
        callers.spawn(strict_caller(sequencer, args.ranges));
      }
      co_await callers.join();
    });
  } else {
    on_threads(args.threads, [&](unsigned thread) {
      const std::uint64_t count = 1 + thread;
      unsigned in_vain = 0;
      for (std::uint64_t i = 0; i < args.ranges;) {
        auto first = sequencer.try_take(count);
        if (!first && ++in_vain == kPatience) {
          first = runtime.run([&] { return sequencer.take(count); });
          if (!first) std::_Exit(fail_with(first.error()));
        }
        if (!first) {
          std::this_thread::yield();
          continue;
        }
        in_vain = 0;
        report(*first, count);
        ++i;
      }
    });
  }
  runtime.run([&] { return sequencer.close(); });
  return 0;
}

int run_scarab(io::posix::Runtime& runtime, const Args& args) {
  auto opened =
      runtime.run([&] { return obelisk::ScarabGenerator::open_or_create(args.path, 1023); });
  if (!opened) return fail_with(opened.error());
  obelisk::ScarabGenerator& generator = **opened;
  say_open();
  on_threads(args.threads, [&](unsigned thread) {
    unsigned in_vain = 0;
    for (std::uint64_t i = 0; i < args.ranges;) {
      auto ids = generator.try_next(1 + thread);
      if (!ids && ++in_vain == kPatience) {
        ids = runtime.run([&] { return generator.next(1 + thread); });
        if (!ids) std::_Exit(fail_with(ids.error()));
      }
      if (!ids) {
        std::this_thread::yield();
        continue;
      }
      in_vain = 0;
      for (std::uint64_t n = 0; n < ids->size(); ++n) report((*ids)[n].value, 1);
      ++i;
    }
  });
  runtime.run([&] { return generator.close(); });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5 || argc > 6) {
    std::fprintf(stderr, "usage: obelisk_worker FILE MODE LEASE THREADS [COUNT]\n");
    return 2;
  }
  Args args{argv[1], argv[2], std::strtoull(argv[3], nullptr, 10),
            static_cast<unsigned>(std::strtoul(argv[4], nullptr, 10))};
  if (argc == 6) args.ranges = std::strtoull(argv[5], nullptr, 10);
  io::posix::Runtime runtime({.shards = 1});
  if (const auto started = runtime.start(); !started) return fail_with(started.error());
  int code = 1;
  if (args.mode == "scarab") {
    code = run_scarab(runtime, args);
  } else if (const auto mode = obelisk::parse_mode(args.mode)) {
    code = run_counter(runtime, args, *mode);
  } else {
    code = fail_with(mode.error());
  }
  runtime.stop();
  return code;
}
