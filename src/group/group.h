#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "group/messages.h"
#include "group/options.h"
#include "group/records.h"
#include "group/tally.h"

namespace pyralog::group {

enum class GroupState : std::uint8_t {
  kEmpty,                ///< no members; may hold offsets
  kPreparingRebalance,   ///< waiting for members to join
  kCompletingRebalance,  ///< waiting for the leader's assignment
  kStable,
  kDead,  ///< being deleted
};
/// "Empty", "PreparingRebalance", …, as Kafka's tools show them.
[[nodiscard]] const char* name(GroupState state);

/// One consumer group under Kafka's classic protocol. Pure; lives in the GroupTable of its
/// coordinator partition, which feeds it one input at a time. Members choose an assignor by vote,
/// the first to join leads and assigns; the coordinator only carries metadata and assignments, and
/// fences by generation, member id and instance id (KIP-62, 345, 394, 814).
class Group {
 public:
  /// The inputs' surroundings: what is done goes to `out`, appends are numbered from `next_append`.
  struct Context {
    const Now& now;
    Effects& out;
    std::uint64_t& next_append;
  };

  /// `tally` counts what this one keeps, too, for as long as it lives.
  Group(std::string name, const Options& options, std::shared_ptr<Tally> tally);

  void join(const JoinRequest& in, Context& ctx);
  void sync(const SyncRequest& in, Context& ctx);
  void heartbeat(const HeartbeatRequest& in, Context& ctx);
  void leave(const LeaveRequest& in, Context& ctx);
  void commit(const CommitRequest& in, Context& ctx);
  void remove(const DeleteRequest& in, Context& ctx);
  void delete_offsets(const DeleteOffsetsRequest& in, Context& ctx);
  void topics_deleted(const std::vector<std::string>& topics, Context& ctx);
  /// How much one step of expiry may still write and look at.
  struct ExpiryRoom {
    std::size_t records;
    std::size_t bytes;
    std::size_t looks;
  };
  /// Lets go what retention does not keep (KIP-211), by a clock that does not run ahead: of an
  /// empty group what is old since it became empty, of one that only stores offsets each that is
  /// old, of one with members those of topics that nobody reads. An empty group that keeps none
  /// goes too. True if it is to be asked again, for there was no room for all.
  [[nodiscard]] bool expire(WallMs by, ExpiryRoom& room, Context& ctx);
  void appended(const Appended& in, Context& ctx);
  void tick(Context& ctx);
  /// Answers everybody who waits with `error`; the group is over.
  void fail_all(KafkaError error, Effects& out);

  void load(const OffsetKey& key, std::optional<OffsetValue> value);
  void load(std::optional<GroupValue> value);
  /// Sessions start afresh at `now`.
  void loaded(const Now& now);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] GroupState state() const { return state_; }
  [[nodiscard]] std::int32_t generation() const { return generation_; }
  [[nodiscard]] const std::string& protocol_type() const { return protocol_type_; }
  [[nodiscard]] const Kept& kept() const { return share_.kept(); }
  /// What a group of this name keeps at least.
  [[nodiscard]] static std::size_t cost_of_name(std::string_view name);
  /// All that is counted as things change is what a recount says. O(all of it): for tests.
  [[nodiscard]] bool consistent() const;
  [[nodiscard]] std::vector<OffsetEntry> offsets(const FetchOffsetsRequest& request) const;
  void collect_topics(std::set<std::string>& topics) const;
  [[nodiscard]] GroupDescription describe() const;
  /// When the group next wants a tick; never() if not at all.
  [[nodiscard]] Instant deadline() const;
  /// Nothing worth remembering is left.
  [[nodiscard]] bool forgotten() const;

 private:
  struct Member {
    std::string id;
    std::optional<std::string> instance_id;
    std::string client_id;
    std::string client_host;
    std::int32_t session_timeout_ms = 0;
    std::int32_t rebalance_timeout_ms = 0;
    std::vector<Protocol> protocols;
    Bytes assignment;
    std::optional<Token> joining;  ///< a JoinGroup waits for the generation
    std::optional<Token> syncing;  ///< a SyncGroup waits for the assignment
    bool is_new = false;           ///< has not been told its first generation
    bool is_loaded = false;        ///< as it was stored: what else it offered it has to say again
    Instant expires = Instant::never();
    std::optional<Instant> listed;                   ///< where it is among `expiries_`
    [[nodiscard]] std::size_t cost() const;          ///< in memory
    [[nodiscard]] std::size_t record_bytes() const;  ///< in the group's record, at most
    [[nodiscard]] const Protocol* protocol(std::string_view name) const;
    /// Waiting for us, it need not send heartbeats; a new one may have gone away meanwhile.
    [[nodiscard]] bool can_expire() const { return is_new || (!joining && !syncing); }
  };
  /// What is known of the protocols that members support beside the one in use, which alone is
  /// stored: all that will be, not yet what loaded ones have, or they are being asked.
  enum class Offers : std::uint8_t { kKnown, kLoaded, kAsked };
  using TopicPartition = std::pair<std::string, std::int32_t>;

  // What waits for an append.
  struct StoreAssignment {
    std::int32_t generation;
    std::map<std::string, Bytes> assignment;
  };
  struct StoreStaticMember {
    Member before;
    std::string new_id;
    std::string leader_told;
    bool skip_assignment;
  };
  struct StoreOffsets {
    std::optional<Token> token;
    CommitResponse response;
    std::vector<std::pair<TopicPartition, OffsetValue>> offsets;
    std::size_t arriving = 0;  ///< of partitions that had none
    std::size_t growth = 0;    ///< charged for them meanwhile, in bytes
  };
  struct StoreDeletion {
    Token token;
  };
  struct StoreOffsetDeletion {
    Token token;
    DeleteOffsetsResponse response;
    std::set<TopicPartition> offsets;
  };
  struct StoreExpiry {
    std::vector<TopicPartition> offsets;
    bool whole;  ///< the group, too
  };
  struct StoreOther {};
  using Pending = std::variant<StoreAssignment, StoreStaticMember, StoreOffsets, StoreDeletion,
                               StoreOffsetDeletion, StoreExpiry, StoreOther>;
  struct InFlight {
    Pending what;
    std::size_t bytes;
  };
  /// Those who offer an assignor, and what they read by it.
  struct ProtocolUse {
    std::size_t members = 0;
    std::size_t unreadable = 0;                 ///< of these, who do not say what they read
    std::map<std::string, std::size_t> topics;  ///< → how many of these read it
    friend bool operator==(const ProtocolUse&, const ProtocolUse&) = default;
  };
  /// What one commit may still add.
  struct CommitRoom {
    std::size_t offsets;
    std::size_t kept;
    std::size_t records;
  };

  // group_join.cc
  void join_new(const JoinRequest& in, Context& ctx);
  void join_static(const JoinRequest& in, const std::string& old_id, Context& ctx);
  void join_known(const JoinRequest& in, Context& ctx);
  void rejoin(Member& member, const JoinRequest& in, Context& ctx);
  [[nodiscard]] bool accepts(const JoinRequest& in) const;
  [[nodiscard]] bool supports(const JoinRequest& in) const;
  [[nodiscard]] bool may_offer_more(const JoinRequest& in);
  void add_member(const JoinRequest& in, const std::string& id, Context& ctx);
  void update_member(Member& member, const JoinRequest& in, Context& ctx);
  void add_pending(const std::string& id, Instant expires);
  bool drop_pending(const std::string& id);
  Member& replace_static(const std::string& instance, const std::string& old_id,
                         const std::string& new_id, Context& ctx);
  [[nodiscard]] JoinResponse current(const Member& member, bool with_members) const;
  [[nodiscard]] std::vector<JoinResponse::Member> member_metadata() const;

  // group_rebalance.cc
  void maybe_rebalance(Context& ctx);
  void prepare_rebalance(Context& ctx);
  void try_complete_join(Context& ctx);
  void join_deadline_passed(Context& ctx);
  void complete_join(Context& ctx);
  [[nodiscard]] bool elect_joined_leader();
  void sync_deadline_passed(Context& ctx);
  void synced(const std::string& member_id);
  void expire_members(Context& ctx);
  void remove_member(const std::string& id, Context& ctx);
  void answer_unknown(Member& member, Context& ctx);
  void erase_member(const std::string& id);
  [[nodiscard]] std::string select_protocol() const;
  [[nodiscard]] std::int32_t rebalance_timeout_ms() const;
  [[nodiscard]] std::size_t joined() const;

  // group_bounds.cc
  /// Why there is no room for what `in` would make the group keep; kNone if there is, or if that
  /// does not grow: what is loaded may be more than what is let in.
  [[nodiscard]] KafkaError room_for(const JoinRequest& in) const;
  [[nodiscard]] std::size_t cost_of_topics(const JoinRequest& in) const;
  [[nodiscard]] std::size_t cost_as_stored(const Member& member) const;
  /// The appends under way leave room for one of `bytes`; one alone may be of any size.
  [[nodiscard]] bool may_store(std::size_t bytes) const;
  /// An assignment of `bytes` still fits in what all groups may keep.
  [[nodiscard]] bool may_assign(std::size_t bytes) const;
  void charge(std::size_t Kept::* what, std::size_t bytes);
  void release(std::size_t Kept::* what, std::size_t bytes);
  /// Of a member as it is: before a change of its id or assignment taken off, after it put on.
  void weigh(const Member& member, bool add);
  /// The same before and after any change of what a member said.
  void count(const Member& member, bool add);
  void count_topics(ProtocolUse& use, const Protocol& protocol, bool add);
  void assign(Member& member, Bytes assignment);
  void set_protocol_type(std::string type);
  [[nodiscard]] std::size_t cost_of(const TopicPartition& where, const OffsetValue& value) const;
  void put_offset(const TopicPartition& where, OffsetValue value, std::uint64_t append_id);
  void drop_offset(const TopicPartition& where);

  // group.cc
  void store_assignment(const SyncRequest& in, Context& ctx);
  void fail_assignment(KafkaError error, Context& ctx);
  [[nodiscard]] KafkaError check_member(const std::string& id,
                                        const std::optional<std::string>& instance) const;
  void touch(Member& member, const Now& now);
  /// After each change of what decides when a member expires.
  void schedule(Member& member);
  void wait_join(Member& member, Token token);
  void wait_sync(Member& member, Token token);
  void reply_join(Member& member, JoinResponse response, Effects& out);
  void reply_sync(Member& member, SyncResponse response, Effects& out);
  void become(GroupState state, const Now& now);
  void append(std::vector<StoredRecord> records, Pending pending, Context& ctx);
  [[nodiscard]] StoredRecord group_record(const std::map<std::string, Bytes>& assignment) const;
  [[nodiscard]] std::map<std::string, Bytes> assignments() const;
  void done(StoreAssignment& what, std::uint64_t id, KafkaError error, Context& ctx);
  void done(StoreStaticMember& what, std::uint64_t id, KafkaError error, Context& ctx);
  void done(StoreOffsets& what, std::uint64_t id, KafkaError error, Context& ctx);
  void done(StoreDeletion& what, std::uint64_t id, KafkaError error, Context& ctx);
  void done(StoreOffsetDeletion& what, std::uint64_t id, KafkaError error, Context& ctx);
  void done(StoreExpiry& what, std::uint64_t id, KafkaError error, Context& ctx);
  void done(StoreOther& what, std::uint64_t id, KafkaError error, Context& ctx);

  // group_offsets.cc
  [[nodiscard]] KafkaError check_commit(const CommitRequest& in) const;
  [[nodiscard]] KafkaError check_offset(const CommitRequest::Partition& in, CommitRoom& room,
                                        StoreOffsets& pending) const;
  /// Committed, or on the way to be.
  [[nodiscard]] std::set<TopicPartition> known_offsets() const;
  /// By what members say what they read; null while they have not agreed on that, or not all say.
  [[nodiscard]] const ProtocolUse* agreed() const;
  /// Members read it, or may do so.
  [[nodiscard]] bool may_read(const std::string& topic) const;
  void forget_in_flight(const std::string& topic);

  // group_expiry.cc
  [[nodiscard]] bool is_old(const OffsetValue& value, WallMs by) const;

  struct StoredOffset {
    OffsetValue value;
    std::uint64_t append_id = 0;
  };

  std::string name_;
  const Options* options_;
  GroupState state_ = GroupState::kEmpty;
  std::int64_t state_since_ms_ = -1;
  std::int32_t generation_ = 0;
  std::string protocol_type_;
  std::optional<std::string> protocol_;
  std::string leader_;
  std::map<std::string, Member> members_;
  std::map<std::string, std::string> static_members_;  ///< instance id → member id
  std::map<std::string, Instant> pending_members_;     ///< given an id, expected back (KIP-394)

  // Counted as things change, for no request may cost a look at all members.
  Tally::Share share_;
  std::map<std::string, ProtocolUse> protocols_;
  std::size_t record_bytes_ = 0;  ///< of members, at most
  std::size_t joined_ = 0;        ///< members with a JoinGroup that waits
  std::multiset<std::int32_t> rebalance_timeouts_ms_;
  std::set<std::pair<Instant, std::string_view>> expiries_;  ///< members that can, by their ids
  std::set<std::pair<Instant, std::string_view>> pending_expiries_;

  Instant join_deadline_ = Instant::never();
  bool initial_delay_ = false;  ///< waiting for the first members of an empty group
  Offers offers_ = Offers::kKnown;
  std::int64_t initial_remaining_ms_ = 0;
  bool member_added_ = false;  ///< since the initial delay began
  Instant sync_deadline_ = Instant::never();
  std::set<std::string> pending_sync_;

  std::map<TopicPartition, StoredOffset> offsets_;
  std::map<std::uint64_t, InFlight> appends_;
  std::map<TopicPartition, std::size_t> committing_;  ///< → by how many appends
  std::size_t arriving_ = 0;     ///< of these, what partitions without an offset were to get
  std::int32_t assigning_ = -1;  ///< the generation whose assignment is being stored
};

}  // namespace pyralog::group
