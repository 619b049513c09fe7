#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"

namespace pyralog::wire::kafka {

/// Cuts a byte stream into frames (four bytes of length, then the frame). Pure; belongs to one
/// connection. Read the stream into buffer(), say so by advance(), take frames by next() until it
/// has none. Memory: read_buffer_bytes, and for a longer frame at most four times what of it has
/// arrived or 64 KiB, whichever is more. The payload of a long frame is not copied again.
class FrameCutter {
 public:
  struct Options {
    std::size_t max_frame_bytes = 100u << 20;   ///< without the length prefix
    std::size_t read_buffer_bytes = 16u << 10;  ///< at least 4
  };
  explicit FrameCutter(Options options);

  /// Where the next bytes of the stream belong; never empty once next() has returned none. Valid
  /// until the next call.
  [[nodiscard]] MutableBytes buffer();
  /// `count` bytes have been put there.
  void advance(std::size_t count);
  /// The next whole frame without its length prefix; none if more bytes are needed. kCorrupt for a
  /// negative length, kTooLarge for one over the limit: the stream cannot go on after that.
  [[nodiscard]] Result<std::optional<Bytes>> next();

  /// Bytes of the long frame whose beginning has arrived; 0 if there is none.
  [[nodiscard]] std::size_t frame_under_way() const { return in_frame_ ? frame_bytes_ : 0; }

  /// Bytes of that frame that have not arrived.
  [[nodiscard]] std::size_t missing() const { return in_frame_ ? frame_bytes_ - filled_ : 0; }

  /// Bytes that buffer() makes room for in all for that frame: they can be had from a budget
  /// before.
  [[nodiscard]] std::size_t room() const;

  /// True if no part of a frame has arrived: the peer may close here.
  [[nodiscard]] bool at_boundary() const { return !in_frame_ && begin_ == end_; }

 private:
  void grow();

  Options options_;
  Bytes inbox_;
  std::size_t begin_ = 0;  ///< unread part of inbox_
  std::size_t end_ = 0;
  bool in_frame_ = false;  ///< a frame longer than the inbox is under way, in frame_
  Bytes frame_;
  std::size_t frame_bytes_ = 0;  ///< that the whole frame will have
  std::size_t filled_ = 0;       ///< that have arrived
};

}  // namespace pyralog::wire::kafka
