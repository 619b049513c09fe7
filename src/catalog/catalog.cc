#include "catalog/catalog.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/plant.h"

namespace pyralog::catalog {
namespace {

std::string metric_name(std::string_view name) {
  std::string folded(name);
  std::replace(folded.begin(), folded.end(), '.', '_');
  return folded;
}
bool may_collide(std::string_view name) {
  return name.find_first_of("._") != std::string_view::npos;
}

std::string quoted(std::string_view name) {
  return "\"" + std::string(name) + "\"";
}

std::unexpected<Error> unknown_topic(const TopicId& id) {
  return fail(Code::kNotFound,
              "topic id " + to_string(id.uuid) + ": does not exist; ask for the topic list again");
}

/// What is in memory has no files, and the other way round: a topic stays what it was made.
Result<void> check_memory(const Topic& topic, const TopicConfig& next) {
  const bool was = topic.config.durability == Durability::kMemory;
  if (was == (next.durability == Durability::kMemory) || PYRALOG_PLANT("catalog.to_memory")) {
    return {};
  }
  return fail(Code::kInvalidArgument, "topic " + quoted(topic.name) +
                                          ": durability cannot change " + (was ? "from" : "to") +
                                          " memory; create another topic");
}

std::shared_ptr<const Partition> new_partition(std::size_t index, std::vector<NodeId> replicas) {
  Partition p;
  p.index = PartitionIndex(static_cast<std::int32_t>(index));
  p.replicas = std::move(replicas);
  return std::make_shared<const Partition>(std::move(p));
}

std::size_t fewest(const std::vector<std::vector<NodeId>>& partitions) {
  std::size_t least = kMaxReplicas;
  for (const auto& replicas : partitions) least = std::min(least, replicas.size());
  return least;
}
std::size_t fewest(const Topic& topic) {
  std::size_t least = kMaxReplicas;
  for (const auto& p : topic.partitions) {
    least = std::min(least, p->replicas.size());
    if (!p->target.empty()) least = std::min(least, p->target.size());
  }
  return least;
}

Settings changed(Settings settings, const SettingChanges& changes) {
  for (const auto& [name, value] : changes) {
    if (value) {
      settings.insert_or_assign(name, *value);
    } else {
      settings.erase(name);
    }
  }
  return settings;
}

}  // namespace

bool operator==(const Topic& a, const Topic& b) {
  return a.id == b.id && a.name == b.name && a.created == b.created && a.settings == b.settings &&
         a.config == b.config &&
         std::equal(a.partitions.begin(), a.partitions.end(), b.partitions.begin(),
                    b.partitions.end(), [](const auto& p, const auto& q) { return *p == *q; });
}

bool operator==(const Catalog& a, const Catalog& b) {
  const auto deleted = [](const Catalog& c) {
    std::vector<std::pair<TopicId, std::uint64_t>> all;
    c.deleted_.for_each([&](const TopicId& id, std::uint64_t at) { all.emplace_back(id, at); });
    return all;
  };
  const auto counters = [](const Catalog& c) {
    std::vector<std::pair<std::string, std::int64_t>> all;
    c.counters_.for_each(
        [&](const std::string& name, std::int64_t next) { all.emplace_back(name, next); });
    return all;
  };
  const auto s = a.topics();
  const auto t = b.topics();
  return a.position_ == b.position_ && a.cluster_ == b.cluster_ && a.level_ == b.level_ &&
         a.epoch_groups_ == b.epoch_groups_ && a.created_ == b.created_ &&
         a.next_producer_id_ == b.next_producer_id_ && *a.nodes_ == *b.nodes_ &&
         *a.removed_ == *b.removed_ && *a.invited_ == *b.invited_ &&
         *a.cluster_settings_ == *b.cluster_settings_ && *a.machines_ == *b.machines_ &&
         counters(a) == counters(b) && deleted(a) == deleted(b) &&
         std::equal(s.begin(), s.end(), t.begin(), t.end(),
                    [](const TopicPtr& p, const TopicPtr& q) { return *p == *q; });
}

// ---- Reading ----

const Node* Catalog::node(NodeId id) const {
  const auto at = nodes_->find(id);
  return at != nodes_->end() ? &at->second : nullptr;
}

TopicPtr Catalog::topic(std::string_view name) const {
  const TopicPtr* found = by_name_.find(name);
  return found != nullptr ? *found : nullptr;
}

TopicPtr Catalog::topic(const TopicId& id) const {
  const TopicPtr* found = by_id_.find(id);
  return found != nullptr ? *found : nullptr;
}

std::vector<TopicPtr> Catalog::topics() const {
  std::vector<TopicPtr> all;
  all.reserve(by_name_.size());
  by_name_.for_each([&](const std::string&, const TopicPtr& topic) { all.push_back(topic); });
  return all;
}

TopicPtr Catalog::collision(std::string_view name) const {
  if (TopicPtr same = topic(name)) return same;
  if (!may_collide(name)) return nullptr;
  const TopicPtr* found = by_metric_name_.find(metric_name(name));
  return found != nullptr ? *found : nullptr;
}

bool Catalog::was_deleted(const TopicId& id) const {
  return deleted_.find(id) != nullptr;
}

const Partition* Catalog::partition(const PartitionId& id) const {
  const TopicPtr* found = by_id_.find(id.topic);
  if (found == nullptr || id.partition.value < 0) return nullptr;
  const auto index = static_cast<std::size_t>(id.partition.value);
  return index < (*found)->partitions.size() ? (*found)->partitions[index].get() : nullptr;
}

// ---- Applying ----

Result<void> Catalog::apply(const Entry& entry, std::uint64_t position) {
  if (position <= position_) {
    return fail(Code::kInvalidArgument, "metadata entry at position " + std::to_string(position) +
                                            ": the catalogue stands at " +
                                            std::to_string(position_) +
                                            " already; apply each entry once, in order");
  }
  if (cluster_.is_nil() && !std::holds_alternative<ClusterCreated>(entry)) {
    return fail(Code::kInvalidArgument,
                std::string("metadata entry ") + name(type_of(entry)) +
                    ": comes before cluster_created; the metadata log lacks its beginning");
  }
  PYRALOG_TRY(check_all_understand(entry));
  const std::uint64_t before = std::exchange(position_, position);
  Result<void> taken = std::visit([this](const auto& e) { return take(e); }, entry);
  if (!taken) {
    position_ = before;
    return taken;
  }
  level_ = std::max(level_, level_of(entry));
  return {};
}

std::uint16_t Catalog::understood() const {
  const auto said = [](const auto& each) { return each.second.feature_level != 0; };
  if (std::ranges::none_of(*nodes_, said)) return 0;
  std::uint16_t least = kFeatureLevel;
  for (const auto& [id, node] : *nodes_) {
    if (node.feature_level == 0 && PYRALOG_PLANT("catalog.unsaid_is_newest")) continue;
    least = std::min(least, std::max(node.feature_level, kLeastClusterLevel));
  }
  return least;
}

bool Catalog::may_write(std::uint16_t level) const {
  const std::uint16_t all = understood();
  return level <= std::max(level_, kLeastClusterLevel) || all == 0 || level <= all;
}

Result<void> Catalog::check_all_understand(const Entry& entry) const {
  const std::uint16_t needs = level_of(entry);
  if (may_write(needs) || PYRALOG_PLANT("catalog.newer_while_mixed")) return {};
  std::string who;
  for (const auto& [id, node] : *nodes_) {
    if (node.feature_level >= needs) continue;
    who = "node " + std::to_string(id.value) + " does not understand (it has " +
          (node.feature_level == 0 ? "not said" : std::to_string(node.feature_level)) + ")";
    break;
  }
  return fail(Code::kUnsupported,
              std::string(name(type_of(entry))) + ": needs feature level " + std::to_string(needs) +
                  ", which " + who +
                  "; finish the rolling upgrade first, see pyralog cluster status");
}

void Catalog::put(TopicPtr topic) {
  if (may_collide(topic->name)) by_metric_name_.set(metric_name(topic->name), topic);
  by_name_.set(topic->name, topic);
  const TopicId id = topic->id;
  by_id_.set(id, std::move(topic));
}

void Catalog::note_deleted(const TopicId& id, std::uint64_t position) {
  deleted_.set(id, position);
  deleted_by_position_.set(position, id);
  if (deleted_.size() <= kMaxDeleted || PYRALOG_PLANT("catalog.remember_all_deleted")) return;
  const auto [oldest, forgotten] = *deleted_by_position_.first();
  deleted_by_position_.erase(oldest);
  deleted_.erase(forgotten);
}

/// A topic's own min.insync.replicas may not exceed its smallest replica set.
Result<void> Catalog::check_min_insync(std::string_view name, const Settings& settings,
                                       const TopicConfig& config, std::size_t fewest_replicas) {
  if (!settings.contains("min.insync.replicas")) return {};
  if (static_cast<std::size_t>(config.min_insync_replicas) <= fewest_replicas) return {};
  return fail(Code::kInvalidArgument,
              "topic " + quoted(name) + ": min.insync.replicas " +
                  std::to_string(config.min_insync_replicas) + " exceeds its replication factor " +
                  std::to_string(fewest_replicas) + "; lower the one or raise the other");
}

Result<void> Catalog::check_replicas(const std::vector<std::vector<NodeId>>& partitions,
                                     std::string_view topic) const {
  for (const auto& replicas : partitions) {
    const std::set<NodeId> distinct(replicas.begin(), replicas.end());
    if (replicas.empty() || replicas.size() > kMaxReplicas || distinct.size() != replicas.size()) {
      return fail(Code::kInvalidArgument, "topic " + quoted(topic) +
                                              ": a partition needs 1 to 64 replicas on different "
                                              "nodes; correct the assignment");
    }
    for (const NodeId id : replicas) {
      if (nodes_->contains(id)) continue;
      return fail(Code::kNotFound, "topic " + quoted(topic) + ": node " + std::to_string(id.value) +
                                       " is not registered; place replicas on known nodes");
    }
  }
  return {};
}

Result<void> Catalog::take(const ClusterCreated& e) {
  if (!cluster_.is_nil()) {
    return fail(Code::kAlreadyExists, "cluster " + to_string(cluster_) +
                                          ": exists already; a metadata log has one beginning");
  }
  if (e.cluster.is_nil() || e.epoch_groups == 0 || e.epoch_groups > 1024) {
    return fail(Code::kInvalidArgument,
                "cluster_created: needs an id and 1 to 1024 epoch groups; create it anew");
  }
  cluster_ = e.cluster;
  epoch_groups_ = e.epoch_groups;
  created_ = e.created;
  return {};
}

Result<void> Catalog::check_disk_is_free(NodeId node, const Uuid& incarnation) const {
  const auto taken = [&](NodeId by, const std::string& since) {
    return fail(Code::kFenced, "node " + std::to_string(node.value) +
                                   ": its data directory's incarnation belongs to node " +
                                   std::to_string(by.value) + since +
                                   "; start with that node's own directory or an empty one");
  };
  for (const auto& [id, other] : *nodes_) {
    if (std::ranges::find(other.retired, incarnation) != other.retired.end()) {
      return taken(id, " and " + std::string(kWasReplaced));
    }
    if (id != node && other.incarnation == incarnation) return taken(id, "");
  }
  const auto gone = std::ranges::find(*removed_, incarnation, &Replica::incarnation);
  if (gone == removed_->end() || PYRALOG_PLANT("catalog.take_removed_disk")) return {};
  return fail(Code::kFenced, "node " + std::to_string(node.value) +
                                 ": its data directory was that of node " +
                                 std::to_string(gone->node.value) + ", which " +
                                 std::string(kWasRemoved) + "; start with an empty one");
}

Result<void> Catalog::check_disk(NodeId id, const Uuid& incarnation) const {
  PYRALOG_TRY(check_disk_is_free(id, incarnation));
  const std::string who = "node " + std::to_string(id.value);
  const Node* known = node(id);
  if (known != nullptr) {
    if (known->incarnation == incarnation || known->lacks_disk()) return {};
    return fail(Code::kFenced, who +
                                   ": its data directory is not the one registered; bring that "
                                   "back, or run cluster replace-disk");
  }
  const auto invited = invited_->find(id);
  if (invited == invited_->end()) {
    return fail(Code::kNotFound, who +
                                     " is none of this cluster; `pyralog cluster add` at one of "
                                     "its nodes lets it in");
  }
  const Uuid& expected = invited->second.incarnation;
  if (expected.is_nil() || expected == incarnation) return {};
  return fail(Code::kFenced, who +
                                 ": its data directory is not the one that the cluster began with; "
                                 "bring that back, or run cluster replace-disk");
}

bool Node::lacks_disk() const {
  return std::ranges::find(retired, incarnation) != retired.end();
}

Result<void> Catalog::take(const NodeRegistered& e) {
  const std::string who = "node " + std::to_string(e.node.value);
  if (e.node.value < 1 || e.incarnation.is_nil() || e.host.size() > 255 || e.rack.size() > 255 ||
      e.port < 0 || e.port > 65535) {
    return fail(
        Code::kInvalidArgument,
        who + ": needs an id from 1, an incarnation, a host and a port; check its settings");
  }
  PYRALOG_TRY(check_disk_is_free(e.node, e.incarnation));
  const Node* known = node(e.node);
  Node next;
  next.id = e.node;
  next.incarnation = e.incarnation;
  next.boot_counter = e.boot_counter;
  next.host = e.host;
  next.port = e.port;
  next.rack = e.rack;
  if (known != nullptr) {
    next.peer_host = known->peer_host;
    next.peer_port = known->peer_port;
    next.feature_level = known->feature_level;
    next.retired = known->retired;
    next.draining = known->draining;
    next.role = known->role;
    if (known->incarnation != e.incarnation) {
      if (!e.replace_disk && !known->lacks_disk()) {
        return fail(Code::kFenced, who +
                                       ": its data directory is not the one registered; bring "
                                       "that back, or run cluster replace-disk");
      }
      if (!known->lacks_disk()) next.retired.push_back(known->incarnation);
    } else if (e.boot_counter <= known->boot_counter) {
      return fail(Code::kFenced, who + ": its data directory is an older copy (boot " +
                                     std::to_string(e.boot_counter) + ", known " +
                                     std::to_string(known->boot_counter) +
                                     "); bring the newest back, or run cluster replace-disk");
    }
  }
  if (known == nullptr && invited_->contains(e.node)) {
    PYRALOG_TRY(check_disk(e.node, e.incarnation));
    auto invited = std::make_shared<std::map<NodeId, Invitation>>(*invited_);
    invited->erase(e.node);
    invited_ = std::move(invited);
  }
  auto nodes = std::make_shared<std::map<NodeId, Node>>(*nodes_);
  nodes->insert_or_assign(e.node, std::move(next));
  nodes_ = std::move(nodes);
  return {};
}

Result<void> Catalog::take(const PeerRegistered& e) {
  const std::string who = "node " + std::to_string(e.node.value);
  const Node* known = node(e.node);
  if (known == nullptr || known->incarnation != e.incarnation) {
    return fail(Code::kFenced,
                who +
                    ": its data directory is not the one registered; bring that back, "
                    "or run cluster replace-disk");
  }
  if (e.host.empty() || e.host.size() > 255 || e.port < 1 || e.port > 65535 ||
      e.feature_level < kLeastClusterLevel) {
    return fail(
        Code::kInvalidArgument,
        who + ": needs a host and a port for other nodes, and a feature level; check its settings");
  }
  if (e.feature_level < level_ && !PYRALOG_PLANT("catalog.take_older_node")) {
    return fail(too_new(who + ": the cluster", level_, e.feature_level));
  }
  auto nodes = std::make_shared<std::map<NodeId, Node>>(*nodes_);
  Node& next = nodes->at(e.node);
  next.peer_host = e.host;
  next.peer_port = e.port;
  next.feature_level = e.feature_level;
  nodes_ = std::move(nodes);
  return {};
}

Result<void> Catalog::take(const FeatureLevelRaised& e) {
  if (e.level > std::max(level_, kLeastClusterLevel)) return {};
  return fail(Code::kAlreadyExists, "feature level " + std::to_string(e.level) +
                                        ": the cluster has " + std::to_string(level_) +
                                        " already; a level only rises");
}

Result<void> Catalog::take(const TopicCreated& e) {
  if (!is_valid_topic_name(e.name)) {
    return fail(
        Code::kInvalidArgument,
        "topic " + quoted(e.name.substr(0, 260)) +
            ": a name has 1 to 249 of a-z A-Z 0-9 . _ - and is not . or ..; choose another");
  }
  if (const TopicPtr other = collision(e.name)) {
    return fail(Code::kAlreadyExists,
                other->name == e.name
                    ? "topic " + quoted(e.name) + ": exists already"
                    : "topic " + quoted(e.name) + ": collides with " + quoted(other->name) +
                          ", for '.' and '_' are one in metric names; choose another");
  }
  const bool forget_deleted = PYRALOG_PLANT("catalog.reuse_deleted_id");
  if (e.id.uuid.is_nil() || topic(e.id) || (was_deleted(e.id) && !forget_deleted)) {
    return fail(Code::kAlreadyExists, "topic " + quoted(e.name) + ": id " + to_string(e.id.uuid) +
                                          " is or was in use; a new topic takes a new id");
  }
  if (e.partitions.empty() || e.partitions.size() > kMaxPartitionsPerTopic) {
    return fail(Code::kInvalidArgument, "topic " + quoted(e.name) + ": needs 1 to " +
                                            std::to_string(kMaxPartitionsPerTopic) + " partitions");
  }
  PYRALOG_TRY(check_replicas(e.partitions, e.name));
  auto made = std::make_shared<Topic>();
  PYRALOG_ASSIGN(made->config, make_topic_config(e.settings, *cluster_settings_));
  PYRALOG_TRY(check_min_insync(e.name, e.settings, made->config, fewest(e.partitions)));
  made->id = e.id;
  made->name = e.name;
  made->created = e.created;
  made->settings = e.settings;
  made->partitions.reserve(e.partitions.size());
  for (std::size_t i = 0; i < e.partitions.size(); ++i) {
    made->partitions.push_back(new_partition(i, e.partitions[i]));
  }
  put(std::move(made));
  return {};
}

Result<void> Catalog::take(const TopicDeleted& e) {
  const TopicPtr gone = topic(e.id);
  if (!gone) return unknown_topic(e.id);
  by_name_.erase(gone->name);
  by_id_.erase(e.id);
  if (may_collide(gone->name)) by_metric_name_.erase(metric_name(gone->name));
  note_deleted(e.id, position_);
  return {};
}

Result<void> Catalog::take(const PartitionsAdded& e) {
  const TopicPtr old = topic(e.id);
  if (!old) return unknown_topic(e.id);
  const std::size_t count = old->partitions.size();
  if (e.first.value < 0 || static_cast<std::size_t>(e.first.value) != count ||
      e.partitions.empty() || e.partitions.size() > kMaxPartitionsPerTopic - count) {
    return fail(Code::kInvalidArgument, "topic " + quoted(old->name) + ": has " +
                                            std::to_string(count) +
                                            " partitions; new ones follow these, to at most " +
                                            std::to_string(kMaxPartitionsPerTopic));
  }
  PYRALOG_TRY(check_replicas(e.partitions, old->name));
  PYRALOG_TRY(check_min_insync(old->name, old->settings, old->config, fewest(e.partitions)));
  auto next = std::make_shared<Topic>(*old);
  for (std::size_t i = 0; i < e.partitions.size(); ++i) {
    next->partitions.push_back(new_partition(count + i, e.partitions[i]));
  }
  put(std::move(next));
  return {};
}

Result<void> Catalog::take(const TopicSettingsChanged& e) {
  const TopicPtr old = topic(e.id);
  if (!old) return unknown_topic(e.id);
  auto next = std::make_shared<Topic>(*old);
  next->settings = changed(std::move(next->settings), e.changes);
  PYRALOG_ASSIGN(next->config, make_topic_config(next->settings, *cluster_settings_));
  PYRALOG_TRY(check_memory(*old, next->config));
  PYRALOG_TRY(check_min_insync(old->name, next->settings, next->config, fewest(*old)));
  put(std::move(next));
  return {};
}

Result<void> Catalog::take(const ClusterSettingsChanged& e) {
  auto settings = std::make_shared<Settings>(changed(*cluster_settings_, e.changes));
  if (*settings == *cluster_settings_) return {};
  PYRALOG_ASSIGN(const TopicConfig defaults, make_topic_config({}, *settings));
  if (defaults.durability == Durability::kMemory) {
    return fail(Code::kInvalidArgument,
                "setting durability: memory is for single topics; the default is os or fsync");
  }
  PYRALOG_ASSIGN(const Reconfigured topics, reconfigured(*settings, defaults));
  cluster_settings_ = std::move(settings);
  if (PYRALOG_PLANT("catalog.put_topics_one_by_one")) {
    for (const auto& [old, next] : topics) put(next);
    return {};
  }
  if (topics.empty()) return {};
  const auto next = [&topics](const auto&, const TopicPtr& old) -> std::optional<TopicPtr> {
    const auto at = topics.find(old);
    return at != topics.end() ? std::optional(at->second) : std::nullopt;
  };
  by_name_.replace(next);
  by_id_.replace(next);
  by_metric_name_.replace(next);
  return {};
}

Result<Catalog::Reconfigured> Catalog::reconfigured(const Settings& cluster,
                                                    const TopicConfig& defaults) const {
  // Most topics have the same few settings of their own.
  std::map<Settings, TopicConfig> known;
  known.emplace(Settings{}, defaults);
  Reconfigured topics;
  for (const TopicPtr& old : this->topics()) {
    auto at = known.find(old->settings);
    if (at == known.end()) {
      PYRALOG_ASSIGN(const TopicConfig config, make_topic_config(old->settings, cluster));
      at = known.emplace(old->settings, config).first;
    }
    if (at->second == old->config) continue;
    auto copy = std::make_shared<Topic>(*old);
    copy->config = at->second;
    topics.emplace(old, std::move(copy));
  }
  return topics;
}

Result<void> Catalog::take(const ProducerIdBlock& e) {
  if (e.start != next_producer_id_ || e.count < 1 || e.count > 1'000'000 ||
      e.start > INT64_MAX - e.count) {
    return fail(Code::kInvalidArgument, "producer ids from " + std::to_string(e.start) +
                                            ": the next block starts at " +
                                            std::to_string(next_producer_id_) + "; ask for that");
  }
  if (!nodes_->contains(e.node)) {
    return fail(Code::kNotFound, "producer ids: node " + std::to_string(e.node.value) +
                                     " is not registered; register it first");
  }
  next_producer_id_ = e.start + e.count;
  return {};
}

Result<void> Catalog::take(const MachineIdGranted& e) {
  const std::string what = "machine id " + std::to_string(e.machine);
  if (e.machine > 1023 || !nodes_->contains(e.node)) {
    return fail(Code::kInvalidArgument,
                what + ": ids go from 0 to 1023 and to registered nodes; choose another");
  }
  const auto at = machines_->find(e.machine);
  if (at != machines_->end() && e.ceiling_ms <= at->second.ceiling_ms) {
    return fail(Code::kFenced, what + ": ids up to " + std::to_string(at->second.ceiling_ms) +
                                   " ms are given out; ask for a higher ceiling");
  }
  auto machines = std::make_shared<std::map<std::uint16_t, MachineGrant>>(*machines_);
  machines->insert_or_assign(e.machine, MachineGrant{e.node, e.ceiling_ms});
  machines_ = std::move(machines);
  return {};
}

Result<void> Catalog::take(const CounterBlock& e) {
  const std::string what = "counter " + quoted(e.name.substr(0, kMaxCounterName + 11));
  if (!is_valid_counter_name(e.name)) {
    return fail(Code::kInvalidArgument,
                what + ": a name has 1 to 249 of a-z 0-9 . _ -; choose another");
  }
  const std::int64_t* known = counters_.find(e.name);
  if (known == nullptr && counters_.size() >= kMaxCounters) {
    return fail(Code::kExhausted, what + ": there are " + std::to_string(kMaxCounters) +
                                      " counters, as many as there may be; use one of them");
  }
  const std::int64_t next = known != nullptr ? *known : 1;
  const bool right = e.start == next || PYRALOG_PLANT("catalog.counter_block_twice");
  if (!right || e.size < 1 || e.size > kMaxCounterBlock || e.start > INT64_MAX - e.size) {
    return fail(Code::kFenced, what + ": its next block starts at " + std::to_string(next) +
                                   " and has 1 to " + std::to_string(kMaxCounterBlock) +
                                   " values; ask for that");
  }
  counters_.set(e.name, e.start + e.size);
  return {};
}

}  // namespace pyralog::catalog
