#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/assert.h"

namespace pyralog::base {

using ByteView = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;
using Bytes = std::vector<std::uint8_t>;

[[nodiscard]] inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Bytes that several owners share and nobody changes once shared: the form in which data crosses
/// shards. Copies are a reference count; `slice` keeps the whole block alive. Any thread.
class SharedBytes {
 public:
  SharedBytes() = default;
  explicit SharedBytes(Bytes bytes)
      : block_(std::make_shared<const Bytes>(std::move(bytes))), view_(*block_) {}
  /// Copies `view` into a block of its own.
  [[nodiscard]] static SharedBytes copy(ByteView view) {
    return SharedBytes(Bytes(view.begin(), view.end()));
  }
  /// A view into memory that `owner` keeps alive.
  SharedBytes(std::shared_ptr<const void> owner, ByteView view) : other_(std::move(owner)), view_(view) {}

  [[nodiscard]] ByteView view() const { return view_; }
  [[nodiscard]] std::size_t size() const { return view_.size(); }
  [[nodiscard]] bool empty() const { return view_.empty(); }
  [[nodiscard]] const std::uint8_t* data() const { return view_.data(); }
  [[nodiscard]] SharedBytes slice(std::size_t from, std::size_t count) const {
    PYRALOG_ASSERT(from <= view_.size() && count <= view_.size() - from);
    SharedBytes part = *this;
    part.view_ = view_.subspan(from, count);
    return part;
  }

 private:
  std::shared_ptr<const Bytes> block_;
  std::shared_ptr<const void> other_;
  ByteView view_;
};

/// Loads and stores of fixed-width integers at unaligned places. The caller has checked the length.
template <typename T>
[[nodiscard]] T load_be(const std::uint8_t* p) {
  std::make_unsigned_t<T> raw;
  std::memcpy(&raw, p, sizeof raw);
  if constexpr (sizeof raw == 2) raw = __builtin_bswap16(raw);
  if constexpr (sizeof raw == 4) raw = __builtin_bswap32(raw);
  if constexpr (sizeof raw == 8) raw = __builtin_bswap64(raw);
  return static_cast<T>(raw);
}
template <typename T>
void store_be(std::uint8_t* p, T value) {
  auto raw = static_cast<std::make_unsigned_t<T>>(value);
  if constexpr (sizeof raw == 2) raw = __builtin_bswap16(raw);
  if constexpr (sizeof raw == 4) raw = __builtin_bswap32(raw);
  if constexpr (sizeof raw == 8) raw = __builtin_bswap64(raw);
  std::memcpy(p, &raw, sizeof raw);
}
template <typename T>
[[nodiscard]] T load_le(const std::uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
template <typename T>
void store_le(std::uint8_t* p, T value) {
  std::memcpy(p, &value, sizeof value);
}

/// Appends integers and bytes to a growing buffer, little-endian unless the name says otherwise.
/// For our own on-disk formats; Kafka messages have their own writer in wire/kafka.
class Writer {
 public:
  template <typename T>
  Writer& le(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof value);
    store_le(out_.data() + at, value);
    return *this;
  }
  template <typename T>
  Writer& be(T value) {
    const std::size_t at = out_.size();
    out_.resize(at + sizeof value);
    store_be(out_.data() + at, value);
    return *this;
  }
  Writer& raw(ByteView bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  /// u32 length, then the bytes.
  Writer& sized(ByteView bytes) {
    PYRALOG_ASSERT(bytes.size() <= UINT32_MAX);
    return le(static_cast<std::uint32_t>(bytes.size())).raw(bytes);
  }
  Writer& sized(std::string_view text) { return sized(as_bytes(text)); }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] ByteView view() const { return out_; }
  [[nodiscard]] Bytes& bytes() { return out_; }
  [[nodiscard]] Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

/// Reads what Writer wrote, from bytes that may lie. A read past the end yields zero or an empty
/// view and makes `ok()` false for good; check it once at the end, before using a length as a bound.
class Reader {
 public:
  explicit Reader(ByteView in) : in_(in) {}
  template <typename T>
  [[nodiscard]] T le() {
    if (!take(sizeof(T))) return T{};
    return load_le<T>(in_.data() + at_ - sizeof(T));
  }
  template <typename T>
  [[nodiscard]] T be() {
    if (!take(sizeof(T))) return T{};
    return load_be<T>(in_.data() + at_ - sizeof(T));
  }
  [[nodiscard]] ByteView raw(std::size_t count) {
    if (!take(count)) return {};
    return in_.subspan(at_ - count, count);
  }
  [[nodiscard]] ByteView sized() { return raw(le<std::uint32_t>()); }
  [[nodiscard]] std::string_view sized_text() { return as_text(sized()); }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return ok_ && at_ == in_.size(); }
  [[nodiscard]] std::size_t position() const { return at_; }
  [[nodiscard]] std::size_t left() const { return ok_ ? in_.size() - at_ : 0; }

 private:
  bool take(std::size_t count) {
    if (!ok_ || count > in_.size() - at_) {
      ok_ = false;
      return false;
    }
    at_ += count;
    return true;
  }
  ByteView in_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

}  // namespace pyralog::base

namespace pyralog {
using namespace base;
}  // namespace pyralog
