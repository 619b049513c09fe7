#include "peer/frame.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "base/crc32c.h"
#include "base/plant.h"

namespace pyralog::peer {
namespace {

constexpr std::size_t kChecked = kHeaderBytes - 4;

}  // namespace

RawHeader encode(const Header& header) {
  RawHeader raw{};
  store_be(raw.data(), header.body_bytes);
  store_be(raw.data() + 4, header.kind);
  store_be(raw.data() + 6, header.version);
  store_be(raw.data() + 8, header.correlation);
  raw[16] = header.flags;
  store_be(raw.data() + kChecked, crc32c(ByteView(raw).first(kChecked)));
  return raw;
}

Result<Header> parse_header(const RawHeader& raw) {
  if (load_be<std::uint32_t>(raw.data() + kChecked) != crc32c(ByteView(raw).first(kChecked))) {
    return fail(Code::kCorrupt,
                "a frame's header fails its checksum; is the other side a pyralog peer?");
  }
  if ((raw[16] & ~(kReply | kFailed)) != 0 || raw[17] != 0 || raw[18] != 0 || raw[19] != 0) {
    return fail(Code::kUnsupported,
                "a frame has flags that this version does not know; upgrade this node");
  }
  return Header{load_be<std::uint32_t>(raw.data()), load_be<std::uint16_t>(raw.data() + 4),
                load_be<std::int16_t>(raw.data() + 6), load_be<std::uint64_t>(raw.data() + 8),
                raw[16]};
}

std::size_t FrameReader::body_and_mac() const {
  return header_->body_bytes + sizeof(Mac);
}

void FrameReader::new_block(std::size_t need) {
  const std::size_t here = end_ - begin_;
  const std::size_t capacity = std::max(options_.block_bytes, need);
  // Not filled with zeros: it is read into, and only as far as bytes come.
  auto block = std::make_shared_for_overwrite<std::uint8_t[]>(capacity);
  if (here != 0) std::copy_n(block_.get() + begin_, here, block.get());
  block_ = std::move(block);
  capacity_ = capacity;
  begin_ = 0;
  end_ = here;
}

MutableBytes FrameReader::buffer() {
  if (header_alone_) return MutableBytes(raw_).subspan(raw_filled_);
  const std::size_t need = header_ ? body_and_mac() : kHeaderBytes;
  if (begin_ == end_ && block_ != nullptr && capacity_ == options_.block_bytes &&
      (block_.use_count() == 1 || PYRALOG_PLANT("peer.reuse_block_in_use"))) {
    // Nobody else has a part of it any more, and what they read is over.
    std::atomic_thread_fence(std::memory_order_acquire);
    begin_ = end_ = 0;
  }
  if (capacity_ - begin_ < need) new_block(need);
  return {block_.get() + end_, capacity_ - end_};
}

void FrameReader::advance(std::size_t count) {
  if (header_alone_) {
    PYRALOG_ASSERT(count <= kHeaderBytes - raw_filled_);
    raw_filled_ += count;
    return;
  }
  PYRALOG_ASSERT(count <= capacity_ - end_);
  end_ += count;
}

Result<bool> FrameReader::take_header() {
  if (header_alone_) {
    if (raw_filled_ < kHeaderBytes) return false;
    header_alone_ = false;
  } else {
    if (end_ - begin_ < kHeaderBytes) return false;
    std::copy_n(block_.get() + begin_, kHeaderBytes, raw_.begin());
    begin_ += kHeaderBytes;
  }
  PYRALOG_ASSIGN(const Header header, parse_header(raw_));
  if (header.body_bytes > options_.max_body_bytes && !PYRALOG_PLANT("peer.any_frame_size")) {
    return fail(Code::kTooLarge, "a frame of " + std::to_string(header.body_bytes) +
                                     " bytes, over the limit of " +
                                     std::to_string(options_.max_body_bytes) +
                                     "; all nodes must have the same limits");
  }
  header_ = header;
  return true;
}

Result<std::optional<Frame>> FrameReader::next() {
  if (!header_) {
    PYRALOG_ASSIGN(const bool whole, take_header());
    if (!whole) return std::nullopt;
  }
  const std::size_t need = body_and_mac();
  if (end_ - begin_ < need) return std::nullopt;
  Frame frame{*header_, raw_, {}, {}};
  frame.body = SharedBytes(block_, ByteView(block_.get() + begin_, header_->body_bytes));
  std::copy_n(block_.get() + begin_ + header_->body_bytes, frame.mac.size(), frame.mac.begin());
  begin_ += need;
  header_.reset();
  // What follows a long frame is mostly a long frame: its body goes straight where it stays.
  header_alone_ = begin_ == end_ && need > options_.block_bytes;
  raw_filled_ = 0;
  if (header_alone_) {
    block_.reset();
    capacity_ = begin_ = end_ = 0;
  }
  return frame;
}

}  // namespace pyralog::peer
