#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "peer/auth.h"

namespace pyralog::peer {

/// Stands before every frame's body; network order:
/// u32 body bytes, u16 kind, u16 version, u64 correlation, u8 flags, three zero bytes, u32 CRC-32C
/// of what is before it. The checksum tells a stream that is no peer's; who sent a frame, its code
/// says.
struct Header {
  std::uint32_t body_bytes = 0;
  std::uint16_t kind = 0;
  std::int16_t version = 0;
  std::uint64_t correlation = 0;  ///< of a request and its reply; 0: nobody answers
  std::uint8_t flags = 0;
  friend bool operator==(const Header&, const Header&) = default;
};
inline constexpr std::size_t kHeaderBytes = 24;
inline constexpr std::uint8_t kReply = 1;   ///< answers the request of this correlation
inline constexpr std::uint8_t kFailed = 2;  ///< with kReply: the body is a Refusal

using RawHeader = std::array<std::uint8_t, kHeaderBytes>;
[[nodiscard]] RawHeader encode(const Header& header);
/// kCorrupt: no header of ours; kUnsupported: flags of another version.
[[nodiscard]] Result<Header> parse_header(const RawHeader& raw);

/// One frame of an authenticated connection. The body is a view into the block that was read: who
/// keeps a small part of it for long makes a copy, else the whole block stays.
struct Frame {
  Header header;
  RawHeader raw{};
  SharedBytes body;
  Mac mac{};
};

/// Cuts a stream into frames. Pure; one connection's. Read the stream into buffer(), say so by
/// advance(), take frames by next() until it has none. What is in one block is not copied; of a
/// frame that is longer than a block what came along with the frame before it is, once, and of a
/// row of such frames nothing.
class FrameReader {
 public:
  struct Options {
    std::size_t max_body_bytes = 32u << 20;
    std::size_t block_bytes = 128u << 10;
  };
  explicit FrameReader(Options options) : options_(options) {}

  /// Where the next bytes of the stream belong; never empty once next() has returned none.
  [[nodiscard]] MutableBytes buffer();
  void advance(std::size_t count);
  /// kCorrupt, kUnsupported, kTooLarge: the stream cannot go on.
  [[nodiscard]] Result<std::optional<Frame>> next();

 private:
  [[nodiscard]] std::size_t body_and_mac() const;
  [[nodiscard]] Result<bool> take_header();
  void new_block(std::size_t need);

  Options options_;
  std::shared_ptr<std::uint8_t[]> block_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;  ///< unread part of the block
  std::size_t end_ = 0;
  std::optional<Header> header_;  ///< of the frame that is under way
  RawHeader raw_{};
  bool header_alone_ = false;  ///< it is read by itself: its body will have a block of its own
  std::size_t raw_filled_ = 0;
};

}  // namespace pyralog::peer
