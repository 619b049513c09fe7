#include "io/frame_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

namespace pyralog::io {
namespace {

/// Whether anything is kept here; not under sanitizers.
bool keeps() {
  FramePool::give(FramePool::take(100), 100);
  return FramePool::kept() > 0;
}

void on_a_new_thread(void (*work)()) { std::thread(work).join(); }

TEST(FramePool, gives_what_was_left_to_the_next_of_the_size) {
  on_a_new_thread([] {
    if (!keeps()) return;
    void* const frame = FramePool::take(18'344);
    std::memset(frame, 1, 18'344);
    FramePool::give(frame, 18'344);
    const std::size_t kept = FramePool::kept();
    EXPECT_GE(kept, 18'344U);
    void* const other = FramePool::take(9'000);
    EXPECT_EQ(FramePool::kept(), kept) << "of another size";
    void* const again = FramePool::take(18'340);
    EXPECT_EQ(again, frame);
    EXPECT_LT(FramePool::kept(), kept - 18'000);
    FramePool::give(other, 9'000);
    FramePool::give(again, 18'340);
  });
}

TEST(FramePool, keeps_no_more_than_its_bound) {
  on_a_new_thread([] {
    std::vector<void*> frames;
    for (int i = 0; i < 1'000; ++i) frames.push_back(FramePool::take(4'000));
    for (void* const frame : frames) FramePool::give(frame, 4'000);
    EXPECT_LE(FramePool::kept(), FramePool::kMaxKept);
    frames.clear();
    // What is too large for it is not kept at all.
    const std::size_t kept = FramePool::kept();
    FramePool::give(FramePool::take(100'000), 100'000);
    EXPECT_EQ(FramePool::kept(), kept);
  });
}

TEST(FramePool, sizes_that_nobody_asks_for_any_more_keep_no_others_out) {
  on_a_new_thread([] {
    if (!keeps()) return;
    std::vector<void*> frames;
    for (int i = 0; i < 200; ++i) frames.push_back(FramePool::take(4'000));
    for (void* const frame : frames) FramePool::give(frame, 4'000);
    // Whatever room was left, the second of these finds none.
    for (int i = 0; i < 100; ++i) {
      void* const one = FramePool::take(10'000);
      void* const two = FramePool::take(10'000);
      FramePool::give(one, 10'000);
      FramePool::give(two, 10'000);
    }
    FramePool::give(FramePool::take(9'000), 9'000);
    const std::size_t kept = FramePool::kept();
    void* const frame = FramePool::take(9'000);
    EXPECT_LE(FramePool::kept() + 9'000, kept) << "it was kept";
    FramePool::give(frame, 9'000);
  });
}

TEST(FramePool, takes_back_what_another_thread_took) {
  static void* frame = nullptr;
  on_a_new_thread([] { frame = FramePool::take(1'000); });
  on_a_new_thread([] {
    FramePool::give(frame, 1'000);
    if (!keeps()) return;
    void* const again = FramePool::take(1'000);
    EXPECT_EQ(again, frame);
    FramePool::give(again, 1'000);
  });
}

}  // namespace
}  // namespace pyralog::io
