#include "raft/interop_script_testing.h"

#include <array>
#include <regex>
#include <sstream>
#include <utility>

namespace pyralog::raft::interop {

namespace {

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::unexpected<Error> refuse(std::size_t line, const std::string& why) {
  return fail(Code::kInvalidArgument, "line " + std::to_string(line) + ": " + why);
}

/// `name word key=value key=(a,b)`.
Command parse_command(std::size_t line, const std::string& text) {
  Command command;
  command.line = line;
  static const std::regex kWord(R"(([^\s=]+)=\(([^)]*)\)|([^\s=]+)=(\S+)|(\S+))");
  for (std::sregex_iterator it(text.begin(), text.end(), kWord), end; it != end; ++it) {
    if ((*it)[1].matched) {
      std::string all = (*it)[2];
      for (char& c : all) c = c == ',' ? ' ' : c;
      std::istringstream values(all);
      for (std::string value; values >> value;) command.options[(*it)[1]].push_back(value);
    } else if ((*it)[3].matched) {
      command.options[(*it)[3]].push_back((*it)[4]);
    } else if (command.name.empty()) {
      command.name = (*it)[5];
    } else {
      command.words.push_back((*it)[5]);
    }
  }
  return command;
}

std::int32_t to_node(const std::string& text) {
  return static_cast<std::int32_t>(std::stol(text));
}

/// Goes through the lines of one output.
class Reader {
 public:
  Reader(const Command& command, ToldOfAll& told) : command_(command), told_(told) {
    if (command.name == "process-ready" && command.words.size() == 1) at(command.words[0]);
  }

  Result<Output> read() {
    for (; line_ < command_.expected.size(); ++line_) {
      const std::string& text = command_.expected[line_];
      if (header(text) || message(text) || ready(text) || event(text) || query(text) || noise(text))
        continue;
      return refuse(command_.line,
                    "the output of " + command_.name + " has a line unknown here: " + text);
    }
    return std::move(out_);
  }

 private:
  enum class Part : std::uint8_t { kNone, kEntries, kCommitted, kMessages };

  void at(const std::string& node) {
    id_ = to_node(node);
    member_ = &told_[id_];
  }
  bool matches(const std::string& text, const std::regex& pattern) {
    return std::regex_match(text, found_, pattern);
  }
  [[nodiscard]] std::uint64_t number(std::size_t group) const {
    return found_[group].matched ? std::stoull(found_[group].str()) : 0;
  }

  bool header(const std::string& text) {
    static const std::regex kHeader(
        R"(> (\d+) (handling Ready|receiving messages|processing append thread|processing apply thread))");
    if (!matches(text, kHeader)) return false;
    at(found_[1]);
    part_ = Part::kNone;
    return true;
  }

  static std::optional<std::pair<std::uint64_t, PrintedEntry>> entry(const std::string& text) {
    static const std::regex kEntry(
        R"((\d+)/(\d+) (EntryNormal|EntryConfChange|EntryConfChangeV2)(.*))");
    std::smatch found;
    if (!std::regex_match(text, found, kEntry)) return std::nullopt;
    PrintedEntry out{std::stoull(found[1]),
                     found[3] == "EntryNormal" ? trimmed(found[4]) : "change"};
    return std::pair{std::stoull(found[2]), std::move(out)};
  }

  /// A message, delivered, dropped or sent, with the lines that belong to it.
  bool message(const std::string& text) {
    static const std::regex kMessage(
        R"((dropped: )?(\d+|AppendThread|ApplyThread)->(\d+|AppendThread|ApplyThread) )"
        R"((Msg\w+)( Term:.*?)( Entries:\[(.*?\])?)?( Responses:\[)?)");
    if (!matches(text, kMessage)) return false;
    const std::string from = found_[2], to = found_[3], kind = found_[4];
    std::string words = from + "->" + to + " " + kind + found_[5].str();
    bool more = found_[6].matched && !found_[7].matched;
    const bool responses = found_[8].matched;
    if (found_[7].matched) {
      const std::string one = found_[7];
      add(words, one.substr(0, one.size() - 1));
    }
    bool tail = responses;
    while (more) {
      const std::string& next = command_.expected.at(++line_);
      more = !next.starts_with("]");
      tail = next == "] Responses:[";
      if (more) add(words, next);
    }
    // What is sent once this is stored is printed again then.
    for (int depth = tail ? 1 : 0; depth > 0;) {
      const std::string& next = command_.expected.at(++line_);
      if (next.ends_with("[")) ++depth;
      if (next.starts_with("]")) --depth;
    }
    if (line_ + 1 < command_.expected.size() &&
        command_.expected[line_ + 1].starts_with("Snapshot: ")) {
      words += " " + command_.expected[++line_];
    }
    const bool thread = from.ends_with("Thread") || to.ends_with("Thread") || from == to;
    if (part_ == Part::kMessages && !thread && kind != "MsgProp")
      out_.sent.push_back(std::move(words));
    return true;
  }
  static void add(std::string& words, const std::string& text) {
    const auto each = entry(text);
    words += each ? " " + print(each->first, each->second) : " ?" + text;
  }

  bool ready(const std::string& text) {
    static const std::regex kLead(R"(Lead:(\d+) State:State(\w+))");
    static const std::regex kHard(R"(HardState Term:(\d+)(?: Vote:(\d+))? Commit:(\d+))");
    static const std::regex kSnapshot(R"(Snapshot Index:(\d+) Term:(\d+) .*)");
    if (text.starts_with("Ready MustSync=") || text == "<empty Ready>" || text == "Processing:") {
      part_ = Part::kNone;
      if (text == "Ready MustSync=true:") out_.synced.insert(id_);
      return true;
    }
    if (text == "Messages:" || text == "Responses:") {
      part_ = Part::kMessages;
      return true;
    }
    if (text == "Entries:" || text == "CommittedEntries:") {
      part_ = text == "Entries:" ? Part::kEntries : Part::kCommitted;
      return true;
    }
    if (member_ == nullptr) return false;
    if (matches(text, kLead)) {
      member_->lead = number(1);
      member_->role = found_[2];
      return true;
    }
    if (matches(text, kHard)) {
      member_->term = number(1);
      member_->vote = number(2);
      member_->commit = number(3);
      return true;
    }
    if (matches(text, kSnapshot)) {
      member_->entries.clear();
      member_->last = member_->applied = number(1);
      return true;
    }
    const auto each =
        part_ == Part::kEntries || part_ == Part::kCommitted ? entry(text) : std::nullopt;
    if (!each) return false;
    if (part_ == Part::kEntries) {
      member_->entries.erase(member_->entries.lower_bound(each->first), member_->entries.end());
      member_->last = each->first;
      member_->entries.insert(*each);
    } else {
      member_->applied = each->first;
    }
    return true;
  }

  bool event(const std::string& text) {
    static const std::regex kBecame(
        R"(INFO (\d+) became (follower|candidate|pre-candidate|leader) at term (\d+))");
    static const std::regex kConfig(R"(INFO (\d+) switched to configuration (.*))");
    static const std::regex kNew(
        R"(INFO newRaft (\d+) \[peers: .*, term: (\d+), commit: (\d+), applied: (\d+), lastindex: (\d+), .*)");
    static const std::map<std::string, std::string> kRoles = {{"follower", "Follower"},
                                                              {"candidate", "Candidate"},
                                                              {"pre-candidate", "PreCandidate"},
                                                              {"leader", "Leader"}};
    if (matches(text, kBecame)) {
      Told& told = told_[to_node(found_[1])];
      told.role = kRoles.at(found_[2]);
      told.term = number(3);
      return true;
    }
    if (matches(text, kConfig)) {
      told_[to_node(found_[1])].config = found_[2];
      return true;
    }
    if (matches(text, kNew)) {
      Told& told = told_[to_node(found_[1])];
      told.term = number(2);
      told.commit = number(3);
      told.applied = number(4);
      told.last = number(5);
      return true;
    }
    if (text == "raft proposal dropped" ||
        text.find(" ignoring conf change ") != std::string::npos) {
      out_.refused = true;
      return true;
    }
    return false;
  }

  bool query(const std::string& text) {
    static const std::regex kState(
        R"((\d+): State(\w+) \((Voter|Non-Voter)\) Term:(\d+) Lead:(\d+))");
    static const std::regex kProgress(R"((\d+): State(\w+) match=(\d+) next=(\d+)(.*))");
    static const std::regex kEmpty(R"(log is empty: first index=\d+, last index=(\d+))");
    if (matches(text, kState)) {
      out_.states[to_node(found_[1])] = {found_[2], found_[3] == "Voter", number(4), number(5)};
      told_[to_node(found_[1])].role = found_[2];
      told_[to_node(found_[1])].term = number(4);
      return true;
    }
    if (matches(text, kProgress)) {
      const std::string rest = found_[5];
      out_.progress[to_node(found_[1])] = {found_[2], number(3), number(4),
                                           rest.find("paused") != std::string::npos,
                                           rest.find("inactive") != std::string::npos};
      return true;
    }
    if (matches(text, kEmpty)) {
      out_.last = number(1);
      return true;
    }
    const auto each =
        command_.name == "raft-log" || command_.name == "compact" ? entry(text) : std::nullopt;
    if (each) out_.log.insert(*each);
    return each.has_value();
  }

  /// What says nothing that is compared, or says again what a message does.
  static bool noise(const std::string& text) {
    static constexpr std::array kPrefixes = {
        "DEBUG ",
        "INFO found conflict at index ",
        "INFO replace the unstable entries from index ",
        "INFO log [committed=",
        "INFO initiating automatic transition out of joint configuration ",
        "INFO entry at ",
        "ERROR ignoring MsgForgetLeader due to ReadOnlyLeaseBased"};
    static const std::regex kOfMember(
        R"((INFO|WARN) \d+ (\[|is starting a new election at term|received |has received |)"
        R"(no leader at |forgetting leader |sends MsgTimeoutNow |is unpromotable |stepped down ).*)");
    if (text == "ok" || text == "no messages" || text == "raft: cannot step as peer not found")
      return true;
    for (const char* prefix : kPrefixes) {
      if (text.starts_with(prefix)) return true;
    }
    return std::regex_match(text, kOfMember);
  }

  const Command& command_;
  ToldOfAll& told_;
  std::int32_t id_ = 0;
  Told* member_ = nullptr;
  Part part_ = Part::kNone;
  std::size_t line_ = 0;
  std::smatch found_;
  Output out_;
};

std::string list(const std::vector<NodeId>& nodes) {
  std::string out = "(";
  for (const NodeId node : nodes) out += (out.size() > 1 ? " " : "") + std::to_string(node.value);
  return out + ")";
}

}  // namespace

std::string Command::option(const std::string& key, const std::string& otherwise) const {
  const auto found = options.find(key);
  return found == options.end() || found->second.empty() ? otherwise : found->second.front();
}

Result<std::vector<Command>> parse_script(std::string_view text) {
  std::vector<Command> commands;
  std::istringstream in{std::string(text)};
  enum class Part : std::uint8_t { kBetween, kInput, kOutput } part = Part::kBetween;
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string words = trimmed(line);
    switch (part) {
      case Part::kBetween:
        if (words.empty() || words.starts_with("#")) break;
        if (words == "----") return refuse(number, "an output without a command");
        commands.push_back(parse_command(number, words));
        part = Part::kInput;
        break;
      case Part::kInput:
        if (words == "----") {
          part = Part::kOutput;
        } else {
          commands.back().input += words + "\n";
        }
        break;
      case Part::kOutput:
        if (words == "----")
          return refuse(number, "an output with empty lines, which no script had");
        if (words.empty()) {
          part = Part::kBetween;
        } else {
          commands.back().expected.push_back(words);
        }
        break;
    }
  }
  if (part == Part::kInput) return refuse(number, "a command without an output");
  return commands;
}

Result<Output> read_output(const Command& command, ToldOfAll& told) {
  return Reader(command, told).read();
}

std::string print(const Config& config) {
  std::string out = "voters=" + list(config.voters);
  if (config.joint()) out += "&&" + list(config.outgoing);
  if (!config.learners.empty()) out += " learners=" + list(config.learners);
  if (!config.next_learners.empty()) out += " learners_next=" + list(config.next_learners);
  if (config.leaves_by_itself) out += " autoleave";
  return out;
}

std::string print(std::uint64_t index, const PrintedEntry& entry) {
  return std::to_string(entry.term) + "/" + std::to_string(index) + " " + entry.data;
}

}  // namespace pyralog::raft::interop
