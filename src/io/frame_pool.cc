#include "io/frame_pool.h"

#include <array>
#include <new>

#include "base/plant.h"

namespace pyralog::io {

namespace {

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define PYRALOG_FRAMES_FROM_MALLOC 1
#endif
#endif
#if defined(PYRALOG_FRAMES_FROM_MALLOC)
constexpr bool kKeeps = false;
#else
constexpr bool kKeeps = true;
#endif

constexpr std::size_t kStep = 64;
constexpr std::size_t kLargest = 32 * 1024;  ///< larger ones are rare, and would fill the pool

struct Free {
  Free* next;
};

/// Blocks by size, in steps.
struct Kept {
  std::array<Free*, kLargest / kStep + 1> lists{};
  std::size_t bytes = 0;
  bool over = false;  ///< the thread is ending: nothing is kept any more

  void clear() noexcept {
    for (Free*& list : lists) {
      while (list != nullptr) {
        Free* const block = list;
        list = block->next;
        ::operator delete(block);
      }
    }
    bytes = 0;
  }

  Kept() = default;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    over = true;
    clear();
  }
};

thread_local Kept kept_here;

constexpr std::size_t steps_of(std::size_t bytes) { return (bytes + kStep - 1) / kStep; }

}  // namespace

void* FramePool::take(std::size_t bytes) {
  if (!kKeeps || bytes > kLargest) return ::operator new(bytes);
  Kept& kept = kept_here;
  const std::size_t steps = steps_of(bytes);
  Free* const block = kept.lists[steps];
  if (block == nullptr) return ::operator new(steps * kStep);
  kept.lists[steps] = block->next;
  kept.bytes -= steps * kStep;
  return block;
}

void FramePool::give(void* frame, std::size_t bytes) noexcept {
  const std::size_t size = steps_of(bytes) * kStep;
  Kept& kept = kept_here;
  if (!kKeeps || bytes > kLargest || kept.over) {
    ::operator delete(frame);
    return;
  }
  if (kept.bytes + size > kMaxKept && !PYRALOG_PLANT("io.keep_every_frame")) {
    if (PYRALOG_PLANT("io.keep_the_first_frames")) {
      ::operator delete(frame);
      return;
    }
    // Much of it may be of sizes that nobody asks for any more; those that are in use come back soon.
    kept.clear();
  }
  kept.lists[size / kStep] = new (frame) Free{kept.lists[size / kStep]};
  kept.bytes += size;
}

std::size_t FramePool::kept() { return kept_here.bytes; }

}  // namespace pyralog::io
