#include <algorithm>
#include <set>

#include "base/json.h"
#include "cli/command.h"

namespace pyralog::cli {

namespace {

constexpr std::size_t kWidth = 98;

std::string first_word(const std::string& path) {
  return path.substr(0, path.find(' '));
}

/// `text` filled into lines of at most kWidth columns that begin at `indent`; `column` is where the
/// cursor stands.
std::string filled(std::string_view text, std::size_t column, std::size_t indent) {
  std::string out;
  if (column > 0 && column + 1 > indent) {
    out += '\n';
    column = 0;
  }
  out.append(indent - column, ' ');
  std::size_t at = indent;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (at > indent && at + 1 + word.size() > kWidth) {
      out += '\n';
      out.append(indent, ' ');
      at = indent;
    }
    if (at > indent) {
      out += ' ';
      ++at;
    }
    out += word;
    at += word.size();
    text = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
  }
  return out + "\n";
}

std::string row(const std::string& left, std::string_view right, std::size_t indent) {
  const std::string lead = "  " + left;
  return lead + filled(right, lead.size(), indent);
}

std::string option_left(const OptionSpec& option) {
  std::string left = "--" + option.name;
  if (option.kind == OptionKind::kFlag) return left;
  return left + " " + (option.choices.empty() ? option.value : option.choices);
}

std::string option_right(const OptionSpec& option) {
  std::string right = option.help;
  if (option.kind == OptionKind::kList) right += " May be given several times.";
  if (!option.default_text.empty()) right += " [" + option.default_text + "]";
  return right;
}

std::string usage_line(const CommandSpec& spec) {
  std::string line = "pyralog " + spec.path;
  for (const PositionalSpec& positional : spec.positionals) {
    const std::string name = positional.name + (positional.many ? "…" : "");
    line += positional.required ? " " + name : " [" + name + "]";
  }
  return line + " [OPTIONS]";
}

std::string command_help(const CommandSpec& spec) {
  std::string out = "Usage: " + usage_line(spec) + "\n\n" + spec.summary + "\n";
  if (!spec.details.empty()) out += "\n" + filled(spec.details, 0, 0);
  if (!spec.positionals.empty()) {
    out += "\nArguments:\n";
    for (const PositionalSpec& positional : spec.positionals) {
      out += row(positional.name, positional.help, 28);
    }
  }
  std::vector<std::string> groups;
  for (const OptionSpec& option : spec.options) {
    if (std::ranges::find(groups, option.group) == groups.end()) groups.push_back(option.group);
  }
  if (std::ranges::find(groups, "") == groups.end()) groups.insert(groups.begin(), "");
  for (const std::string& group : groups) {
    out += "\n" + (group.empty() ? std::string("Options") : group) + ":\n";
    for (const OptionSpec& option : spec.options) {
      if (option.group == group) out += row(option_left(option), option_right(option), 28);
    }
    if (group.empty()) {
      out += row("--json", "Answer in JSON.", 28);
      out += row("-h, --help", "Say this.", 28);
    }
  }
  if (!spec.examples.empty()) {
    out += "\nExamples:\n";
    for (const std::string& example : spec.examples) out += "  " + example + "\n";
  }
  return out;
}

std::string family_help(std::string_view family) {
  std::string out = "Usage: pyralog " + std::string(family) + " COMMAND [OPTIONS]\n\nCommands:\n";
  for (const CommandSpec& spec : commands()) {
    if (!spec.path.starts_with(std::string(family) + " ")) continue;
    out += row(spec.path.substr(family.size() + 1), spec.summary, 16);
  }
  return out + "\n`pyralog " + std::string(family) + " COMMAND --help` says more.\n";
}

std::string all_help() {
  std::string out =
      "Usage: pyralog COMMAND [OPTIONS]\n\nA log that Kafka clients use unchanged.\n\nCommands:\n";
  std::set<std::string> done;
  for (const CommandSpec& spec : commands()) {
    const std::string word = first_word(spec.path);
    if (!done.insert(word).second) continue;
    out += row(word, spec.path == word ? spec.summary : family_summary(word), 16);
  }
  return out + "\n`pyralog COMMAND --help` says more; `pyralog man` prints the manual page.\n";
}

/// Text as roff wants it.
std::string roff(std::string_view text) {
  std::string out;
  for (std::size_t at = text.find("…"); at != std::string_view::npos; at = text.find("…")) {
    out += roff(text.substr(0, at)) + "...";
    text.remove_prefix(at + std::string_view("…").size());
  }
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

void man_options(std::string& out, const CommandSpec& spec) {
  for (const PositionalSpec& positional : spec.positionals) {
    out += ".TP\n\\fI" + roff(positional.name) + "\\fR\n" + roff(positional.help) + "\n";
  }
  for (const OptionSpec& option : spec.options) {
    out += ".TP\n\\fB" + roff("--" + option.name) + "\\fR";
    if (option.kind != OptionKind::kFlag) {
      out += " \\fI" + roff(option.choices.empty() ? option.value : option.choices) + "\\fR";
    }
    out += "\n" + roff(option_right(option)) + "\n";
  }
}

}  // namespace

std::string welcome() {
  return "pyralog serve                         start a broker on 127.0.0.1:9092\n"
         "pyralog topic create NAME             create a topic\n"
         "pyralog produce TOPIC                 append lines of standard input\n"
         "pyralog consume TOPIC                 print records as they come\n"
         "pyralog help                          all commands\n";
}

std::string help_text(std::string_view path) {
  if (path.empty()) return all_help();
  const CommandSpec* spec = find_command(path);
  return spec == nullptr ? family_help(path) : command_help(*spec);
}

std::string help_json(std::string_view path) {
  JsonWriter json;
  json.array();
  for (const CommandSpec& spec : commands()) {
    const bool below = spec.path.starts_with(std::string(path) + " ");
    if (!path.empty() && spec.path != path && !below) continue;
    json.object()
        .field("command", spec.path)
        .field("usage", usage_line(spec))
        .field("summary", spec.summary)
        .field("details", spec.details)
        .key("arguments")
        .array();
    for (const PositionalSpec& positional : spec.positionals) {
      json.object()
          .field("name", positional.name)
          .field("help", positional.help)
          .field("required", positional.required)
          .field("many", positional.many)
          .end();
    }
    json.end().key("options").array();
    for (const OptionSpec& option : spec.options) {
      json.object()
          .field("name", "--" + option.name)
          .field("value", option.choices.empty() ? option.value : option.choices)
          .field("help", option.help)
          .field("default", option.default_text)
          .field("required", option.required)
          .field("many", option.kind == OptionKind::kList)
          .end();
    }
    json.end().key("examples").array();
    for (const std::string& example : spec.examples) json.value(example);
    json.end().end();
  }
  return json.end().take();
}

std::string man_page() {
  std::string out =
      ".TH PYRALOG 1 \"\" \"Pyralog\" \"User Commands\"\n.SH NAME\npyralog \\- a log that Kafka "
      "clients "
      "use unchanged\n.SH SYNOPSIS\n.B pyralog\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n.SH "
      "DESCRIPTION\n"
      "One command starts a broker and works with it. Every command knows \\fB\\-\\-json\\fR, "
      "which "
      "answers in JSON, and \\fB\\-\\-help\\fR.\n.SH COMMANDS\n";
  for (const CommandSpec& spec : commands()) {
    out += ".SS " + roff(usage_line(spec)) + "\n" + roff(spec.summary) + "\n";
    if (!spec.details.empty()) out += ".PP\n" + roff(spec.details) + "\n";
    man_options(out, spec);
    for (const std::string& example : spec.examples) {
      out += ".PP\n.nf\n.RS\n" + roff(example) + "\n.RE\n.fi\n";
    }
  }
  return out +
         ".SH EXIT STATUS\n0 if all went well, 1 if something failed, 2 if the command line or a "
         "setting is wrong; then one line on standard error names the thing, what happened and the "
         "remedy.\n.SH ENVIRONMENT\n.TP\n\\fBPYRALOG_BOOTSTRAP\\fR\nThe default of "
         "\\fB\\-\\-bootstrap\\fR.\n.TP\n\\fBPYRALOG_\\fIKEY\\fR\nA setting of the server; see "
         "\\fBpyralog config reference\\fR.\n";
}

}  // namespace pyralog::cli
