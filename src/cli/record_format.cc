#include "cli/record_format.h"

#include <charconv>

#include "base/json.h"

namespace pyralog::cli {

namespace {

constexpr std::string_view kTokens = "tpoTkshKS";

std::optional<char> hex_byte(std::string_view digits) {
  unsigned value = 0;
  if (digits.size() < 2) return std::nullopt;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + 2, value, 16);
  if (error != std::errc() || end != digits.data() + 2) return std::nullopt;
  return static_cast<char>(value);
}

void append_bytes(std::string& out, const std::optional<ByteView>& bytes) {
  if (bytes) out += as_text(*bytes);
}

std::string length_of(const std::optional<ByteView>& bytes) {
  return bytes ? std::to_string(bytes->size()) : "-1";
}

bool is_utf8(ByteView bytes) {
  std::string quoted;
  append_json_string(quoted, as_text(bytes));
  const bool replaced = quoted.find("\xEF\xBF\xBD") != std::string::npos;
  return !replaced || as_text(bytes).find("\xEF\xBF\xBD") != std::string_view::npos;
}

std::string base64(ByteView bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t word = 0;
    for (std::size_t k = 0; k < 3; ++k) word = (word << 8) | (k < n ? bytes[i + k] : 0u);
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= n ? kDigits[(word >> (18 - 6 * k)) & 63u] : '=';
    }
  }
  return out;
}

void bytes_field(JsonWriter& json, const std::string& key, const std::optional<ByteView>& bytes) {
  if (!bytes) {
    json.key(key).null();
  } else if (is_utf8(*bytes)) {
    json.field(key, as_text(*bytes));
  } else {
    json.field(key + "_base64", base64(*bytes));
  }
}

}  // namespace

Result<RecordFormat> RecordFormat::parse(std::string_view text) {
  RecordFormat format;
  std::string plain;
  const auto end_plain = [&] {
    if (!plain.empty()) format.parts_.push_back({0, std::exchange(plain, {})});
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '%' && c != '\\') {
      plain += c;
      continue;
    }
    const char next = ++i < text.size() ? text[i] : '\0';
    if (c == '%' && next == '%') {
      plain += '%';
    } else if (c == '%' && next != '\0' && kTokens.find(next) != std::string_view::npos) {
      end_plain();
      format.parts_.push_back({next, {}});
    } else if (c == '\\' && std::string_view("nrt0\\").find(next) != std::string_view::npos) {
      plain += next == 'n'   ? '\n'
               : next == 'r' ? '\r'
               : next == 't' ? '\t'
               : next == '0' ? '\0'
                             : '\\';
    } else if (const auto byte = hex_byte(text.substr(std::min(i + 1, text.size())));
               c == '\\' && next == 'x' && byte) {
      plain += *byte;
      i += 2;
    } else {
      return fail(
          Code::kInvalidArgument,
          std::string("option --format: \"") + c + next +
              "\" means nothing; there are %t %p %o %T %k %s %h %K %S %% \\n \\t \\r \\0 \\xHH");
    }
  }
  end_plain();
  return format;
}

void RecordFormat::append(std::string& out, const client::TopicPartition& partition,
                          const RecordView& record) const {
  for (const Part& part : parts_) {
    switch (part.token) {
      case 't':
        out += partition.topic;
        break;
      case 'p':
        out += std::to_string(partition.partition);
        break;
      case 'o':
        out += std::to_string(record.offset);
        break;
      case 'T':
        out += std::to_string(record.timestamp);
        break;
      case 'k':
        append_bytes(out, record.key);
        break;
      case 's':
        append_bytes(out, record.value);
        break;
      case 'K':
        out += length_of(record.key);
        break;
      case 'S':
        out += length_of(record.value);
        break;
      case 'h':
        for (std::size_t i = 0; i < record.headers.size(); ++i) {
          out += (i > 0 ? "," : "") + std::string(record.headers[i].name) + "=";
          append_bytes(out, record.headers[i].value);
        }
        break;
      default:
        out += part.text;
        break;
    }
  }
}

void append_record_json(std::string& out, const client::TopicPartition& partition,
                        const RecordView& record) {
  JsonWriter json;
  json.object()
      .field("topic", partition.topic)
      .field("partition", partition.partition)
      .field("offset", record.offset)
      .field("timestamp", record.timestamp);
  bytes_field(json, "key", record.key);
  bytes_field(json, "value", record.value);
  json.key("headers").array();
  for (const HeaderView& header : record.headers) {
    json.object().field("name", header.name);
    bytes_field(json, "value", header.value);
    json.end();
  }
  out += json.end().end().text() + "\n";
}

}  // namespace pyralog::cli
