#include "cli/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <set>

#include "server/settings.h"

namespace pyralog::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

std::string text_of(std::FILE* file) {
  std::string out(static_cast<std::size_t>(std::ftell(file)), '\0');
  std::rewind(file);
  out.resize(std::fread(out.data(), 1, out.size(), file));
  return out;
}

struct Ran {
  int exit = -1;
  std::string out;
  std::string err;
};
Ran ran(const std::vector<std::string>& words) {
  const File out(std::tmpfile());
  const File err(std::tmpfile());
  Console console;
  console.out = out.get();
  console.err = err.get();
  Ran result;
  result.exit = run(words, console);
  result.out = text_of(out.get());
  result.err = text_of(err.get());
  return result;
}

std::string refusal(const std::vector<std::string>& words) {
  const auto parsed = parse(words);
  return parsed ? "accepted" : parsed.error().message;
}

Args args_of(const std::vector<std::string>& words) {
  auto parsed = parse(words);
  EXPECT_TRUE(parsed) << parsed.error().message;
  return parsed ? parsed->args : Args();
}

/// Words that satisfy what a command requires.
std::vector<std::string> least_words(const CommandSpec& spec) {
  std::vector<std::string> words;
  const std::size_t space = spec.path.find(' ');
  words.push_back(spec.path.substr(0, space));
  if (space != std::string::npos) words.push_back(spec.path.substr(space + 1));
  for (const PositionalSpec& positional : spec.positionals) {
    if (!positional.required) continue;
    words.push_back(positional.choices.empty()
                        ? "x"
                        : positional.choices.substr(0, positional.choices.find('|')));
  }
  for (const OptionSpec& option : spec.options) {
    if (option.required) words.insert(words.end(), {"--" + option.name, "x"});
  }
  return words;
}

TEST(Commands, are_those_that_the_manual_promises) {
  for (const char* path : {"serve",
                           "topic create",
                           "topic list",
                           "topic describe",
                           "topic alter",
                           "topic delete",
                           "partition list",
                           "partition move",
                           "cluster status",
                           "cluster rebalance",
                           "produce",
                           "consume",
                           "group list",
                           "group describe",
                           "group reset",
                           "group delete",
                           "group delete-offsets",
                           "log inspect",
                           "log verify",
                           "log repair",
                           "id next",
                           "id batch",
                           "id inspect",
                           "config check",
                           "doctor",
                           "version"}) {
    EXPECT_NE(find_command(path), nullptr) << path;
  }
}

TEST(Commands, each_is_described_runs_and_has_unique_options) {
  std::set<std::string> paths;
  for (const CommandSpec& spec : commands()) {
    EXPECT_TRUE(paths.insert(spec.path).second) << spec.path;
    EXPECT_TRUE(spec.summary.ends_with('.')) << spec.path;
    EXPECT_NE(spec.run, nullptr) << spec.path;
    std::set<std::string> names = {"json", "help"};
    for (const OptionSpec& option : spec.options) {
      EXPECT_TRUE(names.insert(option.name).second) << spec.path << " --" << option.name;
      EXPECT_FALSE(option.help.empty()) << spec.path << " --" << option.name;
      if (option.kind != OptionKind::kFlag) {
        EXPECT_FALSE(option.value.empty() && option.choices.empty())
            << spec.path << " --" << option.name;
      }
    }
    for (const PositionalSpec& positional : spec.positionals) {
      EXPECT_FALSE(positional.help.empty()) << spec.path << " " << positional.name;
    }
  }
}

TEST(Commands, each_takes_json_and_help_and_refuses_an_unknown_option) {
  for (const CommandSpec& spec : commands()) {
    auto words = least_words(spec);
    words.emplace_back("--json");
    const auto parsed = parse(words);
    ASSERT_TRUE(parsed) << spec.path << ": " << parsed.error().message;
    EXPECT_EQ(parsed->command, &spec);
    EXPECT_TRUE(parsed->args.flag("json"));
    words.back() = "--frobnicate";
    EXPECT_THAT(refusal(words), AllOf(HasSubstr(spec.path), HasSubstr("--frobnicate"),
                                      HasSubstr("see `pyralog " + spec.path + " --help`")));
    words.back() = "--help";
    const auto help = parse(words);
    ASSERT_TRUE(help) << spec.path;
    EXPECT_EQ(help->command, nullptr);
    EXPECT_EQ(help->help_path, spec.path);
  }
}

TEST(Commands, every_client_command_takes_bootstrap_and_timeout) {
  for (const char* path : {"topic create", "topic list", "topic describe", "topic alter",
                           "topic delete", "produce", "consume", "group list", "group describe",
                           "group reset", "group delete", "group delete-offsets"}) {
    auto words = least_words(*find_command(path));
    words.insert(words.end(), {"--bootstrap", "a:1,b:2", "--timeout", "5s"});
    EXPECT_EQ(args_of(words).text("bootstrap"), "a:1,b:2") << path;
  }
}

TEST(Parse, serve_takes_every_setting_as_an_option) {
  for (const server::Setting& setting : server::settings()) {
    const std::string flag = server::flag_of(setting);
    const std::string value =
        setting.kind == server::SettingKind::kBool ? "false"
        : setting.choices.empty()
            ? "7"
            : std::string(setting.choices.substr(0, setting.choices.find('|')));
    EXPECT_EQ(args_of({"serve", flag + "=" + value}).text(flag.substr(2)), value) << flag;
  }
  for (const char* flag : {"--config", "--data-dir", "--kafka", "--http", "--advertise"}) {
    EXPECT_EQ(args_of({"serve", flag, "x"}).text(flag + 2), "x");
  }
  EXPECT_TRUE(args_of({"serve", "--allow-insecure"}).flag("allow-insecure"));
  EXPECT_FALSE(args_of({"serve", "--allow-insecure=false"}).flag("allow-insecure"));
}

TEST(Parse, the_last_value_counts_and_lists_collect) {
  const Args args = args_of({"topic", "create", "orders", "--partitions", "2", "--config", "a=1",
                             "--partitions=3", "--config", "b=x=y"});
  EXPECT_EQ(args.text("NAME"), "orders");
  EXPECT_EQ(args.number("partitions", 0, 1, 10), 3);
  const auto pairs = args.pairs("config");
  ASSERT_TRUE(pairs);
  EXPECT_THAT(*pairs, ElementsAre(std::pair<std::string, std::string>("a", "1"),
                                  std::pair<std::string, std::string>("b", "x=y")));
  EXPECT_THAT(args_of({"topic", "delete", "a", "b"}).list("NAME"), ElementsAre("a", "b"));
}

TEST(Parse, a_value_may_be_of_two_words) {
  const auto to = [](std::vector<std::string> more) {
    std::vector<std::string> words = {"group", "reset"};
    words.insert(words.end(), more.begin(), more.end());
    const Args args = args_of(words);
    EXPECT_EQ(args.text("GROUP"), "g");
    return args.text("to");
  };
  EXPECT_EQ(to({"g", "--to", "offset", "7"}), "offset 7");
  EXPECT_EQ(to({"--to", "shift", "-7", "g"}), "shift -7");
  EXPECT_EQ(to({"--to=timestamp", "1970-01-02", "g", "--all-topics"}), "timestamp 1970-01-02");
  EXPECT_EQ(to({"--to", "earliest", "g"}), "earliest");
  EXPECT_EQ(to({"--to", "offset 7", "g"}), "offset 7");
  EXPECT_EQ(to({"g", "--to", "offset"}), "offset") << "the command refuses it";
  EXPECT_EQ(to({"--to", "latest", "--topic", "offset", "g"}), "latest");
  EXPECT_THAT(refusal({"group", "reset", "g", "--all-topics"}), HasSubstr("--to"));
  EXPECT_THAT(refusal({"group", "delete-offsets", "g"}), HasSubstr("--topic"));
}

TEST(Parse, names_what_is_wrong_and_what_to_do) {
  EXPECT_THAT(refusal({"topc"}), AllOf(HasSubstr("\"topc\""), HasSubstr("`pyralog topic`")));
  EXPECT_THAT(refusal({"frobnicate"}), HasSubstr("`pyralog --help`"));
  EXPECT_THAT(refusal({"topic", "creat", "x"}), HasSubstr("`pyralog topic create`"));
  EXPECT_THAT(refusal({"topic", "create"}), AllOf(HasSubstr("topic create"), HasSubstr("NAME")));
  EXPECT_THAT(refusal({"topic", "create", "x", "y"}), HasSubstr("y"));
  EXPECT_THAT(refusal({"topic", "create", "x", "--partition", "3"}),
              HasSubstr("did you mean --partitions?"));
  EXPECT_THAT(refusal({"produce", "x", "--codec", "rar"}), HasSubstr("--codec"));
  EXPECT_THAT(refusal({"completion", "tcsh"}), HasSubstr("SHELL"));
  EXPECT_THAT(refusal({"id", "next"}), HasSubstr("--file"));
  EXPECT_THAT(refusal({"serve", "--kafka"}), HasSubstr("--kafka"));
}

TEST(Args, numbers_have_bounds_and_durations_units) {
  Args args;
  args.add("n", "7");
  args.add("bad", "7x");
  args.add("t", "5m");
  args.add("pair", "no-equals");
  EXPECT_EQ(args.number("n", 0, 0, 7), 7);
  EXPECT_EQ(args.number("absent", 3, 0, 7), 3);
  EXPECT_THAT(args.number("n", 0, 0, 6).error().message,
              AllOf(HasSubstr("--n"), HasSubstr("\"7\""), HasSubstr("0 to 6")));
  EXPECT_FALSE(args.number("bad", 0, 0, 10));
  EXPECT_EQ(args.duration("t", Duration()), Duration(std::chrono::minutes(5)));
  for (const auto& [text, ms] : std::map<std::string, int>{{"250", 250}, {"30s", 30'000}}) {
    Args one;
    one.add("t", text);
    EXPECT_EQ(one.duration("t", Duration()), Duration(std::chrono::milliseconds(ms))) << text;
  }
  for (const char* text : {"", "s", "-1s", "5 parsecs", "99999999999h"}) {
    Args one;
    one.add("t", text);
    EXPECT_FALSE(one.duration("t", Duration())) << text;
  }
  EXPECT_FALSE(args.pairs("pair"));
}

TEST(Run, alone_prints_five_lines) {
  const Ran alone = ran({});
  EXPECT_EQ(alone.exit, 0);
  EXPECT_EQ(std::ranges::count(alone.out, '\n'), 5);
  for (const char* word : {"pyralog serve", "topic create", "produce", "consume", "help"}) {
    EXPECT_THAT(alone.out, HasSubstr(word));
  }
}

TEST(Run, errors_go_to_standard_error_with_exit_code_two_for_wrong_words) {
  const Ran wrong = ran({"topic", "create"});
  EXPECT_EQ(wrong.exit, 2);
  EXPECT_EQ(wrong.out, "");
  EXPECT_THAT(wrong.err, StartsWith("pyralog: topic create: "));
  EXPECT_EQ(std::ranges::count(wrong.err, '\n'), 1);
  EXPECT_EQ(ran({"topic", "create", "x", "--partitions", "0"}).exit, 2);
  EXPECT_EQ(ran({"topic", "alter", "x"}).exit, 2);
  EXPECT_EQ(ran({"topic", "delete", "x", "--partition", "1"}).exit, 2);
  EXPECT_EQ(ran({"topic", "delete", "x", "y", "--records-before", "end"}).exit, 2);
  EXPECT_EQ(ran({"topic", "delete", "x", "--records-before", "beginning"}).exit, 2);
  EXPECT_EQ(ran({"consume", "x", "--from", "somewhere"}).exit, 2);
  EXPECT_EQ(ran({"consume", "x", "--group", "g", "--partition", "1"}).exit, 2);
  const std::vector<std::string> reset = {"group", "reset", "g", "--to"};
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"earliest"},
           {"earliest", "--topic", "t", "--all-topics"},
           {"soon", "--topic", "t"},
           {"offset", "--topic", "t"},
           {"latest", "--topic", "t:x"},
           {"latest", "--topic", "t", "--dry-run", "--execute"}}) {
    auto words = reset;
    words.insert(words.end(), more.begin(), more.end());
    EXPECT_EQ(ran(words).exit, 2) << more.front();
  }
  EXPECT_EQ(ran({"group", "delete-offsets", "g", "--topic", ":"}).exit, 2);
  EXPECT_EQ(ran({"topic", "list", "--bootstrap", "nowhere"}).exit, 2);
  EXPECT_EQ(ran({"topic", "list", "--timeout", "soon"}).exit, 2);
  EXPECT_EQ(ran({"id", "inspect"}).exit, 2);
}

TEST(Run, help_is_the_same_by_word_and_by_option) {
  for (const CommandSpec& spec : commands()) {
    auto words = least_words(spec);
    words.emplace_back("--help");
    const Ran help = ran(words);
    EXPECT_EQ(help.exit, 0);
    EXPECT_EQ(help.out, help_text(spec.path));
    for (const OptionSpec& option : spec.options) {
      EXPECT_THAT(help.out, HasSubstr("--" + option.name)) << spec.path;
    }
  }
  EXPECT_EQ(ran({"help"}).out, ran({"--help"}).out);
  EXPECT_EQ(ran({"help", "topic"}).out, ran({"topic"}).out);
  EXPECT_EQ(ran({"help", "topic", "create"}).out, help_text("topic create"));
}

TEST(Run, help_in_json_lists_the_commands) {
  const Ran all = ran({"--json"});
  EXPECT_EQ(all.exit, 0);
  for (const CommandSpec& spec : commands()) {
    EXPECT_THAT(all.out, HasSubstr("{\"command\":\"" + spec.path + "\""));
  }
  EXPECT_THAT(ran({"topic", "--json"}).out,
              AllOf(HasSubstr("topic alter"), Not(HasSubstr("\"serve\""))));
  EXPECT_EQ(ran({"topic", "list", "--help", "--json"}).out, help_json("topic list") + "\n");
}

std::string with_escaped_hyphens(std::string text) {
  for (std::size_t at = text.find('-'); at != std::string::npos; at = text.find('-', at + 2)) {
    text.insert(at, "\\");
  }
  return text;
}

TEST(Documentation, completion_and_man_page_name_every_command_and_option) {
  const auto bash = completion_script("bash");
  const auto fish = completion_script("fish");
  ASSERT_TRUE(bash && fish && completion_script("zsh"));
  EXPECT_FALSE(completion_script("tcsh"));
  const std::string man = man_page();
  for (const CommandSpec& spec : commands()) {
    EXPECT_THAT(*bash, HasSubstr("'" + spec.path + "')"));
    EXPECT_THAT(man, HasSubstr(".SS pyralog " + with_escaped_hyphens(spec.path)));
    for (const OptionSpec& option : spec.options) {
      EXPECT_THAT(*bash, HasSubstr("--" + option.name));
      EXPECT_THAT(*fish, HasSubstr("-l " + option.name + " "));
      EXPECT_THAT(man, HasSubstr("\\fB\\-\\-" + with_escaped_hyphens(option.name) + "\\fR"));
    }
  }
}

TEST(Documentation, a_roff_line_of_text_never_begins_with_a_control_character) {
  for (const CommandSpec& spec : commands()) {
    EXPECT_FALSE(spec.summary.starts_with('.')) << spec.path;
    EXPECT_FALSE(spec.summary.starts_with('\'')) << spec.path;
  }
}

}  // namespace
}  // namespace pyralog::cli
