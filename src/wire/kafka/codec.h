#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "model/fundamental.h"

namespace pyralog::wire::kafka {

/// A field of record batches. Decoded, it is a view into the frame, which the caller keeps alive.
/// To be encoded, it is null, bytes, or external: then only its length is written, and the encoder
/// notes where the payload (a file range, say) belongs.
struct Records {
  enum class Kind : std::uint8_t { kNull, kBytes, kExternal };
  Kind kind = Kind::kNull;
  std::uint32_t external_id = 0;     ///< the caller's own number for the payload
  std::uint64_t external_bytes = 0;  ///< its length
  ByteView view;

  [[nodiscard]] static Records of(ByteView bytes) { return {Kind::kBytes, 0, 0, bytes}; }
  [[nodiscard]] static Records external(std::uint32_t id, std::uint64_t bytes) {
    return {Kind::kExternal, id, bytes, {}};
  }
  [[nodiscard]] bool is_null() const { return kind == Kind::kNull; }
  [[nodiscard]] std::uint64_t size_bytes() const {
    return kind == Kind::kExternal ? external_bytes : view.size();
  }
  friend bool operator==(const Records& a, const Records& b);
};

/// Where an external payload belongs: before byte `position` of the encoded bytes.
struct Splice {
  std::size_t position = 0;
  std::uint32_t external_id = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const Splice&, const Splice&) = default;
};

/// One frame ready to send: `bytes` with the payloads of `splices` put in, in order. The length
/// prefix counts those too.
struct Frame {
  Bytes bytes;
  std::vector<Splice> splices;
  std::uint64_t total_bytes = 0;  ///< of bytes and payloads
};

/// The version range of a message, for checks and messages.
struct MessageInfo {
  const char* name;
  std::int16_t min_version;
  std::int16_t max_version;
  std::int16_t flexible_from;  ///< INT16_MAX = never
};

/// Writes one message (after what it already holds) in Kafka's encoding. An impossible value (a
/// string over 32,767 bytes, an unsupported version) makes `status()` an error for good. Pure.
class Encoder {
 public:
  /// Every generated encode() begins with this. False for a version that `info` does not have.
  bool begin(const MessageInfo& info, std::int16_t version);
  [[nodiscard]] bool flexible() const { return flexible_; }

  void boolean(bool value) { out_.push_back(value ? 1 : 0); }
  void i8(std::int8_t value) { out_.push_back(static_cast<std::uint8_t>(value)); }
  void i16(std::int16_t value) { fixed(value); }
  void i32(std::int32_t value) { fixed(value); }
  void i64(std::int64_t value) { fixed(value); }
  void uuid(const model::Uuid& id) { out_.insert(out_.end(), id.bytes.begin(), id.bytes.end()); }
  void string(std::string_view value);
  /// Writes null as the empty string if this version has no null.
  void nullable_string(const std::optional<std::string>& value, bool null_allowed);
  /// As string and nullable_string, but never compact: the client id of request headers.
  void plain_nullable_string(const std::optional<std::string>& value);
  void bytes(ByteView value);
  void nullable_bytes(const std::optional<Bytes>& value, bool null_allowed);
  void records(const Records& value, bool null_allowed);
  void array(std::size_t count);
  void null_array(bool null_allowed);

  /// Tagged fields, in ascending order of tag: tags(count), then open_tag, value, close_tag each.
  void tags(std::uint32_t count);
  void no_tags() {
    if (flexible_) out_.push_back(0);
  }
  [[nodiscard]] std::size_t open_tag(std::uint32_t tag);
  void close_tag(std::size_t mark);

  /// Room for the length prefix; finish_frame() fills it in.
  void begin_frame() { fixed(std::int32_t{0}); }
  [[nodiscard]] Result<Frame> finish_frame();

  [[nodiscard]] Result<void> status() const;
  [[nodiscard]] const Bytes& written() const { return out_; }
  [[nodiscard]] const std::vector<Splice>& splices() const { return splices_; }
  [[nodiscard]] Bytes take() { return std::move(out_); }

 private:
  template <typename T>
  void fixed(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof value);
    store_be(out_.data() + at, value);
  }
  void raw(ByteView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void long_length(std::uint64_t length, const char* what);
  void refuse(std::string what);

  Bytes out_;
  std::vector<Splice> splices_;
  std::uint64_t external_bytes_ = 0;
  const char* message_ = "message";
  std::int16_t version_ = 0;
  bool flexible_ = false;
  std::string refused_;
};

/// Bounds on what a decoder may build from a frame.
struct DecodeLimits {
  /// Memory for array elements, strings and bytes, which may outgrow the frame many times over.
  std::size_t max_memory_bytes = 64u << 20;
  /// Bytes after the last field are left alone instead of refused. For requests: librdkafka pads
  /// some (Metadata 12, ListGroups 4 of 2.x), and Kafka does not look.
  bool allow_trailing = false;
};

/// Reads one message from bytes that may lie. The first error sticks: later reads yield zero and
/// empty values, and no read leaves the bytes. Array counts are checked against the bytes left and
/// the memory limit before anything is allocated. Pure.
class Decoder {
 public:
  explicit Decoder(ByteView in, DecodeLimits limits = {})
      : in_(in),
        end_(in.size()),
        memory_left_(limits.max_memory_bytes),
        allow_trailing_(limits.allow_trailing) {}

  /// Every generated decode() begins with this. False for a version that `info` does not have.
  bool begin(const MessageInfo& info, std::int16_t version);
  [[nodiscard]] bool flexible() const { return flexible_; }

  // `field` names the field in errors.
  [[nodiscard]] bool boolean(const char* field) { return i8(field) != 0; }
  [[nodiscard]] std::int8_t i8(const char* field) { return fixed<std::int8_t>(field); }
  [[nodiscard]] std::int16_t i16(const char* field) { return fixed<std::int16_t>(field); }
  [[nodiscard]] std::int32_t i32(const char* field) { return fixed<std::int32_t>(field); }
  [[nodiscard]] std::int64_t i64(const char* field) { return fixed<std::int64_t>(field); }
  [[nodiscard]] model::Uuid uuid(const char* field);
  [[nodiscard]] std::string string(const char* field);
  [[nodiscard]] std::optional<std::string> nullable_string(const char* field, bool null_allowed);
  [[nodiscard]] std::optional<std::string> plain_nullable_string(const char* field);
  [[nodiscard]] Bytes bytes(const char* field);
  [[nodiscard]] std::optional<Bytes> nullable_bytes(const char* field, bool null_allowed);
  [[nodiscard]] Records records(const char* field, bool null_allowed);
  /// The element count; nullopt is null. An element takes at least `min_wire_bytes` here and
  /// `memory_bytes` once decoded.
  [[nodiscard]] std::optional<std::size_t> array(const char* field, bool null_allowed,
                                                 std::size_t min_wire_bytes,
                                                 std::size_t memory_bytes);

  /// Tagged fields: open_tags, then for each of `count` open_tag, the value if the tag is known,
  /// close_tag, which skips a value that was not read and refuses one that was read in part.
  struct Tags {
    std::uint32_t count = 0;
    std::int64_t last = -1;
    std::size_t outer_end = 0;
    std::size_t start = 0;
  };
  [[nodiscard]] Tags open_tags(const char* field);
  [[nodiscard]] std::int64_t open_tag(Tags& tags, const char* field);
  void close_tag(Tags& tags, const char* field);
  /// All tagged fields of a structure that knows none.
  void skip_tags(const char* field);

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t left() const { return ok_ ? end_ - at_ : 0; }
  [[nodiscard]] std::size_t position() const { return at_; }
  /// The first error; only when !ok().
  [[nodiscard]] Error take_error() { return std::move(error_); }
  /// kCorrupt if bytes are left over.
  [[nodiscard]] Result<void> finish();

 private:
  template <typename T>
  T fixed(const char* field) {
    if (!need(sizeof(T), field)) return T{};
    at_ += sizeof(T);
    return load_be<T>(in_.data() + at_ - sizeof(T));
  }
  bool need(std::size_t count, const char* field);
  bool charge(std::size_t bytes, const char* field);
  std::uint32_t uvarint(const char* field);
  /// nullopt is null; the bytes are there.
  std::optional<std::size_t> length(const char* field, bool null_allowed, bool compact, bool wide);
  void refuse(Code code, const char* field, std::string what);

  ByteView in_;
  std::size_t at_ = 0;
  std::size_t end_;
  std::size_t memory_left_;
  bool allow_trailing_ = false;
  const char* message_ = "message";
  std::int16_t version_ = 0;
  bool flexible_ = false;
  bool ok_ = true;
  Error error_;
};

/// Decodes a `T` that fills `body` to its last byte (but for `allow_trailing`); kCorrupt names message, version and field,
/// kUnsupported a version out of range, kTooLarge a limit.
template <typename T>
[[nodiscard]] Result<T> decode_message(ByteView body, std::int16_t version,
                                       DecodeLimits limits = {}) {
  Decoder decoder(body, limits);
  Result<T> message = T::decode(decoder, version);
  if (!message) return message;
  PYRALOG_TRY(decoder.finish());
  return message;
}

/// The bare bytes of `message`, which holds no external records.
template <typename T>
[[nodiscard]] Result<Bytes> encode_message(const T& message, std::int16_t version) {
  Encoder encoder;
  message.encode(encoder, version);
  PYRALOG_TRY(encoder.status());
  PYRALOG_ASSERT(encoder.splices().empty());
  return encoder.take();
}

}  // namespace pyralog::wire::kafka
