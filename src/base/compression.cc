#include "base/compression.h"

#include <isa-l/igzip_lib.h>
#include <lz4frame.h>
#include <snappy.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <string>

#include "base/plant.h"

namespace pyralog::base {
namespace {

/// ISA-L, LZ4 and snappy-java count in 32 bits; a record batch never comes near.
constexpr std::size_t kMaxInput = std::size_t{1} << 30;
/// What `max_bytes` is cut to.
constexpr std::size_t kMaxOutput = std::size_t{1} << 40;
/// The block of snappy-java's output stream.
constexpr std::size_t kXerialBlock = 32 * 1024;
constexpr std::array<std::uint8_t, 8> kXerialMagic = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
constexpr std::size_t kXerialHeader = 16;
/// No element of snappy's format yields more than 64 bytes from 3, or 11 from 2.
constexpr std::size_t kSnappyMaxRatio = 22;

std::unexpected<Error> malformed(Codec codec, std::string_view what) {
  return fail(Code::kCorrupt, std::string(name(codec)) + " data: " + std::string(what));
}
std::unexpected<Error> too_large(Codec codec, std::size_t max_bytes) {
  return fail(Code::kTooLarge, std::string(name(codec)) + " data: inflates to more than " +
                                   std::to_string(max_bytes) + " bytes");
}
std::unexpected<Error> no_memory(Codec codec) {
  return fail(Code::kExhausted, std::string(name(codec)) + ": not enough memory for its tables");
}

/// An output that grows by doubling as bytes really arrive and never beyond `max` + 1; the one byte
/// more tells data that ends at `max` from data that goes on.
class GrowingOutput {
 public:
  GrowingOutput(std::size_t input, std::size_t max)
      : max_(max), bytes_(std::min(std::max<std::size_t>(input * 4, 1024), max + 1)) {}

  [[nodiscard]] std::uint8_t* at() { return bytes_.data() + used_; }
  [[nodiscard]] std::size_t room() const { return bytes_.size() - used_; }
  void took(std::size_t count) { used_ += count; }
  [[nodiscard]] bool over() const { return used_ > max_; }
  /// Makes room if there is none; false once `max` + 1 bytes are used.
  [[nodiscard]] bool grow() {
    if (room() > 0) return true;
    if (bytes_.size() > max_) return false;
    bytes_.resize(std::min(bytes_.size() * 2, max_ + 1));
    return true;
  }
  [[nodiscard]] Bytes take() {
    bytes_.resize(used_);
    return std::move(bytes_);
  }

 private:
  std::size_t max_;
  std::size_t used_ = 0;
  Bytes bytes_;
};

/// ISA-L's levels 1 and 2 look for matches before the first byte of the input, in the state itself, whose
/// pointers differ from run to run: what they make of the same bytes depends on where the state lies.
/// Level 3 finds its matches in another way, and the same bytes become the same bytes.
constexpr std::uint32_t kGzipLevel = 3;

Result<Bytes> gzip_compress(ByteView in) {
  auto stream = std::make_unique<isal_zstream>();
  Bytes level_buffer(ISAL_DEF_LVL3_DEFAULT);
  isal_deflate_init(stream.get());
  stream->gzip_flag = IGZIP_GZIP;
  stream->level = PYRALOG_PLANT("base.gzip_by_address") ? 2 : kGzipLevel;
  stream->level_buf = level_buffer.data();
  stream->level_buf_size = static_cast<std::uint32_t>(level_buffer.size());
  stream->end_of_stream = 1;
  stream->next_in = const_cast<std::uint8_t*>(in.data());
  stream->avail_in = static_cast<std::uint32_t>(in.size());
  Bytes out(in.size() / 2 + 128);
  std::size_t used = 0;
  while (true) {
    stream->next_out = out.data() + used;
    stream->avail_out = static_cast<std::uint32_t>(out.size() - used);
    if (isal_deflate(stream.get()) != COMP_OK) return no_memory(Codec::kGzip);
    used = out.size() - stream->avail_out;
    if (stream->internal_state.state == ZSTATE_END) break;
    out.resize(out.size() * 2);
  }
  out.resize(used);
  return out;
}

Result<Bytes> gzip_decompress(ByteView in, std::size_t max_bytes) {
  if (in.empty()) return malformed(Codec::kGzip, "is empty");
  auto state = std::make_unique<inflate_state>();
  GrowingOutput out(in.size(), max_bytes);
  isal_inflate_init(state.get());
  state->crc_flag = ISAL_GZIP;
  state->next_in = const_cast<std::uint8_t*>(in.data());
  state->avail_in = static_cast<std::uint32_t>(in.size());
  while (true) {
    if (!out.grow()) return too_large(Codec::kGzip, max_bytes);
    const auto room = static_cast<std::uint32_t>(std::min<std::size_t>(out.room(), kMaxInput));
    const std::uint32_t in_before = state->avail_in;
    state->next_out = out.at();
    state->avail_out = room;
    const int status = isal_inflate(state.get());
    if (status != ISAL_DECOMP_OK) return malformed(Codec::kGzip, "a member is damaged");
    const std::uint32_t produced = room - state->avail_out;
    out.took(produced);
    if (out.over()) return too_large(Codec::kGzip, max_bytes);
    if (state->block_state == ISAL_BLOCK_FINISH) {
      if (state->avail_in == 0) return out.take();
      std::uint8_t* const next = state->next_in;
      const std::uint32_t left = state->avail_in;
      isal_inflate_reset(state.get());
      state->crc_flag = ISAL_GZIP;
      state->next_in = next;
      state->avail_in = left;
    } else if (produced == 0 && state->avail_in == in_before) {
      return malformed(Codec::kGzip, "ends in the middle of a member");
    }
  }
}

void append_snappy_block(Bytes& out, ByteView block) {
  const std::size_t at = out.size();
  out.resize(at + 4 + snappy::MaxCompressedLength(block.size()));
  std::size_t length = 0;
  snappy::RawCompress(reinterpret_cast<const char*>(block.data()), block.size(),
                      reinterpret_cast<char*>(out.data() + at + 4), &length);
  store_be(out.data() + at, static_cast<std::uint32_t>(length));
  out.resize(at + 4 + length);
}

Bytes snappy_compress(ByteView in) {
  Bytes out(kXerialMagic.begin(), kXerialMagic.end());
  out.resize(kXerialHeader);
  store_be<std::uint32_t>(out.data() + 8, 1);   // version
  store_be<std::uint32_t>(out.data() + 12, 1);  // oldest version that can read it
  for (std::size_t at = 0; at < in.size(); at += kXerialBlock) {
    append_snappy_block(out, in.subspan(at, std::min(kXerialBlock, in.size() - at)));
  }
  return out;
}

/// Appends the raw snappy data `in` inflated to `out`, which may hold at most `max_bytes`.
Result<void> append_raw_snappy(ByteView in, Bytes& out, std::size_t max_bytes) {
  const char* const data = reinterpret_cast<const char*>(in.data());
  std::size_t length = 0;
  if (!snappy::GetUncompressedLength(data, in.size(), &length) ||
      length > in.size() * kSnappyMaxRatio) {
    return malformed(Codec::kSnappy, "says an impossible length");
  }
  if (length > max_bytes - out.size()) return too_large(Codec::kSnappy, max_bytes);
  const std::size_t at = out.size();
  // The library writes nothing for a length of zero, but wants a place to write to.
  out.resize(at + length);
  char none = 0;
  char* const to = length == 0 ? &none : reinterpret_cast<char*>(out.data() + at);
  if (!snappy::RawUncompress(data, in.size(), to)) {
    return malformed(Codec::kSnappy, "a block is damaged");
  }
  return {};
}

bool starts_xerial_stream(ByteView in) {
  return in.size() >= kXerialHeader &&
         std::equal(kXerialMagic.begin(), kXerialMagic.end(), in.begin());
}

Result<Bytes> snappy_decompress(ByteView in, std::size_t max_bytes) {
  Bytes out;
  if (!starts_xerial_stream(in)) {
    PYRALOG_TRY(append_raw_snappy(in, out, max_bytes));
    return out;
  }
  while (!in.empty()) {
    if (starts_xerial_stream(in)) {
      if (load_be<std::uint32_t>(in.data() + 12) > 1) {
        return malformed(Codec::kSnappy, "needs a newer framing than version 1");
      }
      in = in.subspan(kXerialHeader);
      continue;
    }
    if (in.size() < 4) return malformed(Codec::kSnappy, "ends in the middle of a block");
    const auto length = load_be<std::uint32_t>(in.data());
    if (length > in.size() - 4) return malformed(Codec::kSnappy, "ends in the middle of a block");
    PYRALOG_TRY(append_raw_snappy(in.subspan(4, length), out, max_bytes));
    in = in.subspan(4 + length);
  }
  return out;
}

Result<Bytes> lz4_compress(ByteView in) {
  LZ4F_preferences_t preferences = LZ4F_INIT_PREFERENCES;
  // Kafka's Java client reads independent blocks only, and itself writes blocks of 64 KiB.
  preferences.frameInfo.blockMode = LZ4F_blockIndependent;
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  Bytes out(LZ4F_compressFrameBound(in.size(), &preferences));
  const std::size_t length =
      LZ4F_compressFrame(out.data(), out.size(), in.data(), in.size(), &preferences);
  if (LZ4F_isError(length) != 0) return no_memory(Codec::kLz4);
  out.resize(length);
  return out;
}

struct FreeLz4 {
  void operator()(LZ4F_dctx* context) const { LZ4F_freeDecompressionContext(context); }
};

Result<Bytes> lz4_decompress(ByteView in, std::size_t max_bytes) {
  if (in.empty()) return malformed(Codec::kLz4, "is empty");
  LZ4F_dctx* raw = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&raw, LZ4F_VERSION)) != 0) {
    return no_memory(Codec::kLz4);
  }
  const std::unique_ptr<LZ4F_dctx, FreeLz4> context(raw);
  GrowingOutput out(in.size(), max_bytes);
  while (true) {
    if (!out.grow()) return too_large(Codec::kLz4, max_bytes);
    std::size_t produced = out.room();
    std::size_t consumed = in.size();
    const std::size_t wanted =
        LZ4F_decompress(context.get(), out.at(), &produced, in.data(), &consumed, nullptr);
    if (LZ4F_isError(wanted) != 0) return malformed(Codec::kLz4, LZ4F_getErrorName(wanted));
    out.took(produced);
    if (out.over()) return too_large(Codec::kLz4, max_bytes);
    in = in.subspan(consumed);
    // 0 = a frame has just ended; the context is ready for the next one.
    if (wanted == 0 && in.empty()) return out.take();
    if (produced == 0 && consumed == 0) return malformed(Codec::kLz4, "ends within a frame");
  }
}

Result<Bytes> zstd_compress(ByteView in) {
  Bytes out(ZSTD_compressBound(in.size()));
  const std::size_t length =
      ZSTD_compress(out.data(), out.size(), in.data(), in.size(), ZSTD_CLEVEL_DEFAULT);
  if (ZSTD_isError(length) != 0) return no_memory(Codec::kZstd);
  out.resize(length);
  return out;
}

struct FreeZstd {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

Result<Bytes> zstd_decompress(ByteView in, std::size_t max_bytes) {
  if (in.empty()) return malformed(Codec::kZstd, "is empty");
  const std::unique_ptr<ZSTD_DCtx, FreeZstd> context(ZSTD_createDCtx());
  if (!context) return no_memory(Codec::kZstd);
  // A frame names the window that it wants kept; 8 MiB is what readers must support (RFC 8878),
  // and a window beyond the bound of the output serves nobody.
  constexpr int kLargestWindowLog = 27;
  const int window_log =
      std::clamp(static_cast<int>(std::bit_width(max_bytes)), 23, kLargestWindowLog);
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, window_log);
  GrowingOutput out(in.size(), max_bytes);
  ZSTD_inBuffer from{in.data(), in.size(), 0};
  while (true) {
    if (!out.grow()) return too_large(Codec::kZstd, max_bytes);
    ZSTD_outBuffer to{out.at(), out.room(), 0};
    const std::size_t in_before = from.pos;
    const std::size_t wanted = ZSTD_decompressStream(context.get(), &to, &from);
    if (ZSTD_isError(wanted) != 0) {
      const ZSTD_ErrorCode why = ZSTD_getErrorCode(wanted);
      if (why == ZSTD_error_memory_allocation) return no_memory(Codec::kZstd);
      if (why == ZSTD_error_frameParameter_windowTooLarge && window_log < kLargestWindowLog) {
        return too_large(Codec::kZstd, max_bytes);  // with a greater bound it may be sound
      }
      return malformed(Codec::kZstd, ZSTD_getErrorName(wanted));
    }
    out.took(to.pos);
    if (out.over()) return too_large(Codec::kZstd, max_bytes);
    if (wanted == 0 && from.pos == from.size) return out.take();
    if (to.pos == 0 && from.pos == in_before) return malformed(Codec::kZstd, "ends within a frame");
  }
}

}  // namespace

const char* name(Codec codec) {
  switch (codec) {
    case Codec::kNone:
      return "none";
    case Codec::kGzip:
      return "gzip";
    case Codec::kSnappy:
      return "snappy";
    case Codec::kLz4:
      return "lz4";
    case Codec::kZstd:
      return "zstd";
  }
  return "unknown";
}

Result<Bytes> compress(Codec codec, ByteView in) {
  if (in.size() > kMaxInput) return too_large(codec, kMaxInput);
  switch (codec) {
    case Codec::kNone:
      return Bytes(in.begin(), in.end());
    case Codec::kGzip:
      return gzip_compress(in);
    case Codec::kSnappy:
      return snappy_compress(in);
    case Codec::kLz4:
      return lz4_compress(in);
    case Codec::kZstd:
      return zstd_compress(in);
  }
  return fail(Code::kUnsupported, "compression codec is none of Kafka's five");
}

Result<Bytes> decompress(Codec codec, ByteView in, std::size_t max_bytes) {
  if (in.size() > kMaxInput) return too_large(codec, kMaxInput);
  max_bytes = std::min(max_bytes, kMaxOutput);
  if (PYRALOG_PLANT("base.unbounded_inflate")) max_bytes = kMaxOutput;
  switch (codec) {
    case Codec::kNone:
      if (in.size() > max_bytes) return too_large(codec, max_bytes);
      return Bytes(in.begin(), in.end());
    case Codec::kGzip:
      return gzip_decompress(in, max_bytes);
    case Codec::kSnappy:
      return snappy_decompress(in, max_bytes);
    case Codec::kLz4:
      return lz4_decompress(in, max_bytes);
    case Codec::kZstd:
      return zstd_decompress(in, max_bytes);
  }
  return fail(Code::kUnsupported, "compression codec is none of Kafka's five");
}

}  // namespace pyralog::base
