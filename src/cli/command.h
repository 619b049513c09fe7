#pragma once

#include <cstdint>
#include <cstdio>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace pyralog::cli {

enum class OptionKind : std::uint8_t {
  kFlag,   ///< takes no value, or "=true" and "=false"
  kValue,  ///< takes one value; given twice, the last counts
  kList,   ///< may be given several times
};

/// What a shell offers to complete a value with.
enum class Completes : std::uint8_t { kNothing, kFiles, kDirectories };

struct OptionSpec {
  std::string name;  ///< without "--"
  OptionKind kind = OptionKind::kValue;
  std::string value;  ///< what stands for the value in help: "N", "HOST:PORT"
  std::string help;
  std::string default_text;  ///< shown in help; the command applies it
  std::string choices;       ///< "a|b|c", also refused otherwise; empty = any
  Completes completes = Completes::kNothing;
  bool required = false;
  std::string group;  ///< heading in help; empty = "Options"
  std::string two_words;  ///< "a|b": these take the next word into the value, which is then "a N"
  std::string offers;     ///< "a|b|c": what completion offers where the choices are not all
};

struct PositionalSpec {
  std::string name;  ///< "TOPIC"
  std::string help;
  bool required = true;
  bool many = false;
  std::string choices;
  Completes completes = Completes::kNothing;
};

/// What was given on the command line for one command.
class Args {
 public:
  void add(const std::string& name, std::string value) {
    values_[name].push_back(std::move(value));
  }
  [[nodiscard]] bool has(const std::string& name) const { return values_.contains(name); }
  /// True if the flag was given, and not as "=false".
  [[nodiscard]] bool flag(const std::string& name) const;
  [[nodiscard]] std::string text(const std::string& name, std::string otherwise = {}) const;
  [[nodiscard]] std::vector<std::string> list(const std::string& name) const;
  /// A whole number in [min, max]; `otherwise` if it was not given; kInvalidArgument names the
  /// option.
  [[nodiscard]] Result<std::int64_t> number(const std::string& name, std::int64_t otherwise,
                                            std::int64_t min, std::int64_t max) const;
  /// "500ms", "30s", "5m", "1h", or milliseconds.
  [[nodiscard]] Result<Duration> duration(const std::string& name, Duration otherwise) const;
  /// "K=V" values as pairs, in order.
  [[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> pairs(
      const std::string& name) const;

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

/// Where a command reads and writes.
struct Console {
  std::FILE* in = stdin;
  std::FILE* out = stdout;
  std::FILE* err = stderr;
  bool err_is_terminal = false;
};
void print(std::FILE* to, std::string_view text);

/// Why a command ends other than well: 1 for what went wrong, 2 for how it was called.
struct Failure {
  Error error;
  int exit_code = 1;
  Failure(Error e,
          int exit = 1)  // NOLINT(google-explicit-constructor): lets PYRALOG_TRY return one
      : error(std::move(e)), exit_code(exit) {}
};
using Outcome = std::expected<void, Failure>;
[[nodiscard]] std::unexpected<Failure> usage(std::string message);

/// One row of the table of commands.
struct CommandSpec {
  std::string path;     ///< "topic create"
  std::string summary;  ///< one line
  std::string details;  ///< paragraphs for help and man page; may be empty
  std::vector<PositionalSpec> positionals;
  std::vector<OptionSpec> options;  ///< beside --json and --help, which all have
  std::vector<std::string> examples;
  Outcome (*run)(const Args& args, Console& console) = nullptr;
};

/// The one table of commands: --help, the man page, completion and parsing come from it.
[[nodiscard]] const std::vector<CommandSpec>& commands();
[[nodiscard]] const CommandSpec* find_command(std::string_view path);
/// The summary of a family: "topic" → "create, list, describe, alter and delete topics".
[[nodiscard]] std::string family_summary(std::string_view first_word);

/// The five lines of `pyralog` alone.
[[nodiscard]] std::string welcome();
/// Help of a command, of a family ("topic") or of all ("").
[[nodiscard]] std::string help_text(std::string_view path);
/// The same for programs: [{command, summary, details, arguments, options, examples}].
[[nodiscard]] std::string help_json(std::string_view path);
/// The man page in roff.
[[nodiscard]] std::string man_page();
/// `shell` is bash, zsh or fish.
[[nodiscard]] Result<std::string> completion_script(std::string_view shell);

struct Parsed {
  const CommandSpec* command = nullptr;  ///< null: print `help_path`'s help
  std::string help_path;
  bool help_as_json = false;
  Args args;
};
/// Reads the words after the program's name. kInvalidArgument says what is wrong with them.
[[nodiscard]] Result<Parsed> parse(const std::vector<std::string>& words);

/// All of `pyralog`: parses, runs, reports; returns the exit code.
[[nodiscard]] int run(const std::vector<std::string>& words, Console& console);

}  // namespace pyralog::cli
