#include <algorithm>
#include <sstream>

#include "cli/command.h"

namespace pyralog::cli {

namespace {

std::string spaced(std::string text) {
  std::ranges::replace(text, '|', ' ');
  return text;
}

/// The words that may follow `path`: commands one level down.
std::string words_after(const std::string& path) {
  std::string out;
  std::string last;
  for (const CommandSpec& spec : commands()) {
    if (!path.empty() && !spec.path.starts_with(path + " ")) continue;
    const std::string rest = path.empty() ? spec.path : spec.path.substr(path.size() + 1);
    const std::string word = rest.substr(0, rest.find(' '));
    if (word == last) continue;
    last = word;
    out += (out.empty() ? "" : " ") + word;
  }
  return out;
}

std::vector<std::string> families() {
  std::vector<std::string> found;
  for (const CommandSpec& spec : commands()) {
    const std::size_t space = spec.path.find(' ');
    if (space == std::string::npos) continue;
    const std::string word = spec.path.substr(0, space);
    if (found.empty() || found.back() != word) found.push_back(word);
  }
  return found;
}

std::string options_of(const CommandSpec& spec) {
  std::string out;
  for (const OptionSpec& option : spec.options) out += "--" + option.name + " ";
  for (const PositionalSpec& positional : spec.positionals) {
    if (!positional.choices.empty()) out += spaced(positional.choices) + " ";
  }
  return out + "--json --help";
}

/// What bash's compgen offers for the value of an option: choices, files or directories.
std::string bash_values(const OptionSpec& option) {
  const std::string& words = option.choices.empty() ? option.offers : option.choices;
  if (!words.empty()) return "-W '" + spaced(words) + "'";
  switch (option.completes) {
    case Completes::kFiles:
      return "-f";
    case Completes::kDirectories:
      return "-d";
    case Completes::kNothing:
      break;
  }
  return "";
}

std::string bash() {
  std::ostringstream out;
  out << "# pyralog completion for bash: source <(pyralog completion bash)\n"
         "_pyralog() {\n"
         "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= words=\n"
         "  COMPREPLY=()\n"
         "  if [ \"$COMP_CWORD\" -gt 1 ]; then path=${COMP_WORDS[1]}; fi\n"
         "  case \"$path\" in\n    ";
  bool first = true;
  for (const std::string& family : families()) {
    out << (first ? "" : "|") << family;
    first = false;
  }
  out << ")\n      if [ \"$COMP_CWORD\" -gt 2 ]; then path=\"$path ${COMP_WORDS[2]}\"; fi ;;\n  "
         "esac\n"
         "  case \"$path $prev\" in\n";
  for (const CommandSpec& spec : commands()) {
    for (const OptionSpec& option : spec.options) {
      if (option.kind == OptionKind::kFlag) continue;
      const std::string values = bash_values(option);
      out << "    '" << spec.path << " --" << option.name << "') ";
      if (!values.empty()) out << "COMPREPLY=($(compgen " << values << " -- \"$cur\")); ";
      out << "return ;;\n";
    }
  }
  out << "  esac\n  case \"$path\" in\n    '') words='" << words_after("") << " help --help' ;;\n";
  for (const std::string& family : families()) {
    out << "    '" << family << "') words='" << words_after(family) << " --help' ;;\n";
  }
  for (const CommandSpec& spec : commands()) {
    out << "    '" << spec.path << "') words='" << options_of(spec) << "' ;;\n";
  }
  out << "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
         "  if [ -z \"${cur##-*}\" ] && [ -n \"$cur\" ]; then return; fi\n"
         "  case \"$path\" in\n";
  for (const CommandSpec& spec : commands()) {
    const bool files = std::ranges::any_of(spec.positionals, [](const PositionalSpec& positional) {
      return positional.completes != Completes::kNothing;
    });
    if (files) out << "    '" << spec.path << "') COMPREPLY+=($(compgen -f -- \"$cur\")) ;;\n";
  }
  out << "  esac\n}\ncomplete -F _pyralog pyralog\n";
  return out.str();
}

std::string quoted(std::string text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out + "'";
}

std::string fish() {
  std::ostringstream out;
  out << "# pyralog completion for fish: pyralog completion fish | source\ncomplete -c pyralog "
         "-f\n";
  for (const CommandSpec& spec : commands()) {
    const std::size_t space = spec.path.find(' ');
    const std::string word = spec.path.substr(0, space);
    std::string at = "__fish_seen_subcommand_from " + word;
    if (space == std::string::npos) {
      out << "complete -c pyralog -n __fish_use_subcommand -a " << word << " -d "
          << quoted(spec.summary) << "\n";
    } else {
      const std::string second = spec.path.substr(space + 1);
      out << "complete -c pyralog -n __fish_use_subcommand -a " << word << " -d "
          << quoted(family_summary(word)) << "\n";
      out << "complete -c pyralog -n '" << at << "; and not __fish_seen_subcommand_from "
          << words_after(word) << "' -a " << second << " -d " << quoted(spec.summary) << "\n";
      at += "; and __fish_seen_subcommand_from " + second;
    }
    for (const OptionSpec& option : spec.options) {
      out << "complete -c pyralog -n '" << at << "' -l " << option.name << " -d "
          << quoted(option.help);
      if (option.kind != OptionKind::kFlag)
        out << (option.completes == Completes::kNothing ? " -x" : " -rF");
      const std::string& words = option.choices.empty() ? option.offers : option.choices;
      if (!words.empty()) out << " -a " << quoted(spaced(words));
      out << "\n";
    }
    for (const PositionalSpec& positional : spec.positionals) {
      if (!positional.choices.empty()) {
        out << "complete -c pyralog -n '" << at << "' -a " << quoted(spaced(positional.choices))
            << "\n";
      } else if (positional.completes != Completes::kNothing) {
        out << "complete -c pyralog -n '" << at << "' -F\n";
      }
    }
  }
  return out.str();
}

}  // namespace

Result<std::string> completion_script(std::string_view shell) {
  if (shell == "bash") return bash();
  if (shell == "fish") return fish();
  // zsh reads bash completions through its own bashcompinit.
  if (shell == "zsh") {
    return "#compdef pyralog\n# pyralog completion for zsh: source <(pyralog completion zsh)\n"
           "autoload -U +X compinit bashcompinit && compinit -u && bashcompinit\n" +
           bash();
  }
  return fail(Code::kInvalidArgument,
              "shell \"" + std::string(shell) + "\": has no completion; take bash, zsh or fish");
}

}  // namespace pyralog::cli
