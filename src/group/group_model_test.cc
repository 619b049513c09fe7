// Clients that come, go, fall silent and are replaced, against a coordinator that restarts and
// whose log sometimes refuses, some of them with little room for members; whatever the schedule,
// the promises of the protocol hold, and what is counted as things change is what is there.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <set>

#include "group/assignor.h"
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
  std::vector<std::string> topics = {"t"};
  bool two_protocols = false;
  bool needs_join = true;
  bool stable = false;  ///< holds an assignment of `generation`
  std::optional<Token> joining;
  std::optional<Token> syncing;
  std::vector<std::string> leads;  ///< whom it is to assign to, if it leads
};

class World {
 public:
  /// Narrow: room for the two who are there at most, but not for many who are gone, too.
  explicit World(bool narrow)
      : narrow_(narrow),
        most_bytes_(narrow ? 5'200 : Options{}.max_members_bytes),
        c_(Options{.initial_rebalance_delay_ms = 100, .max_members_bytes = most_bytes_}) {}

  void random_step() {
    switch (pick(15)) {
      case 0:
        if (narrow_) std::erase_if(clients_, [](const Client& m) { return !m.alive; });
        if (clients_.size() < (narrow_ ? 2u : 6u)) add();
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
      case 10:
        subscribe_anew();
        break;
      case 11:
        delete_offset();
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
    m.topics = some_topics();
    m.two_protocols = pick(3) == 0;
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

  std::vector<std::string> some_topics() {
    std::vector<std::string> topics;
    for (const char* topic : {"t", "u", "v"}) {
      if (pick(2) == 0) topics.emplace_back(topic);
    }
    return topics;
  }
  void subscribe_anew() {
    Client* m = any();
    if (m == nullptr || m->joining || m->syncing) return;
    m->topics = some_topics();
    m->needs_join = true;
  }
  /// Of a topic that nobody commits; but for that, only what nobody reads may go.
  void delete_offset() {
    const GroupDescription d = c_.table().describe("g");
    const Token token = token_++;
    c_.feed(DeleteOffsetsRequest{token, "g", {{"u", 0}}});
    const auto answer = c_.reply<DeleteOffsetsResponse>(token);
    RC_ASSERT(answer.has_value());
    if (d.state != "Stable" || answer->error != KafkaError::kNone) return;
    bool read = false;
    for (const auto& m : d.members) {
      const auto topics = decode_topics(m.metadata);
      RC_ASSERT(topics.has_value());
      read = read || std::ranges::find(*topics, "u") != topics->end();
    }
    RC_ASSERT((answer->partitions.at(0).error == KafkaError::kGroupSubscribedToTopic) == read);
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
      const Bytes said = encode(Subscription{m.topics, {}, {}, m.generation, {}});
      r.protocols = {Protocol{"range", said}};
      if (m.two_protocols) r.protocols.insert(r.protocols.begin(), Protocol{"sticky", said});
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
    RC_ASSERT(c_.table().consistent());
    RC_ASSERT(c_.table().kept().members <= most_bytes_);
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
  bool narrow_;
  std::size_t most_bytes_;
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
  const bool narrow = pick(2) == 0;
  World world(narrow);
  const int steps = pick(narrow ? 400 : 150);
  for (int i = 0; i < steps; ++i) world.random_step();
  world.settle();
}

}  // namespace
}  // namespace pyralog::group
