#include <sys/stat.h>
#include <toml++/toml.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "server/settings.h"

namespace pyralog::server {

namespace {

std::string place(std::string_view file_name, const toml::source_region& source) {
  return std::string(file_name) + ":" + std::to_string(source.begin.line);
}

/// The text that `assign` reads; nothing for what no setting is: arrays, dates.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) {
    std::ostringstream text;
    text << number->get();
    return text.str();
  }
  return std::nullopt;
}

Result<void> flatten(const toml::table& table, const std::string& prefix,
                     std::string_view file_name, std::vector<Assignment>& out) {
  for (const auto& [key, node] : table) {
    const std::string path = prefix + std::string(key.str());
    if (const auto* inner = node.as_table()) {
      PYRALOG_TRY(flatten(*inner, path + ".", file_name, out));
      continue;
    }
    auto text = text_of(node);
    if (!text) {
      return fail(Code::kInvalidArgument, place(file_name, node.source()) + ": " + path +
                                              ": arrays and dates are no settings; give a text, a "
                                              "number, true or false");
    }
    out.push_back({path, std::move(*text), place(file_name, key.source())});
  }
  return {};
}

}  // namespace

Result<std::vector<Assignment>> parse_toml(std::string_view text, std::string_view file_name) {
  toml::table table;
  try {
    table = toml::parse(text, file_name);
  } catch (const toml::parse_error& error) {
    return fail(Code::kInvalidArgument,
                place(file_name, error.source()) + ": " + std::string(error.description()));
  }
  std::vector<Assignment> out;
  PYRALOG_TRY(flatten(table, "", file_name, out));
  return out;
}

Result<std::vector<Assignment>> read_toml_file(const std::string& path) {
  struct stat found{};
  errno = 0;
  if (::stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) {
    // A stream reads nothing from a directory and says nothing about it.
    return fail(Code::kInvalidArgument,
                path + ": cannot be read: is a directory; name a TOML file with --config");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file || file.bad()) {
    const int number = errno;
    return fail(number == ENOENT ? Code::kNotFound : Code::kIo,
                path + ": cannot be read: " + std::strerror(number) +
                    "; name an existing file with --config",
                number);
  }
  return parse_toml(text.view(), path);
}

}  // namespace pyralog::server
