// Clients that come, go, fall silent and are replaced, against a coordinator that restarts and
// whose log sometimes refuses; whatever the schedule, the promises of the protocol hold.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "group/group_testing.h"

namespace pyralog::group {
namespace {

using namespace testing;

int pick(int below) {
  return *rc::gen::inRange(0, below);
}

/// A client as the real ones behave: join, sync, heartbeat, rejoin when told.
struct Client {
  int number = 0;
  std::optional<std::string> instance;
  bool alive = true;
  std::string member_id;
  std::int32_t generation = -1;
  bool needs_join = true;
  bool stable = false;  ///< holds an assignment of `generation`
  std::optional<Token> joining;
  std::optional<Token> syncing;
  std::vector<std::string> leads;  ///< whom it is to assign to, if it leads
};

class World {
 public:
  World() : c_(Options{.initial_rebalance_delay_ms = 100}) {}

  void random_step() {
    switch (pick(13)) {
      case 0:
        if (clients_.size() < 6) add();
        break;
      case 1:
        kill();
        break;
      case 2:
        replace_static();
        break;
      case 3:
        c_.hold = !c_.hold && pick(2) == 0;
        break;
      case 4:
        c_.release(pick(4) == 0 ? KafkaError::kNotEnoughReplicas : KafkaError::kNone);
        break;
      case 5:
        if (pick(4) == 0) restart();
        break;
      case 6:
        c_.pass(pick(4'000));
        break;
      case 7:
        leave();
        break;
      case 8:
        commit();
        break;
      case 9:
        stale_commit();
        break;
      default:
        advance_one();
        break;
    }
    read_answers();
    check();
  }

  /// Clients do what they should, nothing fails any more: all of them end in one generation.
  void settle() {
    c_.hold = false;
    c_.release();
    read_answers();
    for (int round = 0; round < 400; ++round) {
      for (Client& m : clients_) {
        if (m.alive) advance(m);
        read_answers();
      }
      c_.pass(500);
      read_answers();
      check();
    }
    std::set<std::int32_t> generations;
    std::size_t alive = 0;
    for (const Client& m : clients_) {
      if (!m.alive) continue;
      ++alive;
      RC_ASSERT(m.stable);
      generations.insert(m.generation);
    }
    const GroupDescription d = c_.table().describe("g");
    if (alive == 0) {
      RC_ASSERT(d.state == "Empty" || d.state == "Dead");
      return;
    }
    RC_ASSERT(generations.size() == 1u);
    RC_ASSERT(d.state == "Stable");
    RC_ASSERT(d.members.size() == alive);
  }

 private:
  Client* any() {
    if (clients_.empty()) return nullptr;
    Client& m = clients_[static_cast<std::size_t>(pick(static_cast<int>(clients_.size())))];
    return m.alive ? &m : nullptr;
  }
  void add() {
    Client m;
    m.number = next_client_++;
    if (pick(3) == 0) m.instance = "i" + std::to_string(m.number);
    clients_.push_back(std::move(m));
  }
  void kill() {
    Client* m = any();
    if (m != nullptr && pick(2) == 0) m->alive = false;
  }
  /// A static member's process dies and another takes its instance id.
  void replace_static() {
    Client* m = any();
    if (m == nullptr || !m->instance) return;
    m->alive = false;
    Client next;
    next.number = next_client_++;
    next.instance = m->instance;
    clients_.push_back(std::move(next));
  }
  void restart() {
    c_.hold = false;
    c_.restart();
  }
  void leave() {
    Client* m = any();
    if (m == nullptr || m->member_id.empty() || m->instance || pick(3) > 0) return;
    c_.feed(testing::leave(token_++, m->member_id));
    m->alive = false;
  }

  void commit() {
    Client* m = any();
    if (m == nullptr || m->member_id.empty()) return;
    CommitRequest r = testing::commit(token_++, m->generation, m->member_id, next_offset_++);
    r.instance_id = m->instance;
    send(r);
  }
  /// A commit of a generation that is over, under a member id that may still be valid.
  void stale_commit() {
    Client* m = any();
    if (m == nullptr || m->member_id.empty() || newest_ < 2) return;
    CommitRequest r = testing::commit(token_++, pick(newest_ - 1), m->member_id, next_offset_++);
    r.instance_id = m->instance;
    send(r);
  }
  void send(const CommitRequest& r) {
    const GroupDescription d = c_.table().describe("g");
    const bool outside = r.generation < 0 && (d.state == "Empty" || d.state == "Dead");
    commits_[r.token] = Commit{outside || r.generation == d.generation, r.partitions[0].offset};
    c_.feed(r);
  }

  void advance_one() {
    if (Client* m = any()) advance(*m);
  }
  void advance(Client& m) {
    if (m.joining || m.syncing) return;
    if (m.needs_join) {
      JoinRequest r = m.instance ? join_static(token_++, *m.instance, m.member_id, 9)
                                 : join(token_++, m.member_id, 9);
      r.rebalance_timeout_ms = 5'000;
      r.session_timeout_ms = 6'000;
      m.joining = r.token;
      m.stable = false;
      c_.feed(r);
      return;
    }
    if (!m.stable) {
      SyncRequest r = sync(token_++, m.generation, m.member_id);
      r.instance_id = m.instance;
      for (const std::string& id : m.leads) {
        const Bytes share =
            bytes(id + "@" + std::to_string(m.generation) + "#" + std::to_string(r.token));
        r.assignments.push_back({id, share});
      }
      m.syncing = r.token;
      c_.feed(r);
      return;
    }
    HeartbeatRequest r = heartbeat(token_++, m.generation, m.member_id);
    r.instance_id = m.instance;
    c_.feed(r);
    if (auto answer = c_.reply<HeartbeatResponse>(r.token)) learn(m, answer->error);
  }

  void learn(Client& m, KafkaError error) {
    switch (error) {
      case KafkaError::kNone:
        return;
      case KafkaError::kUnknownMemberId:
      case KafkaError::kGroupMaxSizeReached:
        m.member_id.clear();
        m.needs_join = true;
        return;
      case KafkaError::kFencedInstanceId:
        m.alive = false;
        return;
      default:
        m.needs_join = true;
        return;
    }
  }

  void read_answers() {
    for (Client& m : clients_) {
      if (m.joining) {
        if (auto r = c_.reply<JoinResponse>(*m.joining)) joined(m, *r);
      }
      if (m.syncing) {
        if (auto r = c_.reply<SyncResponse>(*m.syncing)) synced(m, *r);
      }
    }
    for (auto at = commits_.begin(); at != commits_.end();) {
      const auto r = c_.reply<CommitResponse>(at->first);
      if (r && r->partitions[0].error == KafkaError::kNone) {
        RC_ASSERT(at->second.current);  // never one of an older generation
        acknowledged_ = at->second.offset;
      }
      at = r ? commits_.erase(at) : std::next(at);
    }
  }

  void joined(Client& m, const JoinResponse& r) {
    m.joining.reset();
    if (r.error == KafkaError::kMemberIdRequired) {
      m.member_id = r.member_id;
      return;
    }
    if (r.error != KafkaError::kNone) return learn(m, r.error);
    if (m.alive && m.instance && !m.member_id.empty()) {
      RC_ASSERT(r.member_id == m.member_id);  // a static member keeps its id
    }
    m.member_id = r.member_id;
    m.generation = r.generation;
    m.needs_join = false;
    m.leads.clear();
    if (r.leader == r.member_id && !r.skip_assignment) {
      for (const auto& other : r.members) m.leads.push_back(other.member_id);
    }
    newest_ = std::max(newest_, r.generation);
  }

  void synced(Client& m, const SyncResponse& r) {
    m.syncing.reset();
    if (r.error != KafkaError::kNone) return learn(m, r.error);
    m.stable = true;
    // "member@generation#sync": the leader's word, from the generation and for the member; a static
    // member that took over goes on with what its instance had.
    const std::string share(as_text(r.assignment));
    RC_ASSERT(!share.empty());
    const std::size_t at = share.find('@');
    const std::size_t hash = share.find('#');
    if (!m.instance) RC_ASSERT(share.substr(0, at) == m.member_id);
    RC_ASSERT(share.substr(at + 1, hash - at - 1) == std::to_string(m.generation));
    const std::string leader_sync = share.substr(hash);
    const auto [known, first] = assigned_by_.emplace(m.generation, leader_sync);
    RC_ASSERT(first || known->second == leader_sync);  // one leader's word a generation
  }

  void check() {
    const GroupDescription d = c_.table().describe("g");
    RC_ASSERT(c_.answered_twice == 0u);
    std::set<std::string> instances;
    for (const auto& m : d.members) {
      if (m.instance_id) RC_ASSERT(instances.insert(*m.instance_id).second);
    }
    if (!c_.hold && acknowledged_ >= 0) RC_ASSERT(committed(c_.table()) >= acknowledged_);
  }

  struct Commit {
    bool current;  ///< sent with the generation of that moment, or from outside to no members
    std::int64_t offset;
  };
  Coordinator c_;
  std::vector<Client> clients_;
  int next_client_ = 0;
  Token token_ = 1;
  std::int32_t newest_ = 0;
  std::int64_t next_offset_ = 1;
  std::int64_t acknowledged_ = -1;
  std::map<Token, Commit> commits_;
  std::map<std::int32_t, std::string> assigned_by_;
};

RC_GTEST_PROP(GroupModel, the_protocol_holds_and_the_group_settles, ()) {
  World world;
  const int steps = pick(150);
  for (int i = 0; i < steps; ++i) world.random_step();
  world.settle();
}

}  // namespace
}  // namespace pyralog::group
