#include "group/records.h"

#include <limits>
#include <string_view>
#include <utility>

#include "base/varint.h"

namespace pyralog::group {
namespace {

constexpr std::int16_t kOffsetKeyVersion = 1;
constexpr std::int16_t kGroupKeyVersion = 2;
constexpr std::int16_t kValueVersion = 3;
constexpr std::int16_t kNewestValueVersion = 4;  // the flexible form

std::unexpected<Error> corrupt(const char* what) {
  return fail(Code::kCorrupt, std::string("__consumer_offsets: ") + what +
                                  " does not fit its schema; the record is skipped");
}
std::unexpected<Error> newer(const char* what, std::int16_t version) {
  return fail(Code::kUnsupported, std::string("__consumer_offsets: ") + what + " of version " +
                                      std::to_string(version) +
                                      " comes from newer software; the record is skipped");
}

void put_text(Writer& out, std::string_view text) {
  text = text.substr(0, std::numeric_limits<std::int16_t>::max());
  out.be(static_cast<std::int16_t>(text.size())).raw(as_bytes(text));
}
void put_optional(Writer& out, const std::optional<std::string>& text) {
  if (text) {
    put_text(out, *text);
  } else {
    out.be(std::int16_t{-1});
  }
}
void put_bytes(Writer& out, const Bytes& bytes) {
  out.be(static_cast<std::int32_t>(bytes.size())).raw(bytes);
}

/// Kafka's primitives in both forms: fixed lengths, and the compact ones of flexible versions.
class Fields {
 public:
  Fields(ByteView in, bool flexible) : in_(in), flexible_(flexible) {}

  template <typename T>
  T number() {
    const ByteView raw = take(sizeof(T));
    return ok_ ? load_be<T>(raw.data()) : T{};
  }
  std::optional<std::string> optional_text() {
    const auto length = flexible_ ? compact() : std::int64_t{number<std::int16_t>()};
    if (length < 0) return std::nullopt;
    return std::string(as_text(take(static_cast<std::size_t>(length))));
  }
  std::string text() {
    auto value = optional_text();
    if (!value) ok_ = false;
    return value.value_or("");
  }
  Bytes bytes() {
    const auto length = flexible_ ? compact() : std::int64_t{number<std::int32_t>()};
    if (length < 0) {
      ok_ = false;
      return {};
    }
    const ByteView raw = take(static_cast<std::size_t>(length));
    return Bytes(raw.begin(), raw.end());
  }
  /// A count of items of at least `least` bytes.
  std::size_t count(std::size_t least) {
    const auto n = flexible_ ? compact() : std::int64_t{number<std::int32_t>()};
    if (n < 0 || static_cast<std::size_t>(n) > in_.size() / least) {
      ok_ = false;
      return 0;
    }
    return static_cast<std::size_t>(n);
  }
  /// Fields that newer software added; skipped.
  void tags() {
    if (!flexible_ || !ok_) return;
    const auto n = decode_uvarint32(in_);
    if (!n || *n > in_.size()) ok_ = false;
    for (std::uint32_t i = 0; ok_ && i < *n; ++i) {
      const auto tag = decode_uvarint32(in_);
      const auto size = decode_uvarint32(in_);
      if (!tag || !size) {
        ok_ = false;
      } else {
        take(*size);
      }
    }
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return ok_ && in_.empty(); }

 private:
  ByteView take(std::size_t count) {
    if (!ok_ || count > in_.size()) {
      ok_ = false;
      return {};
    }
    const ByteView part = in_.first(count);
    in_ = in_.subspan(count);
    return part;
  }
  /// Length + 1 as a varint; −1 = null.
  std::int64_t compact() {
    const auto raw = ok_ ? decode_uvarint32(in_) : std::nullopt;
    if (!raw) {
      ok_ = false;
      return 0;
    }
    return std::int64_t{*raw} - 1;
  }
  ByteView in_;
  bool flexible_;
  bool ok_ = true;
};

/// The version in front; `bytes` moves behind it.
std::optional<std::int16_t> version_of(ByteView& bytes) {
  if (bytes.size() < 2) return std::nullopt;
  const auto version = load_be<std::int16_t>(bytes.data());
  bytes = bytes.subspan(2);
  return version;
}

}  // namespace

Bytes encode_key(const OffsetKey& key) {
  Writer out;
  out.be(kOffsetKeyVersion);
  put_text(out, key.group);
  put_text(out, key.topic);
  out.be(key.partition);
  return out.take();
}

Bytes encode_key(const GroupKey& key) {
  Writer out;
  out.be(kGroupKeyVersion);
  put_text(out, key.group);
  return out.take();
}

Bytes encode_value(const OffsetValue& value) {
  Writer out;
  out.be(kValueVersion).be(value.offset).be(value.leader_epoch);
  put_text(out, value.metadata);
  out.be(value.commit_timestamp_ms);
  return out.take();
}

Bytes encode_value(const GroupValue& value) {
  Writer out;
  out.be(kValueVersion);
  put_text(out, value.protocol_type);
  out.be(value.generation);
  put_optional(out, value.protocol);
  put_optional(out, value.leader);
  out.be(value.state_timestamp_ms);
  out.be(static_cast<std::int32_t>(value.members.size()));
  for (const StoredMember& m : value.members) {
    put_text(out, m.member_id);
    put_optional(out, m.instance_id);
    put_text(out, m.client_id);
    put_text(out, m.client_host);
    out.be(m.rebalance_timeout_ms).be(m.session_timeout_ms);
    put_bytes(out, m.subscription);
    put_bytes(out, m.assignment);
  }
  return out.take();
}

Result<StoredKey> decode_key(ByteView bytes) {
  const auto version = version_of(bytes);
  if (!version || *version < 0) return corrupt("a key");
  if (*version > kGroupKeyVersion) return newer("a key", *version);
  Fields in(bytes, false);
  StoredKey key;
  if (*version == kGroupKeyVersion) {
    key = GroupKey{in.text()};
  } else {
    OffsetKey offset;
    offset.group = in.text();
    offset.topic = in.text();
    offset.partition = in.number<std::int32_t>();
    key = std::move(offset);
  }
  if (!in.done()) return corrupt("a key");
  return key;
}

Result<OffsetValue> decode_offset_value(ByteView bytes) {
  const auto version = version_of(bytes);
  if (!version || *version < 0) return corrupt("an offset");
  if (*version > kNewestValueVersion) return newer("an offset", *version);
  Fields in(bytes, *version >= 4);
  OffsetValue value;
  value.offset = in.number<std::int64_t>();
  if (*version >= 3) value.leader_epoch = in.number<std::int32_t>();
  value.metadata = in.text();
  value.commit_timestamp_ms = in.number<std::int64_t>();
  if (*version == 1) value.expire_timestamp_ms = in.number<std::int64_t>();
  in.tags();
  if (!in.done()) return corrupt("an offset");
  return value;
}

Result<GroupValue> decode_group_value(ByteView bytes) {
  const auto version = version_of(bytes);
  if (!version || *version < 0) return corrupt("a group");
  if (*version > kNewestValueVersion) return newer("a group", *version);
  Fields in(bytes, *version >= 4);
  GroupValue value;
  value.protocol_type = in.text();
  value.generation = in.number<std::int32_t>();
  value.protocol = in.optional_text();
  value.leader = in.optional_text();
  if (*version >= 2) value.state_timestamp_ms = in.number<std::int64_t>();
  const std::size_t members = in.count(8);
  for (std::size_t i = 0; i < members && in.ok(); ++i) {
    StoredMember m;
    m.member_id = in.text();
    if (*version >= 3) m.instance_id = in.optional_text();
    m.client_id = in.text();
    m.client_host = in.text();
    if (*version >= 1) m.rebalance_timeout_ms = in.number<std::int32_t>();
    m.session_timeout_ms = in.number<std::int32_t>();
    if (*version == 0) m.rebalance_timeout_ms = m.session_timeout_ms;
    m.subscription = in.bytes();
    m.assignment = in.bytes();
    in.tags();
    value.members.push_back(std::move(m));
  }
  in.tags();
  if (!in.done() || value.generation < 0) return corrupt("a group");
  return value;
}

std::int32_t partition_for(std::string_view group, std::int32_t partitions) {
  std::uint32_t hash = 0;
  const auto add = [&](std::uint32_t unit) { hash = hash * 31 + unit; };
  for (std::size_t i = 0; i < group.size();) {
    // Java hashes UTF-16; bytes that are no UTF-8 count one by one.
    const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(group[at]); };
    const std::uint8_t lead = byte(i);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (length == 1 || lead < 0xC0 || i + length > group.size()) {
      add(lead);
      ++i;
      continue;
    }
    std::uint32_t point = lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length; ++k) point = (point << 6) | (byte(i + k) & 0x3Fu);
    if (point >= 0x10000) {
      point -= 0x10000;
      add(0xD800 + (point >> 10));
      add(0xDC00 + (point & 0x3FF));
    } else {
      add(point);
    }
    i += length;
  }
  const auto code = static_cast<std::int32_t>(hash);
  const std::int32_t positive = code == INT32_MIN ? 0 : code < 0 ? -code : code;
  return positive % partitions;
}

}  // namespace pyralog::group
