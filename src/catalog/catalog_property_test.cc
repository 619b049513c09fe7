#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

#include "catalog/catalog.h"
#include "catalog/catalog_testing.h"
#include "catalog/reassign.h"

namespace pyralog::catalog {
namespace {

using namespace testing;

template <typename T>
T pick(T below) {
  return static_cast<T>(*rc::gen::inRange<int>(0, static_cast<int>(below)));
}
std::uint8_t small_id() {
  return static_cast<std::uint8_t>(pick(6));
}
NodeId any_node() {
  return NodeId(1 + pick(4));
}
std::string text(int most) {
  return *rc::gen::resize(most, rc::gen::string<std::string>());
}

Settings any_settings() {
  static const std::vector<std::pair<std::string, std::string>> kSome{
      {"retention.ms", "5"},        {"cleanup.policy", "compact"}, {"min.insync.replicas", "2"},
      {"retention.ms", "nonsense"}, {"no.such.setting", "1"},      {"durability", "os"}};
  Settings settings;
  for (int i = pick(3); i > 0; --i) settings.insert(kSome[static_cast<std::size_t>(pick(6))]);
  return settings;
}
SettingChanges any_changes() {
  SettingChanges changes;
  for (const auto& [name, value] : any_settings()) {
    changes.emplace(name, pick(3) == 0 ? std::nullopt : std::optional<std::string>(value));
  }
  return changes;
}
std::vector<std::vector<NodeId>> any_assignment() {
  std::vector<std::vector<NodeId>> all(static_cast<std::size_t>(pick(4)));
  for (auto& replicas : all) {
    for (int i = 1 + pick(2); i > 0; --i) replicas.push_back(any_node());
  }
  return all;
}
EpochActivation any_activation() {
  EpochActivation a =
      activation(small_id(), static_cast<std::uint32_t>(pick(8)), pick(40), 1 + pick(3));
  a.partition.partition = PartitionIndex(pick(3));
  a.log_start = Offset(pick(10));
  a.unclean = pick(5) == 0;
  if (pick(3) == 0)
    a.replicas.push_back(Replica{any_node(), uuid(static_cast<std::uint8_t>(100 + pick(5)))});
  a.write_quorum = static_cast<std::uint16_t>(pick(3));
  return a;
}

Entry any_entry() {
  static const std::vector<std::string> kNames{"a", "b", "a.b", "a_b", "..", "x y", "c"};
  switch (pick(21)) {
    case 0:
      return ClusterCreated{uuid(small_id()), static_cast<std::uint16_t>(pick(20)),
                            WallMs{pick(9)}};
    case 1: {
      NodeRegistered n = node(1 + pick(4), static_cast<std::uint64_t>(pick(5)), text(3));
      if (pick(4) == 0) n.incarnation = uuid(static_cast<std::uint8_t>(100 + pick(9)));
      n.replace_disk = pick(3) == 0;
      return n;
    }
    case 2:
      return TopicCreated{topic_id(small_id()), kNames[static_cast<std::size_t>(pick(7))],
                          any_assignment(), any_settings(), WallMs{pick(100)}};
    case 3:
      return TopicDeleted{topic_id(small_id())};
    case 4:
      return PartitionsAdded{topic_id(small_id()), PartitionIndex(pick(4)), any_assignment()};
    case 5:
      return TopicSettingsChanged{topic_id(small_id()), any_changes()};
    case 6:
      return ClusterSettingsChanged{{{pick(2) == 0 ? "log.retention.ms" : "x", text(3)}}};
    case 7:
      return EpochProposed{partition_id(small_id(), pick(3)),
                           Epoch(static_cast<std::uint32_t>(pick(8))), any_node()};
    case 8: {
      EpochsActivated e;
      for (int i = pick(4); i > 0; --i) e.activations.push_back(any_activation());
      return e;
    }
    case 9:
      return EpochSealed{partition_id(small_id(), pick(3)),
                         Epoch(static_cast<std::uint32_t>(pick(8))), Offset(pick(40))};
    case 10:
      return ProducerIdBlock{pick(3) * 10, pick(3) * 10, any_node()};
    case 11:
      return LostRange{partition_id(small_id(), pick(3)), Offset(pick(9)), Offset(pick(9)), text(5),
                       WallMs{1}};
    case 12: {
      const NodeId who = any_node();
      return PeerRegistered{who, uuid(static_cast<std::uint8_t>(100 + who.value)), text(3), pick(3),
                            static_cast<std::uint16_t>(pick(5))};
    }
    case 13:
    case 14: {
      ReplicasWanted e{partition_id(small_id(), pick(3)), {}};
      for (int i = pick(4); i > 0; --i) e.target.push_back(any_node());
      return e;
    }
    case 15:
      return NodeDraining{any_node(), pick(2) == 0};
    case 16:
      return NodeRemoved{any_node()};
    case 17:
      return NodeRoleSet{any_node(), static_cast<NodeRole>(pick(3))};
    case 18:
      return CounterBlock{kNames[static_cast<std::size_t>(pick(7))], pick(3), pick(3)};
    case 19:
      return FeatureLevelRaised{static_cast<std::uint16_t>(1 + pick(kFeatureLevel))};
    default:
      return MachineIdGranted{static_cast<std::uint16_t>(pick(3)), any_node(),
                              static_cast<std::uint64_t>(pick(50))};
  }
}

RC_GTEST_PROP(CatalogProperty, entries_survive_their_bytes, ()) {
  const Entry entry = any_entry();
  const Bytes bytes = encode_entry(entry);
  const auto back = decode_entry(bytes);
  RC_ASSERT(back.has_value());
  RC_ASSERT(*back == entry);
  const std::size_t cut = static_cast<std::size_t>(pick(static_cast<int>(bytes.size())));
  RC_ASSERT(!decode_entry(ByteView(bytes).first(cut)).has_value());
  Bytes longer = bytes;
  longer.push_back(0);
  RC_ASSERT(!decode_entry(longer).has_value());
}

void check_nodes(const Catalog& c, const Partition& p) {
  std::set<NodeId> now;
  if (p.current) {
    for (const Replica& each : p.current->replicas) now.insert(each.node);
  }
  for (const auto* nodes : {&p.replicas, &p.target}) {
    const std::set<NodeId> distinct(nodes->begin(), nodes->end());
    RC_ASSERT(distinct.size() == nodes->size());
    for (const NodeId each : distinct) RC_ASSERT(c.node(each) != nullptr);
  }
  for (const NodeId each : now) RC_ASSERT(c.node(each) != nullptr);
  RC_ASSERT(!p.replicas.empty());
  // The catalogue takes what is planned for it.
  for (const auto& [node, known] : c.nodes()) {
    const auto next = next_replicas(p, {now, replaced_disks(p, c)}, node, 1);
    RC_ASSERT(!next || (p.current && now.contains(node)));
    const auto its = replicas_for_candidate(p, node, 1);
    if (its) RC_ASSERT(std::ranges::find(its->nodes, node) != its->nodes.end());
  }
}

/// What must hold of every catalogue, whatever was applied.
void check_invariants(const Catalog& c) {
  for (const Replica& gone : c.removed()) {
    for (const auto& [id, node] : c.nodes()) RC_ASSERT(node.incarnation != gone.incarnation);
  }
  for (const auto& [id, node] : c.nodes()) {
    Catalog copy = c;
    for (const auto& move : plan_drain(c, id, 3).moves) {
      RC_ASSERT(copy.apply(move, copy.position() + 1).has_value());
    }
  }
  for (const TopicPtr& t : c.topics()) {
    RC_ASSERT(c.topic(t->name) == t);
    RC_ASSERT(c.topic(t->id) == t);
    RC_ASSERT(!c.was_deleted(t->id));
    for (const auto& p : t->partitions) {
      for (std::size_t i = 1; i < p->epochs.size(); ++i) {
        RC_ASSERT(p->epochs[i - 1].epoch < p->epochs[i].epoch);
        RC_ASSERT(p->epochs[i - 1].start < p->epochs[i].start);
      }
      check_nodes(c, *p);
      if (!p->current) continue;
      RC_ASSERT(p->current->epoch <= p->highest_proposed);
      RC_ASSERT(p->epochs.back() == (EpochStart{p->current->epoch, p->current->start}));
      RC_ASSERT(p->current->write_quorum >= 1);
      RC_ASSERT(p->current->write_quorum <= p->current->replicas.size());
    }
  }
}

RC_GTEST_PROP(CatalogProperty, refusals_change_nothing_and_replay_gives_the_same, ()) {
  Catalog live = cluster(3);
  std::vector<std::pair<std::uint64_t, Bytes>> journal;
  Catalog base = live;  // where the replay begins
  const int steps = 5 + pick(60);
  for (int i = 0; i < steps; ++i) {
    const Entry entry = any_entry();
    const Catalog before = live;
    const std::uint64_t position = live.position() + 1 + static_cast<std::uint64_t>(pick(2));
    if (live.apply(entry, position)) {
      RC_ASSERT(live.position() == position);
      journal.emplace_back(position, encode_entry(entry));
    } else {
      RC_ASSERT(live == before);
    }
    check_invariants(live);
    if (pick(10) == 0) {
      auto restored = Catalog::decode_snapshot(live.encode_snapshot());
      RC_ASSERT(restored.has_value());
      RC_ASSERT(*restored == live);
      base = std::move(*restored);
      journal.clear();
    }
  }
  for (const auto& [position, bytes] : journal) {
    const auto entry = decode_entry(bytes);
    RC_ASSERT(entry.has_value());
    RC_ASSERT(base.apply(*entry, position).has_value());
  }
  RC_ASSERT(base == live);
  RC_ASSERT(base.encode_snapshot() == live.encode_snapshot());
}

RC_GTEST_PROP(CatalogProperty, many_at_once_are_as_one_after_the_other, ()) {
  Catalog base = cluster(3);
  for (int i = pick(30); i > 0; --i) (void)base.apply(any_entry(), base.position() + 1);
  for (std::uint8_t id = 0; id < 3; ++id) {
    (void)base.apply(topic(id, "t" + std::to_string(id), 3), base.position() + 1);
  }
  std::vector<Entry> entries;
  const int count = pick(12);
  for (int i = 0; i < count; ++i) {
    // Mostly proposals that are taken, some of a partition that had one just before.
    if (pick(20) == 0) {
      entries.push_back(any_entry());
      continue;
    }
    const PartitionId id = partition_id(static_cast<std::uint8_t>(pick(3)), pick(3));
    const int epoch = pick(15) == 0 ? pick(30) : 20 + i;
    entries.push_back(
        EpochProposed{id, Epoch(static_cast<std::uint32_t>(epoch)), NodeId(1 + pick(3))});
  }
  Catalog one_by_one = base;
  bool taken = true;
  for (const Entry& each : entries) {
    taken = taken && one_by_one.apply(each, one_by_one.position() + 1).has_value();
  }
  Catalog at_once = base;
  RC_ASSERT(at_once.apply_all(entries).has_value() == taken);
  RC_ASSERT(at_once == (taken ? one_by_one : base));
  RC_ASSERT(at_once.position() == (taken ? one_by_one : base).position());
  RC_CLASSIFY(taken && entries.size() > 3, "taken");
}

RC_GTEST_PROP(CowMapProperty, behaves_as_a_sorted_map_and_copies_stay, ()) {
  CowMap<std::string, int> map;
  std::map<std::string, int> model;
  CowMap<std::string, int> copy;
  std::map<std::string, int> copied;
  const int steps = pick(600);
  for (int i = 0; i < steps; ++i) {
    const std::string key = std::to_string(pick(400));
    if (pick(3) == 0) {
      RC_ASSERT(map.erase(key) == (model.erase(key) > 0));
    } else if (pick(50) == 0) {
      const int kind = 1 + pick(20);
      const auto next = [kind, i](const std::string& k, int) -> std::optional<int> {
        return std::stoi(k) % kind == 0 ? std::optional(-i) : std::nullopt;
      };
      map.replace(next);
      for (auto& [k, value] : model) value = next(k, value).value_or(value);
    } else {
      map.set(key, i);
      model.insert_or_assign(key, i);
    }
    if (i == steps / 2) {
      copy = map;
      copied = model;
    }
  }
  const auto same = [](const CowMap<std::string, int>& m, const std::map<std::string, int>& n) {
    std::vector<std::pair<std::string, int>> items;
    m.for_each([&](const std::string& k, int v) { items.emplace_back(k, v); });
    return m.size() == n.size() && std::equal(items.begin(), items.end(), n.begin(), n.end(),
                                              [](const auto& a, const auto& b) {
                                                return a.first == b.first && a.second == b.second;
                                              });
  };
  RC_ASSERT(same(map, model));
  RC_ASSERT(same(copy, copied));
  for (const auto& [key, value] : model) RC_ASSERT(*map.find(key) == value);
  RC_ASSERT((map.first() == nullptr) == model.empty());
  if (!model.empty()) RC_ASSERT(map.first()->first == model.begin()->first);
  auto sorted = CowMap<std::string, int>::of_sorted({model.begin(), model.end()});
  RC_ASSERT(same(sorted, model));
  for (int key = 0; key < 400; ++key) {
    const int* found = sorted.find(std::to_string(key));
    RC_ASSERT((found != nullptr) == model.contains(std::to_string(key)));
    if (key % 3 == 0) {
      sorted.set(std::to_string(key), key);
      model.insert_or_assign(std::to_string(key), key);
    }
  }
  RC_ASSERT(same(sorted, model));
}

}  // namespace
}  // namespace pyralog::catalog
