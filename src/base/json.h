#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"

namespace pyralog::base {

/// Appends `text` to `out` as a JSON string with its quotes. Bytes that are not UTF-8 become
/// U+FFFD, so that the result is valid whatever comes in.
inline void append_json_string(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  const auto continuation = [&](std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u;
  };
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c < 0x20 || c == 0x7F) {
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 15];
    } else if (c < 0x80) {
      out += static_cast<char>(c);
    } else {
      std::size_t length = c >= 0xC2 && c <= 0xDF   ? 2
                           : (c & 0xF0u) == 0xE0u   ? 3
                           : c >= 0xF0 && c <= 0xF4 ? 4
                                                    : 1;
      bool valid = length > 1;
      for (std::size_t k = 1; valid && k < length; ++k) valid = continuation(i + k);
      if (valid && length > 2) {  // overlong forms, surrogates and what lies beyond U+10FFFF
        const auto second = static_cast<unsigned char>(text[i + 1]);
        valid = !((c == 0xE0 && second < 0xA0) || (c == 0xED && second >= 0xA0) ||
                  (c == 0xF0 && second < 0x90) || (c == 0xF4 && second >= 0x90));
      }
      if (!valid) {
        out += "\xEF\xBF\xBD";
        length = 1;
      } else {
        out += text.substr(i, length);
      }
      i += length;
      continue;
    }
    ++i;
  }
  out += '"';
}

/// Writes one JSON document, without spaces, in the order of the calls; the writer sets the commas.
/// `JsonWriter j; j.object().key("a").value(1).end(); use(j.text());`
class JsonWriter {
 public:
  JsonWriter& object() { return open('{', '}'); }
  JsonWriter& array() { return open('[', ']'); }
  /// Ends the innermost object or array.
  JsonWriter& end() {
    PYRALOG_ASSERT(!closers_.empty());
    out_ += closers_.back();
    closers_.pop_back();
    comma_ = true;
    return *this;
  }
  JsonWriter& key(std::string_view name) {
    separate();
    append_json_string(out_, name);
    out_ += ':';
    return *this;
  }
  JsonWriter& value(std::string_view text) {
    separate();
    append_json_string(out_, text);
    comma_ = true;
    return *this;
  }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(std::same_as<bool> auto truth) { return raw(truth ? "true" : "false"); }
  JsonWriter& value(std::integral auto number)
    requires(!std::same_as<decltype(number), bool>)
  {
    return number_text(number);
  }
  /// A number that is not finite is written as null.
  JsonWriter& value(double number) {
    if (!(number - number == 0)) return null();
    return number_text(number);
  }
  JsonWriter& null() { return raw("null"); }
  /// A value that is JSON already.
  JsonWriter& raw(std::string_view json) {
    separate();
    out_ += json;
    comma_ = true;
    return *this;
  }
  template <typename V>
  JsonWriter& field(std::string_view name, V&& v) {
    return key(name).value(std::forward<V>(v));
  }
  [[nodiscard]] const std::string& text() const { return out_; }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  JsonWriter& open(char opener, char closer) {
    separate();
    out_ += opener;
    closers_ += closer;
    comma_ = false;
    return *this;
  }
  void separate() {
    if (comma_) out_ += ',';
    comma_ = false;
  }
  template <typename N>
  JsonWriter& number_text(N number) {
    char text[40];
    const auto end = std::to_chars(text, text + sizeof text, number);
    return raw(std::string_view(text, static_cast<std::size_t>(end.ptr - text)));
  }

  std::string out_;
  std::string closers_;
  bool comma_ = false;
};

}  // namespace pyralog::base
