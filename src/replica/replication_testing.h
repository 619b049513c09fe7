#pragma once
// One partition on some nodes with disks, a network and a catalogue that all misbehave, in one
// thread and virtual time. For the tests of this room.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "catalog/catalog.h"
#include "replica/following.h"
#include "replica/leading.h"
#include "replica/messages.h"
#include "replica/recovery.h"

namespace pyralog::replica::testing {

/// What the seeds have met; a kind that none has is a test that tests nothing.
struct Seen {
  std::uint64_t commits = 0, reads = 0, refused_writes = 0, crashes = 0, power_losses = 0,
                lost_suffixes = 0, cuts = 0, restarts_of_logs = 0, fenced_leaders = 0,
                fenced_seals = 0, recoveries = 0, copied = 0, aborted = 0, refused_activations = 0,
                lost_answers = 0, activated_unknown = 0, wiped = 0, wiped_caught_up = 0,
                changed_sets = 0, changed_quorums = 0, rivals = 0, doubts = 0, doubts_over = 0,
                from_what_there_is = 0, unclean = 0, gaps = 0, trims = 0, rejoined = 0, sealed = 0;
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, Seen& seen);
  /// Runs with faults, then without until all is well again.
  void run(int steps);
  /// Empty: every promise was kept.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct Record {
    Epoch epoch;
    std::uint64_t value = 0;
    friend bool operator==(const Record&, const Record&) = default;
  };
  using Records = std::vector<Record>;
  struct Carried {
    Append append;
    Records records;
  };
  struct Range {
    ReadRange range;
    bool given = false;
    Records records;
  };
  using Body = std::variant<Seal, SealAnswer, Carried, AppendReply, ReadRange, Range>;
  struct Message {
    NodeId from;
    NodeId to;
    int due = 0;
    Body body;
  };
  struct Proposal {
    NodeId from;
    std::uint64_t life = 0;
    int due = 0;
    catalog::Entry entry;
  };
  struct Answer {
    NodeId to;
    std::uint64_t life = 0;
    int due = 0;
    catalog::Entry entry;
    std::size_t view = 0;
    std::optional<Error> error;
  };
  struct Write {
    Offset at;
    Record record;
  };
  struct Node {
    NodeId id;
    Uuid incarnation;
    std::uint64_t boot = 0;
    std::uint64_t life = 0;  ///< of all incarnations
    int down_for = 0;
    bool lost_something = false;  ///< the machine went down
    // The disk: records, how far they are synced, the promise.
    Offset first;
    Records log;
    Offset synced;
    Promise promise;
    // The process.
    std::optional<Following> following;
    std::optional<Recovery> recovery;
    std::optional<Leading> leading;
    std::deque<Promise> storing;
    std::optional<Following::Cut> cutting;
    std::optional<Offset> syncing;
    std::size_t view = 0;
    std::optional<Epoch> proposed;
    int proposed_at = 0;
    int recovering_since = 0;
    int heard = 0;  ///< of a leader
    int patience = 0;
    std::vector<Write> writes;
    [[nodiscard]] bool up() const { return following.has_value(); }
    [[nodiscard]] Offset end() const {
      return Offset(first.value + static_cast<std::int64_t>(log.size()));
    }
    [[nodiscard]] const Record& at(Offset offset) const {
      return log.at(static_cast<std::size_t>(offset.value - first.value));
    }
  };

  double unit() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  bool chance(double p) { return unit() < p; }
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  Node& any() { return nodes_[below(nodes_.size())]; }
  Node& node(NodeId id) { return nodes_[static_cast<std::size_t>(id.value - 1)]; }
  [[nodiscard]] Instant now() const { return Instant{now_ * 1'000'000LL}; }
  void fail(const std::string& why);
  [[nodiscard]] std::string state() const;

  // replication_testing.cc: the world
  void start(Node& n);
  void crash(Node& n, bool power);
  void wipe(Node& n);
  [[nodiscard]] bool may_wipe(const Node& n) const;
  [[nodiscard]] History history(const Node& n) const;
  void crash_with_leader(Node& n);
  void make_trouble();
  void step(bool faults);
  void send(NodeId from, NodeId to, Body body);
  void deliver();
  void store(Node& n, const Promise& promise);
  void disks(Node& n, bool faults);
  void propose(Node& n, catalog::Entry entry);
  void metadata();
  [[nodiscard]] const catalog::Partition& partition(std::size_t view) const;
  [[nodiscard]] bool all_is_well(std::uint64_t before);

  // replication_node_testing.cc: one node's edge
  void receive(Node& n, Message& message);
  void apply(Node& n, const Following::Effects& effects, const Records& records);
  void apply(Node& n, const Recovery::Effects& effects, const Records& records);
  void take(Node& n, const Following::Effects& effects, const Records& records);
  void reply_to_self(Node& n, const AppendReply& reply);
  void answered(Node& n, const Answer& answer);
  void look(Node& n);
  void campaign(Node& n, bool faults);
  void recover(Node& n, std::size_t view);
  void drive(Node& n);
  void feed(Node& n, Leading& leading);
  void lead(Node& n);
  void stop_leading(Node& n);
  void client(Node& n, bool faults);
  void activated(Node& n);
  void know(const Node& n, Offset at);

  std::mt19937_64 random_;
  Seen& seen_;
  std::uint64_t seed_;
  bool synced_topic_ = true;  ///< durability fsync; else os
  bool unclean_ = false;      ///< disks are lost beyond what the quorum bears
  bool calm_ = false;
  double loss_ = 0;
  double doubles_ = 0;
  double slow_disk_ = 0.3;
  double trouble_ = 0.004;
  double rivalry_ = 0.0004;
  int now_ = 0;
  std::string failure_;
  std::vector<Node> nodes_;
  std::vector<catalog::Catalog> catalogs_;  ///< by position
  std::vector<Proposal> proposals_;
  std::vector<Answer> answers_;
  std::vector<Message> flying_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  PartitionId id_;
  std::uint64_t values_ = 0;
  std::uint8_t disks_made_ = 0;
  Epoch lossy_;                     ///< the newest epoch that began uncleanly
  std::map<Offset, Record> known_;  ///< what somebody was told
  std::map<std::pair<Epoch, Offset>, std::uint64_t> wrote_;  ///< what leaders appended
  std::map<Epoch, std::uint64_t> leaders_;                   ///< → life
};

}  // namespace pyralog::replica::testing
