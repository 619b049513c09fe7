#include "model/fundamental.h"

#include <charconv>

namespace pyralog::model {
namespace {

constexpr std::size_t kUuidText = 36;

bool hyphen_at(std::size_t i) {
  return i == 8 || i == 13 || i == 18 || i == 23;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string to_string(const Uuid& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(kUuidText);
  for (const std::uint8_t byte : id.bytes) {
    if (hyphen_at(out.size())) out.push_back('-');
    out.push_back(kDigits[byte >> 4]);
    out.push_back(kDigits[byte & 15]);
  }
  return out;
}

Result<Uuid> parse_uuid(std::string_view text) {
  const auto refuse = [&] {
    return fail(Code::kInvalidArgument, "\"" + std::string(text.substr(0, 64)) +
                                            "\" is no UUID; expected 36 characters such as "
                                            "0188d1e2-7c1f-4b3a-9d55-0123456789ab");
  };
  if (text.size() != kUuidText) return refuse();
  Uuid id;
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < kUuidText; ++i) {
    if (hyphen_at(i)) {
      if (text[i] != '-') return refuse();
      continue;
    }
    const int digit = hex_digit(text[i]);
    if (digit < 0) return refuse();
    std::uint8_t& byte = id.bytes[nibble / 2];
    byte = static_cast<std::uint8_t>(byte << 4 | digit);
    ++nibble;
  }
  return id;
}

std::string to_string(const PartitionId& id) {
  return to_string(id.topic.uuid) + "-" + std::to_string(id.partition.value);
}

Result<PartitionId> parse_partition_id(std::string_view text) {
  const auto refuse = [&] {
    return fail(Code::kInvalidArgument, "\"" + std::string(text.substr(0, 64)) +
                                            "\" is no partition; expected TOPICUUID-PARTITION");
  };
  if (text.size() < kUuidText + 2 || text[kUuidText] != '-') return refuse();
  const auto uuid = parse_uuid(text.substr(0, kUuidText));
  if (!uuid) return refuse();
  const std::string_view digits = text.substr(kUuidText + 1);
  std::int32_t index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  const PartitionId id{TopicId{*uuid}, PartitionIndex(index)};
  // One partition has one name: no sign, no leading zeros.
  if (error != std::errc() || end != digits.data() + digits.size() || index < 0 ||
      std::to_string(index) != digits) {
    return refuse();
  }
  return id;
}

const char* name(Durability durability) {
  switch (durability) {
    case Durability::kMemory:
      return "memory";
    case Durability::kOs:
      return "os";
    case Durability::kFsync:
      return "fsync";
  }
  return "unknown";
}

Result<Durability> parse_durability(std::string_view text) {
  for (const auto durability : {Durability::kMemory, Durability::kOs, Durability::kFsync}) {
    if (text == name(durability)) return durability;
  }
  return fail(Code::kInvalidArgument, "durability \"" + std::string(text.substr(0, 64)) +
                                          "\" does not exist; use memory, os or fsync");
}

bool is_valid_topic_name(std::string_view topic) {
  if (topic.empty() || topic.size() > 249 || topic == "." || topic == "..") return false;
  for (const char c : topic) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    if (!letter && !digit && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

}  // namespace pyralog::model
