#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "raft/types.h"

namespace pyralog::raft::interop {

/// One command of a script, and what etcd's implementation printed.
struct Command {
  std::size_t line = 0;
  std::string name;
  std::vector<std::string> words;                           ///< arguments without a value
  std::map<std::string, std::vector<std::string>> options;  ///< `key=value` and `key=(a,b)`
  std::string input;                                        ///< what stands before the `----`
  std::vector<std::string> expected;                        ///< lines, without what they begin with

  [[nodiscard]] std::string option(const std::string& key, const std::string& otherwise) const;
  [[nodiscard]] bool flag(const std::string& key) const { return option(key, "") == "true"; }
};

/// Commands, each with its output behind `----` up to an empty line. kInvalidArgument names the
/// line that cannot be read.
[[nodiscard]] Result<std::vector<Command>> parse_script(std::string_view text);

struct PrintedEntry {
  std::uint64_t term = 0;
  std::string data;  ///< in quotes; `change` for a change of the group
  friend bool operator==(const PrintedEntry&, const PrintedEntry&) = default;
};

/// What is known of one member from all that has been printed. Other things are not known: either
/// nothing was printed of them yet, or something has happened since that was not printed.
struct Told {
  std::optional<std::string> role;  ///< Follower, PreCandidate, Candidate, Leader
  std::optional<std::uint64_t> term;
  std::optional<std::uint64_t> vote;  ///< as of its last Ready, like the following
  std::optional<std::uint64_t> commit;
  std::optional<std::uint64_t> applied;  ///< or handed out to be
  std::optional<std::uint64_t> lead;
  std::optional<std::string> config;  ///< as print() words it
  std::optional<std::uint64_t> last;
  std::map<std::uint64_t, PrintedEntry> entries;
};
using ToldOfAll = std::map<std::int32_t, Told>;

/// What one output says beside that.
struct Output {
  struct State {
    std::string role;
    bool voter = false;
    std::uint64_t term = 0, lead = 0;
  };
  struct Sending {
    std::string state;  ///< Probe, Replicate, Snapshot
    std::uint64_t match = 0, next = 0;
    bool paused = false, inactive = false;
  };
  std::set<std::int32_t> synced;              ///< whose Ready was to be synced
  std::vector<std::string> sent;              ///< messages to other members
  std::map<std::int32_t, State> states;       ///< of raft-state
  std::map<std::int32_t, Sending> progress;   ///< of status
  std::map<std::uint64_t, PrintedEntry> log;  ///< of raft-log and compact
  std::optional<std::uint64_t> last;          ///< of an empty log
  bool refused = false;  ///< a proposal, or a change, which an empty entry stands for then
};

/// Reads what `command` has printed into `told` and the rest. kInvalidArgument for a line that is
/// none of those known.
[[nodiscard]] Result<Output> read_output(const Command& command, ToldOfAll& told);

[[nodiscard]] std::string print(const Config& config);
[[nodiscard]] std::string print(std::uint64_t index, const PrintedEntry& entry);

}  // namespace pyralog::raft::interop
