#include "cli/places.h"

#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/plant.h"

namespace pyralog::cli {

namespace {

std::optional<std::int64_t> whole(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Takes "HH:MM" apart; nullopt if it is none.
std::optional<std::int64_t> zone_minutes(std::string_view text) {
  if (text.size() != 5 || text[2] != ':') return std::nullopt;
  const auto hours = whole(text.substr(0, 2));
  const auto minutes = whole(text.substr(3));
  if (!hours || !minutes || *hours < 0 || *hours > 23 || *minutes < 0 || *minutes > 59) {
    return std::nullopt;
  }
  return *hours * 60 + *minutes;
}

/// What may stand behind the seconds: a fraction, then a zone; nullopt if it is neither. The
/// milliseconds to add.
std::optional<std::int64_t> fraction_and_zone(std::string_view rest) {
  std::int64_t ms = 0;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    std::size_t digits = 0;
    for (; digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9'; ++digits) {
      if (digits < 3) ms = ms * 10 + (rest[digits] - '0');
    }
    if (digits == 0 || digits > 9) return std::nullopt;
    for (std::size_t i = digits; i < 3; ++i) ms *= 10;
    rest.remove_prefix(digits);
  }
  if (rest.empty() || rest == "Z") return ms;
  if (rest[0] != '+' && rest[0] != '-') return std::nullopt;
  const auto minutes = zone_minutes(rest.substr(1));
  if (!minutes) return std::nullopt;
  return ms + (rest[0] == '+' ? -1 : 1) * *minutes * 60'000;
}

}  // namespace

std::optional<std::int64_t> parse_time_ms(const std::string& text) {
  if (const auto ms = whole(text)) return *ms >= 0 ? ms : std::nullopt;
  for (const char* form : {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"}) {
    std::tm parts{};
    const char* rest = ::strptime(text.c_str(), form, &parts);
    if (rest == nullptr) continue;
    const auto more = parts.tm_sec <= 59 ? fraction_and_zone(rest) : std::nullopt;
    const bool date_only = std::string_view(form) == "%Y-%m-%d";
    if (!more || (date_only && *rest != '\0')) continue;
    const int day = parts.tm_mday;
    const std::int64_t ms = static_cast<std::int64_t>(::timegm(&parts)) * 1000 + *more;
    // timegm() makes the 3rd of March of the 31st of February.
    if (parts.tm_mday != day || ms < 0) return std::nullopt;
    return ms;
  }
  return std::nullopt;
}

Result<StartPoint> parse_start(const std::string& option, const std::string& text) {
  if (text == "beginning") return StartPoint{StartPoint::Kind::kBeginning, 0};
  if (text == "end") return StartPoint{StartPoint::Kind::kEnd, 0};
  if (const auto offset = whole(text); offset && *offset >= 0) {
    return StartPoint{StartPoint::Kind::kOffset, *offset};
  }
  const bool marked = text.starts_with('@');
  const auto ms = marked ? whole(std::string_view(text).substr(1)) : parse_time_ms(text);
  if (ms && *ms >= 0) return StartPoint{StartPoint::Kind::kTime, *ms};
  return fail(Code::kInvalidArgument,
              "option --" + option + ": \"" + text +
                  "\" is no place; give beginning, end, an offset, @MS or 2026-01-31T12:00:00Z");
}

Result<ResetTarget> parse_reset(const std::string& text) {
  using Kind = ResetTarget::Kind;
  if (text == "earliest") return ResetTarget{Kind::kEarliest, 0};
  if (text == "latest") return ResetTarget{Kind::kLatest, 0};
  const std::size_t space = text.find(' ');
  const std::string kind = text.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : text.substr(space + 1);
  std::string_view digits = rest;
  if (digits.starts_with('+') && !digits.starts_with("+-")) digits.remove_prefix(1);
  if (kind == "offset") {
    if (const auto offset = whole(rest); offset && *offset >= 0) {
      return ResetTarget{Kind::kOffset, *offset};
    }
  } else if (kind == "timestamp") {
    if (const auto ms = parse_time_ms(rest)) return ResetTarget{Kind::kTime, *ms};
  } else if (kind == "shift") {
    if (const auto records = whole(digits)) return ResetTarget{Kind::kShift, *records};
  }
  return fail(Code::kInvalidArgument,
              "option --to: \"" + text +
                  "\" is no place; give earliest, latest, offset N, timestamp MS, timestamp "
                  "2026-01-31T12:00:00Z or shift N");
}

std::optional<ResetTo> reset_to(const ResetTarget& target, const ResetFrom& from) {
  std::int64_t wanted = from.start;
  switch (target.kind) {
    case ResetTarget::Kind::kEarliest:
      break;
    case ResetTarget::Kind::kLatest:
      wanted = from.end;
      break;
    case ResetTarget::Kind::kOffset:
      wanted = target.number;
      break;
    case ResetTarget::Kind::kTime:
      wanted = from.at_time < 0 ? from.end : from.at_time;
      break;
    case ResetTarget::Kind::kShift:
      if (!from.committed) return std::nullopt;
      if (__builtin_add_overflow(*from.committed, target.number, &wanted)) {
        wanted = target.number < 0 ? INT64_MIN : INT64_MAX;
      }
      break;
  }
  // A record of the time asked for may have come after the end was asked for.
  if (target.kind == ResetTarget::Kind::kTime) return ResetTo{wanted, false};
  if (PYRALOG_PLANT("cli.reset_beyond_log")) return ResetTo{wanted, false};
  const std::int64_t offset = std::clamp(wanted, from.start, std::max(from.start, from.end));
  return ResetTo{offset, offset != wanted};
}

Result<TopicPart> parse_topic_part(const std::string& text) {
  const std::size_t colon = text.find(':');
  TopicPart part{text.substr(0, colon), {}};
  const auto refuse = [&] {
    return fail(Code::kInvalidArgument,
                "option --topic: \"" + text + "\" is none; give TOPIC or TOPIC:PARTITION,…");
  };
  if (part.topic.empty()) return refuse();
  if (colon == std::string::npos) return part;
  std::string_view rest = std::string_view(text).substr(colon + 1);
  for (;;) {
    const std::size_t comma = rest.find(',');
    const auto number = whole(rest.substr(0, comma));
    if (!number || *number < 0 || *number > INT32_MAX) return refuse();
    part.partitions.push_back(static_cast<std::int32_t>(*number));
    if (comma == std::string_view::npos) return part;
    rest.remove_prefix(comma + 1);
  }
}

}  // namespace pyralog::cli
