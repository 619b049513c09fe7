#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <sstream>

#include "cli/command.h"
#include "server/settings.h"

namespace pyralog::cli {

namespace {

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

/// A command's CLI11 form and where its values land.
struct Bound {
  const CommandSpec* spec = nullptr;
  CLI::App* app = nullptr;
  std::map<std::string, std::vector<std::string>> values;
  std::vector<std::pair<std::string, CLI::Option*>> options;
};

void bind_option(Bound& bound, const OptionSpec& spec) {
  auto& into = bound.values[spec.name];
  CLI::Option* option = nullptr;
  if (spec.kind == OptionKind::kFlag) {
    option = bound.app->add_flag("--" + spec.name, into, spec.help);
  } else {
    option = bound.app->add_option("--" + spec.name, into, spec.help);
    option->expected(1)->allow_extra_args(false);
    if (!spec.choices.empty()) option->check(CLI::IsMember(split(spec.choices, '|')));
  }
  if (spec.required) option->required();
  option->multi_option_policy(spec.kind == OptionKind::kList ? CLI::MultiOptionPolicy::TakeAll
                                                             : CLI::MultiOptionPolicy::TakeLast);
  bound.options.emplace_back(spec.name, option);
}

void bind(Bound& bound) {
  bound.app->set_help_flag("-h,--help");
  for (const PositionalSpec& spec : bound.spec->positionals) {
    CLI::Option* option = bound.app->add_option(spec.name, bound.values[spec.name], spec.help);
    option->expected(spec.many ? -1 : 1);
    if (!spec.many) option->allow_extra_args(false);  // the next word is the next argument's
    if (spec.required) option->required();
    if (!spec.choices.empty()) option->check(CLI::IsMember(split(spec.choices, '|')));
    bound.options.emplace_back(spec.name, option);
  }
  for (const OptionSpec& spec : bound.spec->options) bind_option(bound, spec);
  OptionSpec json;
  json.name = "json";
  json.kind = OptionKind::kFlag;
  bind_option(bound, json);
}

/// The commands' words as a tree of CLI11 apps.
struct Tree {
  CLI::App root{"", "pyralog"};
  std::map<std::string, CLI::App*> families;
  std::vector<std::unique_ptr<Bound>> bound;

  Tree() {
    root.set_help_flag("-h,--help");
    root.require_subcommand(0, 1);
    for (const CommandSpec& spec : commands()) {
      const std::size_t space = spec.path.find(' ');
      CLI::App* parent = &root;
      if (space != std::string::npos) {
        CLI::App*& family = families[spec.path.substr(0, space)];
        if (family == nullptr) {
          family = root.add_subcommand(spec.path.substr(0, space));
          family->set_help_flag("-h,--help");
          family->require_subcommand(0, 1);
        }
        parent = family;
      }
      auto one = std::make_unique<Bound>();
      one->spec = &spec;
      one->app = parent->add_subcommand(
          space == std::string::npos ? spec.path : spec.path.substr(space + 1), spec.summary);
      bind(*one);
      bound.push_back(std::move(one));
    }
  }
};

/// "topic create" as far as `words` name commands.
std::string path_of(const std::vector<std::string>& words) {
  if (words.empty()) return {};
  if (words.size() > 1 && find_command(words[0] + " " + words[1]) != nullptr) {
    return words[0] + " " + words[1];
  }
  const bool known = std::ranges::any_of(commands(), [&](const CommandSpec& spec) {
    return spec.path == words[0] || spec.path.starts_with(words[0] + " ");
  });
  return known ? words[0] : std::string();
}

std::unexpected<Error> unknown_command(const std::vector<std::string>& words,
                                       const std::string& family) {
  std::vector<std::string> names;
  for (const CommandSpec& spec : commands()) {
    if (family.empty()) {
      names.push_back(spec.path.substr(0, spec.path.find(' ')));
    } else if (spec.path.starts_with(family + " ")) {
      names.push_back(spec.path.substr(family.size() + 1));
    }
  }
  const std::string& word = words[family.empty() ? 0 : 1];
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string_view near = server::nearest(word, views);
  const std::string full = family.empty() ? "" : family + " ";
  return fail(Code::kInvalidArgument,
              "command \"" + full + word + "\": there is none; " +
                  (near.empty() ? "`pyralog " + full + "--help` lists them"
                                : "did you mean `pyralog " + full + std::string(near) + "`?"));
}

/// CLI11's word for what is wrong, in our form: thing, what, remedy.
std::unexpected<Error> wrong_words(const std::string& path, const CommandSpec* spec,
                                   const std::vector<std::string>& words,
                                   const CLI::ParseError& error) {
  const std::string thing = path.empty() ? "pyralog" : path;
  std::string what = error.what();
  std::ranges::replace(what, '\n', ' ');
  // An option that there is none of comes first: its value may have been taken for an argument.
  if (spec != nullptr) {
    std::vector<std::string> names = {"--json", "--help"};
    for (const OptionSpec& option : spec->options) names.push_back("--" + option.name);
    for (const std::string& word : words) {
      const std::string name = word.substr(0, word.find('='));
      if (name == "--") break;
      if (!name.starts_with("--") || std::ranges::find(names, name) != names.end()) continue;
      const std::vector<std::string_view> views(names.begin(), names.end());
      const std::string_view near = server::nearest(name, views);
      return fail(Code::kInvalidArgument,
                  thing + ": unknown option " + name +
                      (near.empty() ? "; see `pyralog " + path + " --help`"
                                    : "; did you mean " + std::string(near) + "?"));
    }
  }
  return fail(Code::kInvalidArgument, thing + ": " + what + "; see `pyralog " +
                                          (path.empty() ? "" : path + " ") + "--help`");
}

/// `words` with the values of two words made one: "--to offset 7" → "--to", "offset 7".
std::vector<std::string> joined(const CommandSpec* spec, std::vector<std::string> words) {
  if (spec == nullptr) return words;
  for (const OptionSpec& option : spec->options) {
    const auto firsts = split(option.two_words, '|');
    const std::string flag = "--" + option.name;
    for (std::size_t i = 0; i + 1 < words.size() && words[i] != "--"; ++i) {
      const bool after = i > 0 && words[i - 1] == flag;
      const std::string first = after ? words[i]
                                : words[i].starts_with(flag + "=")
                                    ? words[i].substr(flag.size() + 1)
                                    : std::string();
      if (std::ranges::find(firsts, first) == firsts.end()) continue;
      words[i] += " " + words[i + 1];
      words.erase(words.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
  }
  return words;
}

}  // namespace

Result<Parsed> parse(const std::vector<std::string>& given) {
  Parsed parsed;
  const std::string path = path_of(given);
  const CommandSpec* spec = find_command(path);
  const std::vector<std::string> words = joined(spec, given);
  if (!words.empty() && path.empty() && !words[0].starts_with("-"))
    return unknown_command(words, "");
  if (!path.empty() && spec == nullptr && words.size() > 1 && !words[1].starts_with("-")) {
    return unknown_command(words, path);
  }
  parsed.help_path = path;
  parsed.help_as_json = std::ranges::find(words, "--json") != words.end();
  Tree tree;
  try {
    std::vector<std::string> reversed(words.rbegin(), words.rend());
    // Where no command is named, the answer is help, and --json is about that.
    if (spec == nullptr) std::erase(reversed, "--json");
    tree.root.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    return parsed;
  } catch (const CLI::ParseError& error) {
    return wrong_words(path, spec, words, error);
  }
  if (spec == nullptr) return parsed;
  parsed.command = spec;
  for (const auto& bound : tree.bound) {
    if (bound->spec != spec) continue;
    for (const auto& [name, option] : bound->options) {
      if (option->count() == 0) continue;
      for (const std::string& value : bound->values[name]) parsed.args.add(name, value);
    }
  }
  return parsed;
}

}  // namespace pyralog::cli
