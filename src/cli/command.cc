#include "cli/command.h"

#include <algorithm>
#include <charconv>

#include "base/plant.h"

namespace pyralog::cli {

namespace {

std::unexpected<Error> bad_value(const std::string& name, const std::string& text,
                                 const std::string& takes) {
  return fail(Code::kInvalidArgument, "option --" + name + ": \"" + text + "\" is no " + takes);
}

}  // namespace

bool Args::flag(const std::string& name) const {
  const auto it = values_.find(name);
  return it != values_.end() && it->second.back() != "false" && it->second.back() != "0";
}

std::string Args::text(const std::string& name, std::string otherwise) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::move(otherwise) : it->second.back();
}

std::vector<std::string> Args::list(const std::string& name) const {
  const auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

Result<std::int64_t> Args::number(const std::string& name, std::int64_t otherwise, std::int64_t min,
                                  std::int64_t max) const {
  if (!has(name)) return otherwise;
  const std::string given = text(name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), value);
  const bool within = (value >= min && value <= max) || PYRALOG_PLANT("cli.any_number");
  if (error != std::errc() || end != given.data() + given.size() || !within) {
    return bad_value(name, given,
                     "whole number from " + std::to_string(min) + " to " + std::to_string(max));
  }
  return value;
}

Result<Duration> Args::duration(const std::string& name, Duration otherwise) const {
  if (!has(name)) return otherwise;
  const std::string given = text(name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), value);
  const std::string_view unit(end, static_cast<std::size_t>(given.data() + given.size() - end));
  std::int64_t factor = 0;
  if (unit.empty() || unit == "ms") factor = 1;
  if (unit == "s") factor = 1'000;
  if (unit == "m") factor = 60'000;
  if (unit == "h") factor = 3'600'000;
  if (error != std::errc() || factor == 0 || value < 0 || value > 86'400'000'000 / factor) {
    return bad_value(name, given, "duration such as 500ms, 30s or 5m");
  }
  return Duration(std::chrono::milliseconds(value * factor));
}

Result<std::vector<std::pair<std::string, std::string>>> Args::pairs(
    const std::string& name) const {
  std::vector<std::pair<std::string, std::string>> found;
  for (const std::string& entry : list(name)) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) return bad_value(name, entry, "KEY=VALUE");
    found.emplace_back(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return found;
}

void print(std::FILE* to, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), to);
}

std::unexpected<Failure> usage(std::string message) {
  return std::unexpected<Failure>(Failure(Error{Code::kInvalidArgument, std::move(message), 0}, 2));
}

const CommandSpec* find_command(std::string_view path) {
  for (const CommandSpec& spec : commands()) {
    if (spec.path == path) return &spec;
  }
  return nullptr;
}

std::string family_summary(std::string_view first_word) {
  std::string found;
  for (const CommandSpec& spec : commands()) {
    if (!spec.path.starts_with(std::string(first_word) + " ")) continue;
    found += (found.empty() ? "" : ", ") + spec.path.substr(first_word.size() + 1);
  }
  return found;
}

int run(const std::vector<std::string>& words, Console& console) {
  if (words.empty()) {
    print(console.out, welcome());
    return 0;
  }
  std::vector<std::string> asked = words;
  if (asked[0] == "--version") asked[0] = "version";
  if (asked[0] == "help") {
    asked.erase(asked.begin());
    asked.emplace_back("--help");
  }
  auto parsed = parse(asked);
  if (!parsed) {
    print(console.err, "pyralog: " + parsed.error().message + "\n");
    return 2;
  }
  if (parsed->command == nullptr || parsed->command->run == nullptr) {
    print(console.out, parsed->help_as_json ? help_json(parsed->help_path) + "\n"
                                            : help_text(parsed->help_path));
    return 0;
  }
  const Outcome outcome = parsed->command->run(parsed->args, console);
  std::fflush(console.out);
  if (outcome) return 0;
  print(console.err, "pyralog: " + outcome.error().error.message + "\n");
  return outcome.error().exit_code;
}

}  // namespace pyralog::cli
