#include "wire/kafka/codec.h"

#include <algorithm>
#include <limits>

#include "base/plant.h"
#include "base/varint.h"

namespace pyralog::wire::kafka {
namespace {

constexpr std::size_t kMaxString = 32767;
constexpr std::uint64_t kMaxLength = 0x7fffffff;

std::string title(const char* message, std::int16_t version) {
  return std::string(message) + " v" + std::to_string(version);
}

std::string range_text(const MessageInfo& info) {
  return "versions " + std::to_string(info.min_version) + " to " +
         std::to_string(info.max_version) + " exist";
}

}  // namespace

bool operator==(const Records& a, const Records& b) {
  return a.kind == b.kind && a.external_id == b.external_id &&
         a.external_bytes == b.external_bytes && std::ranges::equal(a.view, b.view);
}

// --- Encoder

bool Encoder::begin(const MessageInfo& info, std::int16_t version) {
  message_ = info.name;
  version_ = version;
  flexible_ = version >= info.flexible_from;
  if (version >= info.min_version && version <= info.max_version) return true;
  refuse("no such version; " + range_text(info));
  return false;
}

void Encoder::refuse(std::string what) {
  if (refused_.empty()) refused_ = title(message_, version_) + ": " + std::move(what);
}

Result<void> Encoder::status() const {
  if (refused_.empty()) return {};
  return fail(Code::kInvalidArgument, refused_);
}

void Encoder::string(std::string_view value) {
  if (value.size() > kMaxString) {
    refuse("a string of " + std::to_string(value.size()) + " bytes; the protocol allows 32767");
    value = {};
  }
  if (flexible_) {
    encode_uvarint(out_, value.size() + 1);
  } else {
    i16(static_cast<std::int16_t>(value.size()));
  }
  raw(as_bytes(value));
}

void Encoder::nullable_string(const std::optional<std::string>& value, bool null_allowed) {
  if (value || !null_allowed) return string(value ? std::string_view(*value) : "");
  if (flexible_) return out_.push_back(0);
  i16(-1);
}

void Encoder::plain_nullable_string(const std::optional<std::string>& value) {
  const bool flexible = std::exchange(flexible_, false);
  nullable_string(value, true);
  flexible_ = flexible;
}

void Encoder::long_length(std::uint64_t length, const char* what) {
  if (length >= kMaxLength) {
    refuse(std::string(what) + " of length " + std::to_string(length) + "; send less at once");
    length = 0;
  }
  if (flexible_) return encode_uvarint(out_, length + 1);
  i32(static_cast<std::int32_t>(length));
}

void Encoder::bytes(ByteView value) {
  long_length(value.size(), "bytes");
  raw(value);
}

void Encoder::nullable_bytes(const std::optional<Bytes>& value, bool null_allowed) {
  if (value || !null_allowed) return bytes(value ? ByteView(*value) : ByteView());
  null_array(true);
}

void Encoder::records(const Records& value, bool null_allowed) {
  if (value.is_null() && null_allowed) return null_array(true);
  if (value.kind != Records::Kind::kExternal) return bytes(value.view);
  long_length(value.external_bytes, "records");
  if (value.external_bytes == 0) return;
  splices_.push_back({out_.size(), value.external_id, value.external_bytes});
  external_bytes_ += value.external_bytes;
}

void Encoder::array(std::size_t count) {
  long_length(count, "an array");
}

void Encoder::null_array(bool null_allowed) {
  if (!null_allowed) return long_length(0, "an array");
  if (flexible_) return out_.push_back(0);
  i32(-1);
}

void Encoder::tags(std::uint32_t count) {
  encode_uvarint(out_, count);
}

std::size_t Encoder::open_tag(std::uint32_t tag) {
  encode_uvarint(out_, tag);
  return out_.size();
}

void Encoder::close_tag(std::size_t mark) {
  // A splice after the mark would move; no tagged field of the protocol holds records.
  PYRALOG_ASSERT(splices_.empty() || splices_.back().position <= mark);
  Bytes size;
  encode_uvarint(size, out_.size() - mark);
  out_.insert(out_.begin() + static_cast<std::ptrdiff_t>(mark), size.begin(), size.end());
}

Result<Frame> Encoder::finish_frame() {
  PYRALOG_TRY(status());
  PYRALOG_ASSERT(out_.size() >= 4);
  const std::uint64_t total = out_.size() + external_bytes_;
  if (total - 4 > kMaxLength) {
    return fail(Code::kTooLarge, title(message_, version_) + ": a frame of " +
                                     std::to_string(total) + " bytes; send less at once");
  }
  store_be(out_.data(), static_cast<std::int32_t>(total - 4));
  return Frame{std::move(out_), std::move(splices_), total};
}

// --- Decoder

bool Decoder::begin(const MessageInfo& info, std::int16_t version) {
  message_ = info.name;
  version_ = version;
  flexible_ = version >= info.flexible_from;
  if (version >= info.min_version && version <= info.max_version) return ok_;
  refuse(Code::kUnsupported, nullptr, "no such version; " + range_text(info));
  return false;
}

void Decoder::refuse(Code code, const char* field, std::string what) {
  if (!ok_) return;
  ok_ = false;
  std::string text = title(message_, version_);
  if (field != nullptr) text.append(", field ").append(field);
  error_ = Error{code, text + ": " + std::move(what)};
}

bool Decoder::need(std::size_t count, const char* field) {
  if (ok_ && count <= end_ - at_) return true;
  if (ok_ && PYRALOG_PLANT("wire.skip_bounds")) return true;
  refuse(Code::kCorrupt, field,
         "needs " + std::to_string(count) + " bytes, " + std::to_string(end_ - at_) + " are left");
  return false;
}

bool Decoder::charge(std::size_t bytes, const char* field) {
  if (!ok_) return false;
  if (bytes > memory_left_) {
    refuse(Code::kTooLarge, field, "the message needs more memory than its limit");
    return false;
  }
  memory_left_ -= bytes;
  return true;
}

std::uint32_t Decoder::uvarint(const char* field) {
  if (!ok_) return 0;
  ByteView rest = in_.subspan(at_, end_ - at_);
  const auto value = decode_uvarint32(rest);
  if (!value) {
    refuse(Code::kCorrupt, field, "a varint is cut off or over 32 bits");
    return 0;
  }
  at_ = end_ - rest.size();
  return *value;
}

std::optional<std::size_t> Decoder::length(const char* field, bool null_allowed, bool compact,
                                           bool wide) {
  std::int64_t size = 0;
  if (compact) {
    size = static_cast<std::int64_t>(uvarint(field)) - 1;
  } else {
    size = wide ? std::int64_t{i32(field)} : std::int64_t{i16(field)};
  }
  if (!ok_) return 0;
  if (size == -1 && null_allowed) return std::nullopt;
  if (size < 0) {
    refuse(Code::kCorrupt, field, "length " + std::to_string(size));
    return 0;
  }
  if (!wide && size > static_cast<std::int64_t>(kMaxString)) {
    refuse(Code::kCorrupt, field, "a string of " + std::to_string(size) + " bytes");
    return 0;
  }
  return static_cast<std::size_t>(size);
}

model::Uuid Decoder::uuid(const char* field) {
  model::Uuid id;
  if (!need(id.bytes.size(), field)) return id;
  std::copy_n(in_.begin() + static_cast<std::ptrdiff_t>(at_), id.bytes.size(), id.bytes.begin());
  at_ += id.bytes.size();
  return id;
}

std::string Decoder::string(const char* field) {
  return nullable_string(field, false).value_or(std::string());
}

std::optional<std::string> Decoder::nullable_string(const char* field, bool null_allowed) {
  const auto size = length(field, null_allowed, flexible_, false);
  if (!size) return std::nullopt;
  if (!need(*size, field) || !charge(*size, field)) return std::string();
  at_ += *size;
  return std::string(as_text(in_.subspan(at_ - *size, *size)));
}

std::optional<std::string> Decoder::plain_nullable_string(const char* field) {
  const bool flexible = std::exchange(flexible_, false);
  auto value = nullable_string(field, true);
  flexible_ = flexible;
  return value;
}

Bytes Decoder::bytes(const char* field) {
  return nullable_bytes(field, false).value_or(Bytes());
}

std::optional<Bytes> Decoder::nullable_bytes(const char* field, bool null_allowed) {
  const Records value = records(field, null_allowed);
  if (value.is_null()) return std::nullopt;
  if (!charge(value.view.size(), field)) return Bytes();
  return Bytes(value.view.begin(), value.view.end());
}

Records Decoder::records(const char* field, bool null_allowed) {
  const auto size = length(field, null_allowed, flexible_, true);
  if (!size) return {};
  if (!need(*size, field)) return Records::of({});
  at_ += *size;
  return Records::of(in_.subspan(at_ - *size, *size));
}

std::optional<std::size_t> Decoder::array(const char* field, bool null_allowed,
                                          std::size_t min_wire_bytes, std::size_t memory_bytes) {
  const auto count = length(field, null_allowed, flexible_, true);
  if (!count) return std::nullopt;
  // Compared by division: the product of a count from outside could overflow.
  if (*count > left() / min_wire_bytes && !PYRALOG_PLANT("wire.trust_array_count")) {
    refuse(Code::kCorrupt, field,
           std::to_string(*count) + " elements cannot fit into the " + std::to_string(left()) +
               " bytes left");
    return 0;
  }
  if (!charge(*count * memory_bytes, field)) return 0;
  return count;
}

Decoder::Tags Decoder::open_tags(const char* field) {
  Tags tags;
  tags.count = uvarint(field);
  return tags;
}

std::int64_t Decoder::open_tag(Tags& tags, const char* field) {
  const std::uint32_t tag = uvarint(field);
  const std::uint32_t size = uvarint(field);
  tags.outer_end = end_;
  tags.start = at_;
  if (!need(size, field)) return -1;
  if (std::int64_t{tag} <= tags.last) {
    refuse(Code::kCorrupt, field, "tagged fields repeat or are out of order");
    return -1;
  }
  tags.last = tag;
  end_ = at_ + size;
  return tag;
}

void Decoder::close_tag(Tags& tags, const char* field) {
  if (ok_ && at_ != end_ && at_ != tags.start) {
    refuse(Code::kCorrupt, field, "a tagged field is longer than its value");
  }
  if (ok_) at_ = end_;
  end_ = tags.outer_end;
}

void Decoder::skip_tags(const char* field) {
  if (!flexible_) return;
  Tags tags = open_tags(field);
  for (; ok_ && tags.count != 0; --tags.count) {
    static_cast<void>(open_tag(tags, field));
    close_tag(tags, field);
  }
}

Result<void> Decoder::finish() {
  if (!ok_) return fail(take_error());
  if (at_ == end_ || allow_trailing_) return {};
  refuse(Code::kCorrupt, nullptr, std::to_string(end_ - at_) + " bytes too many");
  return fail(take_error());
}

}  // namespace pyralog::wire::kafka
