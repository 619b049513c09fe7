#include "raft/config.h"

#include <algorithm>
#include <string>

#include "base/plant.h"

namespace pyralog::raft {

namespace {

using Nodes = std::vector<NodeId>;

bool contains(const Nodes& nodes, NodeId node) {
  return std::ranges::binary_search(nodes, node);
}

void insert(Nodes& nodes, NodeId node) {
  const auto at = std::ranges::lower_bound(nodes, node);
  if (at == nodes.end() || *at != node) nodes.insert(at, node);
}

void remove(Nodes& nodes, NodeId node) {
  std::erase(nodes, node);
}

/// The greatest index that a majority of `voters` has reached; the greatest of all for none, so
/// that it decides nothing.
Index agreed_by(const Nodes& voters, const std::function<Index(NodeId)>& match) {
  if (voters.empty()) return Index(UINT64_MAX);
  std::vector<Index> reached;
  reached.reserve(voters.size());
  for (const NodeId node : voters) reached.push_back(match(node));
  std::ranges::sort(reached, std::greater());
  const std::size_t needed =
      PYRALOG_PLANT("raft.half_is_enough") ? voters.size() / 2 : voters.size() / 2 + 1;
  return reached[needed - (needed > 0 ? 1 : 0)];
}

Tally tally_of(const Nodes& voters, const std::map<NodeId, bool>& votes) {
  if (voters.empty()) return Tally::kWon;
  std::size_t granted = 0;
  std::size_t open = 0;
  for (const NodeId node : voters) {
    const auto vote = votes.find(node);
    if (vote == votes.end()) {
      ++open;
    } else if (vote->second) {
      ++granted;
    }
  }
  const std::size_t needed = voters.size() / 2 + 1;
  if (granted >= needed) return Tally::kWon;
  return granted + open >= needed ? Tally::kPending : Tally::kLost;
}

std::unexpected<Error> refuse(std::string why) {
  return fail(Code::kInvalidArgument, "change of a Raft group: " + std::move(why));
}

/// Takes one step on the incoming side of `config`.
void take(Config& config, const ConfigChange::Step& step) {
  switch (step.kind) {
    case ConfigChange::Kind::kAddVoter:
      insert(config.voters, step.node);
      remove(config.learners, step.node);
      remove(config.next_learners, step.node);
      break;
    case ConfigChange::Kind::kAddLearner:
      remove(config.voters, step.node);
      // Who still votes in the outgoing majority cannot be a learner at the same time.
      if (contains(config.outgoing, step.node)) {
        insert(config.next_learners, step.node);
      } else {
        insert(config.learners, step.node);
      }
      break;
    case ConfigChange::Kind::kRemove:
      remove(config.voters, step.node);
      remove(config.learners, step.node);
      remove(config.next_learners, step.node);
      break;
  }
}

std::size_t voters_changed(const Config& before, const Config& after) {
  std::size_t count = 0;
  for (const NodeId node : before.voters) count += contains(after.voters, node) ? 0U : 1U;
  for (const NodeId node : after.voters) count += contains(before.voters, node) ? 0U : 1U;
  return count;
}

constexpr std::uint8_t kVersion = 1;
/// Nobody has more members; it bounds what is read.
constexpr std::size_t kMaxMembers = 1'000;

void put(Bytes& out, NodeId node) {
  out.resize(out.size() + 4);
  store_be(out.data() + out.size() - 4, node.value);
}

void put(Bytes& out, const Nodes& nodes) {
  out.resize(out.size() + 2);
  store_be(out.data() + out.size() - 2, static_cast<std::uint16_t>(nodes.size()));
  for (const NodeId node : nodes) put(out, node);
}

/// Reads what `put` wrote, and nothing beyond its end.
class In {
 public:
  explicit In(ByteView bytes) : bytes_(bytes) {}
  std::uint8_t byte() {
    if (!has(1)) return 0;
    return bytes_[at_++];
  }
  NodeId node() {
    if (!has(4)) return kNobody;
    at_ += 4;
    const NodeId node(load_be<std::int32_t>(bytes_.data() + at_ - 4));
    bad_ = bad_ || node.value < 1;
    return node;
  }
  std::size_t count(std::size_t each) {
    if (!has(2)) return 0;
    at_ += 2;
    const std::size_t count = load_be<std::uint16_t>(bytes_.data() + at_ - 2);
    if (count > kMaxMembers || !has(count * each)) return 0;
    return count;
  }
  Nodes nodes() {
    Nodes out(count(4));
    for (NodeId& each : out) each = node();
    bad_ = bad_ || std::ranges::adjacent_find(out, std::greater_equal()) != out.end();
    return out;
  }
  [[nodiscard]] bool good() const { return !bad_ && at_ == bytes_.size(); }

 private:
  bool has(std::size_t count) {
    bad_ = bad_ || bytes_.size() - at_ < count;
    return !bad_;
  }
  ByteView bytes_;
  std::size_t at_ = 0;
  bool bad_ = false;
};

Result<void> check_version(ByteView bytes, const char* what) {
  if (bytes.empty())
    return fail(Code::kCorrupt, std::string(what) + " of a Raft group: it is empty");
  if (bytes[0] <= kVersion && bytes[0] != 0) return {};
  return fail(Code::kUnsupported, std::string(what) + " of a Raft group has version " +
                                      std::to_string(bytes[0]) + ", this program knows " +
                                      std::to_string(kVersion) + "; update it");
}

}  // namespace

bool Config::is_voter(NodeId node) const {
  return contains(voters, node) || contains(outgoing, node);
}
bool Config::is_learner(NodeId node) const {
  return contains(learners, node);
}
bool Config::has(NodeId node) const {
  return is_voter(node) || is_learner(node);
}

std::vector<NodeId> Config::all() const {
  Nodes nodes = voters;
  for (const NodeId node : outgoing) insert(nodes, node);
  for (const NodeId node : learners) insert(nodes, node);
  return nodes;
}

Bytes encode(const ConfigChange& change) {
  PYRALOG_ASSERT(change.steps.size() <= kMaxMembers);
  Bytes out{kVersion, static_cast<std::uint8_t>(change.transition)};
  out.resize(4);
  store_be(out.data() + 2, static_cast<std::uint16_t>(change.steps.size()));
  for (const auto& step : change.steps) {
    out.push_back(static_cast<std::uint8_t>(step.kind));
    put(out, step.node);
  }
  return out;
}

Result<ConfigChange> decode_config_change(ByteView bytes) {
  PYRALOG_TRY(check_version(bytes, "a change"));
  In in(bytes.subspan(1));
  ConfigChange change;
  const std::uint8_t transition = in.byte();
  change.transition = static_cast<ConfigChange::Transition>(transition);
  change.steps.resize(in.count(5));
  bool known = transition <= static_cast<std::uint8_t>(ConfigChange::Transition::kJointAndStay);
  for (auto& step : change.steps) {
    const std::uint8_t kind = in.byte();
    known = known && kind <= static_cast<std::uint8_t>(ConfigChange::Kind::kRemove);
    step.kind = static_cast<ConfigChange::Kind>(kind);
    step.node = in.node();
  }
  if (!in.good() || !known) return fail(Code::kCorrupt, "a change of a Raft group cannot be read");
  return change;
}

Bytes encode(const Config& config) {
  Bytes out{kVersion, static_cast<std::uint8_t>(config.leaves_by_itself ? 1 : 0)};
  put(out, config.voters);
  put(out, config.outgoing);
  put(out, config.learners);
  put(out, config.next_learners);
  return out;
}

Result<Config> decode_config(ByteView bytes) {
  PYRALOG_TRY(check_version(bytes, "the members"));
  In in(bytes.subspan(1));
  Config config;
  const std::uint8_t leaves = in.byte();
  config.leaves_by_itself = leaves == 1;
  config.voters = in.nodes();
  config.outgoing = in.nodes();
  config.learners = in.nodes();
  config.next_learners = in.nodes();
  if (!in.good() || leaves > 1)
    return fail(Code::kCorrupt, "the members of a Raft group cannot be read");
  return config;
}

Result<Config> changed(const Config& config, const ConfigChange& change) {
  if (change.steps.empty()) {
    if (!config.joint()) return refuse("there is no joint phase to end");
    Config next = config;
    for (const NodeId node : next.next_learners) insert(next.learners, node);
    next.next_learners.clear();
    next.outgoing.clear();
    next.leaves_by_itself = false;
    return next;
  }
  if (config.joint()) return refuse("another one is under way; end its joint phase first");
  Nodes named;
  for (const auto& step : change.steps) {
    if (step.node.value < 1) return refuse("a node's number must be above 0");
    if (contains(named, step.node))
      return refuse("node " + std::to_string(step.node.value) + " is named twice");
    insert(named, step.node);
  }
  Config next = config;
  for (const auto& step : change.steps) take(next, step);
  if (next.voters.empty()) return refuse("no voter would be left");
  const bool simple =
      change.transition == ConfigChange::Transition::kAuto && voters_changed(config, next) <= 1;
  if (simple || PYRALOG_PLANT("raft.never_joint")) return next;
  // Anew, with the present voters as the outgoing side: it decides who may be a learner already.
  next = config;
  next.outgoing = config.voters;
  for (const auto& step : change.steps) take(next, step);
  next.leaves_by_itself = change.transition != ConfigChange::Transition::kJointAndStay;
  return next;
}

Index agreed(const Config& config, const std::function<Index(NodeId)>& match) {
  return std::min(agreed_by(config.voters, match), agreed_by(config.outgoing, match));
}

bool is_majority(const Config& config, const std::function<bool(NodeId)>& holds) {
  std::map<NodeId, bool> votes;
  for (const NodeId node : config.all()) votes[node] = holds(node);
  return tally(config, votes) == Tally::kWon;
}

Tally tally(const Config& config, const std::map<NodeId, bool>& votes) {
  const Tally incoming = tally_of(config.voters, votes);
  const Tally outgoing = tally_of(config.outgoing, votes);
  if (incoming == Tally::kLost || outgoing == Tally::kLost) return Tally::kLost;
  return incoming == Tally::kWon && outgoing == Tally::kWon ? Tally::kWon : Tally::kPending;
}

}  // namespace pyralog::raft
