// How often a second the disk under a folder makes appended bytes durable: each thread appends
// --bytes to a file of its own, calls fdatasync, and does it again; with --direct 1 past the page cache, in
// whole blocks. Prints one JSON line.

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "load.h"

namespace {

using namespace pyralog::bench;

struct Options {
  std::string folder;
  size_t bytes = 16'384;
  unsigned threads = 1;
  double seconds = 1;
  bool direct = false;
};

/// Rounds that this thread has done when `end` has come.
uint64_t append_and_sync(const Options& options, unsigned thread, Clock::time_point end) {
  const std::string path = options.folder + "/fsync_probe." + std::to_string(thread);
  const int past_cache = options.direct ? O_DIRECT : 0;
  const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC | past_cache, 0600);
  if (fd < 0) die_of_errno("open " + path);
  ::unlink(path.c_str());  // gone with the descriptor, however this ends
  constexpr size_t kBlock = 4096;
  const size_t length = options.direct ? (options.bytes + kBlock - 1) / kBlock * kBlock : options.bytes;
  const std::string space = filler(length + kBlock, thread);
  const size_t skip = kBlock - reinterpret_cast<uintptr_t>(space.data()) % kBlock;
  const std::string_view bytes(space.data() + (options.direct ? skip : 0), length);
  uint64_t rounds = 0;
  for (; Clock::now() < end; ++rounds) {
    if (::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      die_of_errno("write " + path);
    }
    if (::fdatasync(fd) != 0) die_of_errno("fdatasync " + path);
  }
  ::close(fd);
  return rounds;
}

void set(Options& options, std::string_view name, std::string_view value) {
  if (name == "--folder") {
    options.folder = value;
  } else if (name == "--bytes") {
    options.bytes = parse<size_t>(value, name);
  } else if (name == "--threads") {
    options.threads = parse<unsigned>(value, name);
  } else if (name == "--direct") {
    options.direct = parse<int>(value, name) != 0;
  } else if (name == "--seconds") {
    options.seconds = parse<double>(value, name);
  } else {
    die("unknown option " + std::string(name));
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (const auto& [name, value] : option_pairs(argc, argv)) set(options, name, value);
  if (options.folder.empty()) die("--folder is needed");
  const auto begin = Clock::now();
  const auto end = begin + to_duration(options.seconds);
  std::atomic<uint64_t> rounds{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.threads; ++i) {
    threads.emplace_back([&, i] { rounds += append_and_sync(options, i, end); });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("{\"syncs_per_s\": %.1f, \"bytes\": %zu, \"threads\": %u}\n",
              static_cast<double>(rounds.load()) / to_seconds(Clock::now() - begin), options.bytes,
              options.threads);
  return 0;
}
