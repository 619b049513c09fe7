#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "raft/types.h"

namespace pyralog::raft {

/// A change of who takes part (joint consensus, Ongaro's thesis §4.3). No steps at all = the joint
/// phase is to end.
struct ConfigChange {
  enum class Kind : std::uint8_t { kAddVoter, kAddLearner, kRemove };
  enum class Transition : std::uint8_t {
    kAuto,   ///< directly if at most one voter comes or goes, otherwise jointly, and out of it
    kJoint,  ///< jointly; the leader ends the joint phase by itself
    kJointAndStay,  ///< jointly; another change, with no steps, ends the joint phase
  };
  struct Step {
    Kind kind = Kind::kAddVoter;
    NodeId node = kNobody;
    friend bool operator==(const Step&, const Step&) = default;
  };
  Transition transition = Transition::kAuto;
  std::vector<Step> steps{};
  friend bool operator==(const ConfigChange&, const ConfigChange&) = default;
};

/// As an entry's data. decode: kCorrupt, kUnsupported (a newer version).
[[nodiscard]] Bytes encode(const ConfigChange& change);
[[nodiscard]] Result<ConfigChange> decode_config_change(ByteView bytes);
/// As part of a snapshot.
[[nodiscard]] Bytes encode(const Config& config);
[[nodiscard]] Result<Config> decode_config(ByteView bytes);

/// The configuration after `change`. kInvalidArgument, with the reason, if it may not follow on
/// `config`: a joint phase within one, the end of none, no voter left, a node named twice.
[[nodiscard]] Result<Config> changed(const Config& config, const ConfigChange& change);

/// The greatest index that a majority (of each, while joint) has reached, as `match` says of each
/// voter.
[[nodiscard]] Index agreed(const Config& config, const std::function<Index(NodeId)>& match);
/// Whether those of whom `holds` is true are a majority (of each, while joint).
[[nodiscard]] bool is_majority(const Config& config, const std::function<bool(NodeId)>& holds);

enum class Tally : std::uint8_t { kPending, kWon, kLost };
[[nodiscard]] Tally tally(const Config& config, const std::map<NodeId, bool>& votes);

}  // namespace pyralog::raft
