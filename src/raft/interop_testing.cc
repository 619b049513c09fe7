// The C++ side of raft_etcd_interop: replay SCRIPTS TABLE. Runs the interaction scripts that etcd's
// Raft publishes with our members and compares what both implementations must agree on. TABLE says
// of each script whether it is replayed whole, and of each difference where, what and why.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "raft/interop_group_testing.h"
#include "raft/interop_script_testing.h"

namespace pyralog::raft::interop {
namespace {

/// One row of the table: | script | line, or first-last | rule | why |.
struct Rule {
  std::size_t line = 0, last_line = 0;
  std::string verb;               ///< whole, none, refused, stop, differs
  std::vector<std::string> what;  ///< of differs
  std::set<std::string> met;      ///< of `what`; the verb, for the other rules
};
using Table = std::map<std::string, std::vector<Rule>>;

/// What may differ, of all members or of one, as in role@1. Messages: what brings entries
/// (appends), what brings none (notices), answers to both (replies), heartbeats, that a snapshot is
/// sent (snapshots), which one (content), and all of elections (votes).
const std::set<std::string> kWhat = {"role",  "term",      "vote",    "commit",   "applied",
                                     "lead",  "config",    "log",     "progress", "next",
                                     "sync",  "appends",   "notices", "replies",  "heartbeats",
                                     "votes", "snapshots", "content"};

Result<Table> read_table(std::istream& in) {
  Table table;
  for (std::string text; std::getline(in, text);) {
    if (!text.starts_with("| ") || text.find(".txt") == std::string::npos) continue;
    std::vector<std::string> cells;
    std::istringstream row(text.substr(1));
    for (std::string cell; std::getline(row, cell, '|');) {
      const auto first = cell.find_first_not_of(" `");
      cells.push_back(first == std::string::npos
                          ? std::string()
                          : cell.substr(first, cell.find_last_not_of(" `") - first + 1));
    }
    if (cells.size() != 4 || cells[3].empty())
      return fail(Code::kInvalidArgument,
                  "the table has a row that is not script, line, rule, why: " + text);
    Rule rule;
    if (!cells[1].empty()) {
      rule.line = rule.last_line = std::stoul(cells[1]);
      const auto dash = cells[1].find('-');
      if (dash != std::string::npos) rule.last_line = std::stoul(cells[1].substr(dash + 1));
    }
    std::istringstream words(cells[2]);
    words >> rule.verb;
    for (std::string word; words >> word;) {
      if (!kWhat.contains(word.substr(0, word.find('@'))))
        return fail(Code::kInvalidArgument, "the table has an unknown " + word);
      rule.what.push_back(word);
    }
    static const std::set<std::string> kVerbs = {"whole", "none", "refused", "stop", "differs"};
    if (!kVerbs.contains(rule.verb))
      return fail(Code::kInvalidArgument, "the table has an unknown rule " + rule.verb);
    table[cells[0]].push_back(std::move(rule));
  }
  return table;
}

const char* name(Role role) {
  switch (role) {
    case Role::kFollower:
      return "Follower";
    case Role::kPreCandidate:
      return "PreCandidate";
    case Role::kCandidate:
      return "Candidate";
    case Role::kLeader:
      return "Leader";
  }
  return "";
}

const char* name(Progress::State state) {
  switch (state) {
    case Progress::State::kProbe:
      return "Probe";
    case Progress::State::kReplicate:
      return "Replicate";
    case Progress::State::kSnapshot:
      return "Snapshot";
  }
  return "";
}

std::string about(const std::string& message) {
  if (message.find(" MsgAppResp ") != std::string::npos) return "replies";
  if (message.find(" MsgApp ") != std::string::npos)
    return message.ends_with("\"") || message.ends_with("change") ? "appends" : "notices";
  if (message.find(" MsgHeartbeat") != std::string::npos) return "heartbeats";
  if (message.find(" MsgSnap ") != std::string::npos) return "snapshots";
  if (message.find(" Snapshot: ") != std::string::npos) return "content";
  return "votes";
}

/// That a snapshot is sent, and which one, are two things.
void split_snapshots(std::vector<std::string>& messages) {
  for (std::size_t i = messages.size(); i-- > 0;) {
    const auto content = messages[i].find(" Snapshot: ");
    if (content == std::string::npos) continue;
    messages.push_back(messages[i].substr(0, messages[i].find(' ')) + messages[i].substr(content));
    messages[i].erase(content);
  }
}

/// One script and a group of ours.
class Replay {
 public:
  Replay(std::string script, std::vector<Rule>& rules)
      : script_(std::move(script)), rules_(rules) {}

  void run(const std::vector<Command>& commands) {
    for (const Command& command : commands) {
      if (!take_rules(command)) break;
      ++commands_;
      take(command);
    }
    for (const Rule& rule : rules_) {
      if (rule.verb == "whole") continue;
      for (const auto& each : rule.verb == "differs" ? rule.what : std::vector{rule.verb}) {
        if (!rule.met.contains(each))
          complain(rule.line, "the table says " + each + ", which is not met; mend the table");
      }
    }
  }
  [[nodiscard]] std::size_t commands() const { return commands_; }
  [[nodiscard]] std::size_t comparisons() const { return comparisons_; }
  [[nodiscard]] std::size_t failures() const { return failures_; }

 private:
  void complain(std::size_t line, const std::string& what) {
    ++failures_;
    std::cout << script_ << ":" << line << ": " << what << "\n";
  }

  /// False where the rest is not replayed.
  bool take_rules(const Command& command) {
    refused_ = false;
    differs_.clear();
    for (Rule& rule : rules_) {
      if (command.line < rule.line || command.line > rule.last_line) continue;
      if (rule.verb == "differs") {
        for (const auto& each : rule.what) differs_[each] = &rule;
        continue;
      }
      rule.met.insert(rule.verb);
      if (rule.verb == "stop") return false;
      refused_ = refused_ || rule.verb == "refused";
    }
    return true;
  }

  /// `what` is one of kWhat.
  template <typename T>
  void compare(std::size_t line, const std::string& what, std::int32_t member, const T& theirs,
               const T& ours) {
    ++comparisons_;
    if (theirs == ours) return;
    auto known = differs_.find(what + "@" + std::to_string(member));
    if (known == differs_.end()) known = differs_.find(what);
    if (known != differs_.end()) {
      known->second->met.insert(known->first);
      return;
    }
    std::ostringstream text;
    text << what << (member > 0 ? " of member " + std::to_string(member) : std::string())
         << ": theirs " << theirs << ", ours " << ours;
    complain(line, text.str());
  }

  void take(const Command& command) {
    if (command.name == "log-level") {
      quiet_ = command.words.at(0) == "none";
      return;
    }
    const bool quiet = quiet_ || command.option("log-level", "") == "none";
    auto output = read_output(command, told_);
    if (!output) return complain(command.line, output.error().message);
    if (auto done = execute(command, *output); !done)
      return complain(command.line, command.name + ": " + done.error().message);
    std::vector<std::string> sent = group_.take_sent();
    const std::set<std::int32_t> synced = group_.take_synced();
    if (quiet) {
      // What has happened was not printed.
      told_.clear();
      return;
    }
    compare_messages(command.line, output->sent, std::move(sent));
    // Whatever theirs syncs must be synced by ours.
    for (const std::int32_t id : output->synced)
      compare(command.line, "sync", id, true, synced.contains(id));
    compare_members(command.line);
    compare_queries(command, *output);
  }

  [[nodiscard]] std::vector<std::int32_t> members(const Command& command) {
    std::vector<std::int32_t> out;
    for (const auto& word : command.words) {
      if (!std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; })) break;
      out.push_back(std::stoi(word));
    }
    if (!command.words.empty()) return out;
    for (const auto& [id, member] : group_.members()) out.push_back(id);
    return out;
  }

  Result<void> execute(const Command& command, const Output& output) {
    const std::string& name = command.name;
    if (name == "add-nodes") return group_.add(command);
    const auto named = members(command);
    for (const std::int32_t id : named) {
      if (!group_.has(id) && name != "deliver-msgs" && name != "compact" && name != "propose")
        return fail(Code::kInvalidArgument, "no member " + std::to_string(id));
    }
    const std::int32_t first = named.empty() ? 0 : named.front();
    if (name == "stabilize") {
      if (!group_.stabilize(named)) return fail(Code::kTimedOut, "it never ends");
    } else if (name == "process-ready") {
      for (const std::int32_t id : named) group_.process_ready(id);
    } else if (name == "process-append-thread") {
      for (const std::int32_t id : named) group_.process_append(id);
    } else if (name == "process-apply-thread") {
      for (const std::int32_t id : named) group_.process_apply(id);
    } else if (name == "deliver-msgs") {
      deliver(command);
    } else if (name == "campaign") {
      group_.raft(first).campaign();
    } else if (name == "tick-heartbeat") {
      group_.tick(first, group_.at(first).options.heartbeat_ticks);
    } else if (name == "tick-election") {
      group_.tick(first, group_.at(first).options.election_ticks);
    } else if (name == "set-randomized-election-timeout") {
      group_.at(first).timeout = static_cast<unsigned>(std::stoul(command.option("timeout", "0")));
      group_.at(first).ticks = 0;
    } else if (name == "report-unreachable") {
      group_.raft(first).unreachable(NodeId(named.at(1)));
    } else if (name == "transfer-leadership") {
      return group_.raft(std::stoi(command.option("from", "0")))
          .transfer_to(NodeId(std::stoi(command.option("to", "0"))));
    } else if (name == "compact") {
      if (!group_.compact(first, std::stoul(command.words.at(1))))
        return fail(Code::kInvalidArgument, "that is not applied");
    } else if (name == "send-snapshot") {
      Message message;
      message.kind = MessageKind::kSnapshot;
      message.from = NodeId(first);
      message.to = NodeId(named.at(1));
      message.term = group_.raft(first).term();
      message.snapshot = group_.at(first).history.back();
      group_.send(message);
    } else if (name == "propose" || name == "propose-conf-change") {
      return propose(command, output);
    } else if (name == "forget-leader") {
      // There is no such call; often theirs does nothing by it, either.
      const bool done = std::ranges::any_of(command.expected, [](const std::string& text) {
        return text.find(" forgetting leader ") != std::string::npos;
      });
      if (done && !refused_) return fail(Code::kUnsupported, "there is no such call");
    } else if (name != "raft-log" && name != "raft-state" && name != "status") {
      return fail(Code::kUnsupported, "no such command is known here");
    }
    return {};
  }

  void deliver(const Command& command) {
    const std::string kind = command.option("type", "");
    for (const auto& word : command.words) group_.deliver(std::stoi(word), false, kind);
    const auto drop = command.options.find("drop");
    if (drop == command.options.end()) return;
    for (const auto& each : drop->second) group_.deliver(std::stoi(each), true, kind);
  }

  static Result<ConfigChange> change_of(const Command& command) {
    ConfigChange change;
    const std::string transition = command.option("transition", "auto");
    if (transition == "implicit") change.transition = ConfigChange::Transition::kJoint;
    if (transition == "explicit") change.transition = ConfigChange::Transition::kJointAndStay;
    std::istringstream steps(command.input);
    for (std::string step; steps >> step;) {
      const auto kind = std::string("vlr").find(step[0]);
      if (kind == std::string::npos) return fail(Code::kUnsupported, "a step " + step);
      change.steps.push_back(
          {static_cast<ConfigChange::Kind>(kind), NodeId(std::stoi(step.substr(1)))});
    }
    return change;
  }

  Result<void> propose(const Command& command, const Output& output) {
    std::int32_t to = std::stoi(command.words.at(0));
    // A follower of theirs passes it on to its leader.
    const NodeId leader = group_.raft(to).leader();
    if (group_.raft(to).role() != Role::kLeader && leader != kNobody) to = leader.value;
    Raft& raft = group_.raft(to);
    Result<Index> done = Index(0);
    if (command.name == "propose") {
      const std::string& text = command.words.at(1);
      done = raft.propose(SharedBytes(Bytes(text.begin(), text.end())));
    } else {
      PYRALOG_ASSIGN(const ConfigChange change, change_of(command));
      done = raft.propose(change);
    }
    ++comparisons_;
    if (const bool refuses = output.refused || refused_; done.has_value() == refuses) {
      return fail(Code::kInvalidArgument,
                  refuses ? "ours accepts it" : "ours refuses it: " + done.error().message);
    }
    // In place of a change that may not be theirs appends an empty entry.
    if (output.refused && command.name == "propose-conf-change")
      PYRALOG_TRY(raft.propose(SharedBytes()));
    return {};
  }

  void compare_messages(std::size_t line, std::vector<std::string> theirs,
                        std::vector<std::string> ours) {
    split_snapshots(theirs);
    split_snapshots(ours);
    std::ranges::sort(theirs);
    std::ranges::sort(ours);
    std::vector<std::string> lacking, more;
    std::ranges::set_difference(theirs, ours, std::back_inserter(lacking));
    std::ranges::set_difference(ours, theirs, std::back_inserter(more));
    comparisons_ += theirs.size();
    for (const auto& each : lacking) compare(line, about(each), 0, each, std::string("nothing"));
    for (const auto& each : more) compare(line, about(each), 0, std::string("nothing"), each);
  }

  void compare_members(std::size_t line) {
    for (const auto& [id, told] : told_) {
      if (!group_.has(id)) {
        complain(line, "theirs has a member " + std::to_string(id));
        continue;
      }
      Member& member = group_.at(id);
      Raft& raft = *member.raft;
      if (told.role) compare(line, "role", id, *told.role, std::string(name(raft.role())));
      if (told.term) compare(line, "term", id, *told.term, raft.term().value);
      if (told.vote)
        compare(line, "vote", id, *told.vote, static_cast<std::uint64_t>(member.hard.vote.value));
      if (told.commit) compare(line, "commit", id, *told.commit, member.hard.commit.value);
      if (told.applied) compare(line, "applied", id, *told.applied, member.applied);
      if (told.lead)
        compare(line, "lead", id, *told.lead, static_cast<std::uint64_t>(member.lead.value));
      if (told.config) compare(line, "config", id, *told.config, print(raft.config()));
      if (told.last) compare(line, "log", id, *told.last, member.last);
      for (const auto& [index, entry] : told.entries) {
        const auto ours = member.entries.find(index);
        // A snapshot may have brought it.
        if (index <= raft.log().snapshot().index.value) continue;
        compare(line, "log", id, print(index, entry),
                ours == member.entries.end() ? std::string("nothing") : print(index, ours->second));
      }
    }
  }

  void compare_queries(const Command& command, const Output& output) {
    for (const auto& [id, state] : output.states) {
      Raft& raft = group_.raft(id);
      compare(command.line, "role", id, state.role, std::string(name(raft.role())));
      compare(command.line, "config", id, state.voter, raft.config().is_voter(NodeId(id)));
      compare(command.line, "term", id, state.term, raft.term().value);
      compare(command.line, "lead", id, state.lead,
              static_cast<std::uint64_t>(raft.leader().value));
    }
    if (!output.progress.empty()) compare_progress(command, output);
    if (command.name != "raft-log" && command.name != "compact") return;
    Member& member = group_.at(std::stoi(command.words.at(0)));
    const std::int32_t id = std::stoi(command.words.at(0));
    const std::uint64_t last =
        output.log.empty() ? output.last.value_or(0) : output.log.rbegin()->first;
    compare(command.line, "log", id, last, member.disk_last);
    for (const auto& [index, entry] : output.log) {
      const auto ours = member.disk.find(index);
      compare(command.line, "log", id, print(index, entry),
              ours == member.disk.end() ? std::string("nothing") : print(index, ours->second));
    }
  }

  void compare_progress(const Command& command, const Output& output) {
    const std::int32_t self = std::stoi(command.words.at(0));
    const Raft& raft = group_.raft(self);
    for (const auto& [id, theirs] : output.progress) {
      if (id == self) {
        compare(command.line, "progress", id, theirs.match, raft.log().durable().value);
        continue;
      }
      const auto found = raft.progress().find(NodeId(id));
      if (found == raft.progress().end()) {
        compare(command.line, "progress", id, theirs.state, std::string("nothing"));
        continue;
      }
      const Progress& ours = found->second;
      compare(command.line, "progress", id, theirs.state, std::string(name(ours.state())));
      compare(command.line, "progress", id, theirs.match, ours.match().value);
      compare(command.line, "next", id, theirs.next, ours.next().value);
      compare(command.line, "progress", id, theirs.paused, ours.waits());
      compare(command.line, "progress", id, theirs.inactive, !ours.active());
    }
    compare(command.line, "progress", self, output.progress.size(), raft.progress().size() + 1);
  }

  std::string script_;
  std::vector<Rule>& rules_;
  std::map<std::string, Rule*> differs_;
  bool refused_ = false;
  bool quiet_ = false;
  Group group_;
  ToldOfAll told_;
  std::size_t commands_ = 0, comparisons_ = 0, failures_ = 0;
};

/// As the table has it: whole, in part, or not at all.
std::string extent(const std::vector<Rule>& rules) {
  const auto any = [&](std::initializer_list<const char*> verbs) {
    return std::ranges::any_of(rules, [&](const Rule& rule) {
      return std::ranges::any_of(verbs, [&](const char* verb) { return rule.verb == verb; });
    });
  };
  if (any({"none"})) return "not applicable";
  return any({"stop", "refused"}) ? "in part" : "whole";
}

int run(const std::filesystem::path& folder, const std::string& table_file) {
  std::ifstream table_in(table_file);
  auto table = read_table(table_in);
  if (!table || table->empty()) {
    std::cout << table_file << ": " << (table ? "no rows" : table.error().message) << "\n";
    return 1;
  }
  std::size_t passed = 0, failed = 0, comparisons = 0;
  std::map<std::string, std::size_t> extents;
  std::set<std::string> seen;
  std::vector<std::filesystem::path> files;
  for (const auto& each : std::filesystem::directory_iterator(folder)) files.push_back(each.path());
  std::ranges::sort(files);
  for (const auto& path : files) {
    const std::string script = path.filename().string();
    seen.insert(script);
    const auto rules = table->find(script);
    if (rules == table->end()) {
      std::cout << script << ": the table does not name it; add what is replayed of it\n";
      ++failed;
      continue;
    }
    const std::string how = extent(rules->second);
    ++extents[how];
    if (how == "not applicable") continue;
    std::ifstream in(path);
    const auto commands = parse_script(std::string(std::istreambuf_iterator<char>(in), {}));
    if (!commands) {
      std::cout << script << ": " << commands.error().message << "\n";
      ++failed;
      continue;
    }
    Replay replay(script, rules->second);
    replay.run(*commands);
    comparisons += replay.comparisons();
    ++(replay.failures() == 0 ? passed : failed);
    std::cout << script << ": " << how << ", " << replay.commands() << " of " << commands->size()
              << " commands, " << replay.comparisons() << " comparisons, " << replay.failures()
              << " differences\n";
  }
  for (const auto& [script, rules] : *table) {
    if (seen.contains(script)) continue;
    std::cout << script << ": the table names it, but there is no such script\n";
    ++failed;
  }
  std::cout << extents["whole"] << " whole, " << extents["in part"] << " in part, "
            << extents["not applicable"] << " not applicable, " << comparisons << " comparisons\n"
            << passed << " passed, " << failed << " failed\n";
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace
}  // namespace pyralog::raft::interop

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: raft_interop SCRIPTS TABLE\n", stderr);
    return 2;
  }
  return pyralog::raft::interop::run(argv[1], argv[2]);
}
