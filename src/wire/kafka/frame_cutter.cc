#include "wire/kafka/frame_cutter.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/plant.h"

namespace pyralog::wire::kafka {
namespace {

constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kFirstStep = 64u << 10;
/// A frame of the usual megabyte is moved twice, a third of it in all.
constexpr std::size_t kGrowth = 4;

}  // namespace

FrameCutter::FrameCutter(Options options) : options_(options) {
  PYRALOG_ASSERT(options_.read_buffer_bytes >= kLengthBytes);
}

MutableBytes FrameCutter::buffer() {
  if (in_frame_) {
    grow();
    return MutableBytes(frame_).subspan(filled_);
  }
  if (inbox_.empty()) inbox_.resize(options_.read_buffer_bytes);
  if (begin_ != 0) {
    std::copy(inbox_.begin() + static_cast<std::ptrdiff_t>(begin_),
              inbox_.begin() + static_cast<std::ptrdiff_t>(end_), inbox_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  return MutableBytes(inbox_).subspan(end_);
}

void FrameCutter::advance(std::size_t count) {
  if (in_frame_) {
    PYRALOG_ASSERT(count <= frame_.size() - filled_);
    filled_ += count;
  } else {
    PYRALOG_ASSERT(count <= inbox_.size() - end_);
    end_ += count;
  }
}

/// The length is the sender's word: room is made as bytes arrive, not for the whole at once.
void FrameCutter::grow() {
  frame_.resize(room());
}

std::size_t FrameCutter::room() const {
  if (!in_frame_) return 0;
  if (filled_ < frame_.size()) return frame_.size();
  return std::min(frame_bytes_, std::max(kFirstStep, filled_ * kGrowth));
}

Result<std::optional<Bytes>> FrameCutter::next() {
  if (in_frame_) {
    if (filled_ < frame_bytes_) return std::nullopt;
    in_frame_ = false;
    return std::exchange(frame_, Bytes());
  }
  if (end_ - begin_ < kLengthBytes) return std::nullopt;
  const auto length = load_be<std::int32_t>(inbox_.data() + begin_);
  if (length < 0) {
    return fail(Code::kCorrupt, "frame of length " + std::to_string(length) +
                                    "; the peer does not speak Kafka's protocol");
  }
  const auto size = static_cast<std::size_t>(length);
  // A TLS handshake begins with 22 and the major version 3; nobody sends a Kafka frame of 369 MB.
  constexpr std::uint32_t kTlsHandshake = 0x1603;
  if (static_cast<std::uint32_t>(length) >> 16U == kTlsHandshake && size > options_.max_frame_bytes) {
    return fail(Code::kCorrupt, "the client speaks TLS, this listener does not; set "
                                "security.protocol=PLAINTEXT");
  }
  if (size > options_.max_frame_bytes && !PYRALOG_PLANT("wire.any_frame_size")) {
    return fail(Code::kTooLarge, "frame of " + std::to_string(length) +
                                     " bytes, over the limit of " +
                                     std::to_string(options_.max_frame_bytes) +
                                     "; send less at once or raise the limit");
  }
  const std::uint8_t* from = inbox_.data() + begin_ + kLengthBytes;
  const std::size_t here = end_ - begin_ - kLengthBytes;
  if (here >= size) {
    begin_ += kLengthBytes + size;
    return Bytes(from, from + size);
  }
  if (kLengthBytes + size <= inbox_.size()) return std::nullopt;
  frame_.assign(from, from + here);
  frame_bytes_ = size;
  filled_ = here;
  in_frame_ = true;
  begin_ = end_ = 0;
  return std::nullopt;
}

}  // namespace pyralog::wire::kafka
