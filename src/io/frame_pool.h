#pragma once

#include <cstddef>

namespace pyralog::io {

/// Memory for the frames of coroutines. A request makes some twenty of them, of up to 20 KiB, and malloc
/// has only small blocks at hand for a thread; so what one frame leaves is kept for the next of its size.
/// Each thread has its own blocks, up to kMaxKept bytes; a frame may be given back on another thread than
/// the one that took it. Under sanitizers nothing is kept, so they see every use after the end.
class FramePool {
 public:
  static constexpr std::size_t kMaxKept = 512 * 1024;

  [[nodiscard]] static void* take(std::size_t bytes);
  /// `bytes` as in take().
  static void give(void* frame, std::size_t bytes) noexcept;
  /// Bytes that this thread keeps.
  [[nodiscard]] static std::size_t kept();
};

}  // namespace pyralog::io
