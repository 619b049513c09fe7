// The catalogue's whole state as bytes: "PYRACAT1", u16 version, u16 feature level, the body,
// CRC-32C of everything before it. Little-endian.

#include <algorithm>
#include <functional>
#include <utility>

#include "base/crc32c.h"
#include "base/plant.h"
#include "catalog/catalog.h"

namespace pyralog::catalog {
namespace {

constexpr std::string_view kMagic = "PYRACAT1";
// As the level, as far as that changed the form: 1 = of a lone node, 2 = of a cluster, 3 = with
// what feature level 3 brought. The oldest that will do is written, for those who understand no
// more.
constexpr std::uint16_t kVersion = 3;

std::unexpected<Error> corrupt(const char* what) {
  return fail(Code::kCorrupt, std::string("metadata snapshot: ") + what +
                                  "; restore it from a copy or replay the whole metadata log");
}

void write_uuids(Writer& out, const std::vector<Uuid>& ids) {
  out.le(static_cast<std::uint32_t>(ids.size()));
  for (const Uuid& id : ids) write_uuid(out, id);
}

void write_node(Writer& out, const Node& n, std::uint16_t form) {
  out.le(n.id.value);
  write_uuid(out, n.incarnation);
  out.le(n.boot_counter).sized(n.host).le(n.port).sized(n.rack);
  if (form >= 2) out.sized(n.peer_host).le(n.peer_port).le(n.feature_level);
  if (form >= 3) {
    out.le(static_cast<std::uint8_t>(n.draining ? 1 : 0)).le(static_cast<std::uint8_t>(n.role));
  }
  write_uuids(out, n.retired);
}

void write_record(Writer& out, const EpochRecord& r) {
  out.le(r.epoch.value).le(r.start.value).le(r.end ? r.end->value : std::int64_t{-1});
  out.le(r.leader.value).le(r.write_quorum).le(static_cast<std::uint8_t>(r.replicas.size()));
  for (const Replica& replica : r.replicas) {
    out.le(replica.node.value);
    write_uuid(out, replica.incarnation);
  }
}

void write_partition(Writer& out, const Partition& p, std::uint16_t form) {
  write_nodes(out, p.replicas);
  if (form >= 3) write_nodes(out, p.target);
  out.le(p.highest_proposed.value).le(p.candidate.value);
  out.le(static_cast<std::uint8_t>(p.current ? 1 : 0));
  if (p.current) write_record(out, *p.current);
  out.le(static_cast<std::uint32_t>(p.epochs.size()));
  for (const EpochStart& e : p.epochs) out.le(e.epoch.value).le(e.start.value);
  out.le(static_cast<std::uint8_t>(p.lost.size()));
  for (const LostRecord& l : p.lost) {
    out.le(l.from.value).le(l.to.value).sized(l.reason).le(l.at.ms);
  }
}

void write_topic(Writer& out, const Topic& t, std::uint16_t form) {
  write_uuid(out, t.id.uuid);
  out.sized(t.name).le(t.created.ms);
  write_settings(out, t.settings);
  out.le(static_cast<std::uint32_t>(t.partitions.size()));
  for (const auto& p : t.partitions) write_partition(out, *p, form);
}

}  // namespace

Bytes Catalog::encode_snapshot() const {
  Writer out;
  const std::uint16_t form = std::min(level_, kVersion);
  out.raw(as_bytes(kMagic)).le(form).le(level_);
  out.le(position_);
  write_uuid(out, cluster_);
  out.le(epoch_groups_).le(created_.ms).le(next_producer_id_);
  out.le(static_cast<std::uint32_t>(nodes_->size()));
  for (const auto& [id, node] : *nodes_) write_node(out, node, form);
  if (form >= 3) {
    out.le(static_cast<std::uint32_t>(removed_->size()));
    for (const Replica& disk : *removed_) {
      out.le(disk.node.value);
      write_uuid(out, disk.incarnation);
    }
    out.le(static_cast<std::uint32_t>(invited_->size()));
    for (const auto& [id, each] : *invited_) {
      out.le(id.value);
      write_uuid(out, each.incarnation);
      out.sized(each.host).le(each.port);
    }
  }
  write_settings(out, *cluster_settings_);
  out.le(static_cast<std::uint32_t>(machines_->size()));
  for (const auto& [machine, grant] : *machines_) {
    out.le(machine).le(grant.node.value).le(grant.ceiling_ms);
  }
  out.le(static_cast<std::uint32_t>(by_name_.size()));
  by_name_.for_each(
      [&](const std::string&, const TopicPtr& topic) { write_topic(out, *topic, form); });
  out.le(static_cast<std::uint32_t>(deleted_.size()));
  deleted_.for_each([&](const TopicId& id, std::uint64_t at) {
    write_uuid(out, id.uuid);
    out.le(at);
  });
  if (form >= 3) {
    out.le(static_cast<std::uint32_t>(counters_.size()));
    counters_.for_each(
        [&](const std::string& name, std::int64_t next) { out.sized(name).le(next); });
  }
  out.le(crc32c(out.view()));
  return out.take();
}

/// Reads a body that has the right checksum, and still trusts no length in it.
class SnapshotReader {
 public:
  SnapshotReader(ByteView body, std::uint16_t form, std::uint16_t level)
      : in_(body), form_(form), level_(level) {}

  Result<Catalog> read() {
    Catalog c;
    c.level_ = level_;
    c.position_ = in_.le<std::uint64_t>();
    c.cluster_ = read_uuid(in_);
    c.epoch_groups_ = in_.le<std::uint16_t>();
    c.created_ = WallMs{in_.le<std::int64_t>()};
    c.next_producer_id_ = in_.le<std::int64_t>();
    c.nodes_ = nodes();
    if (form_ >= 3) {
      c.removed_ = removed();
      c.invited_ = invited();
    }
    PYRALOG_ASSIGN(Settings cluster_settings, read_settings(in_));
    c.cluster_settings_ = std::make_shared<const Settings>(std::move(cluster_settings));
    c.machines_ = machines();
    const std::size_t topics = count(40);
    for (std::size_t i = 0; i < topics; ++i) {
      PYRALOG_ASSIGN(TopicPtr topic, read_topic(*c.cluster_settings_));
      if (c.collision(topic->name) || c.topic(topic->id)) return corrupt("a topic occurs twice");
      c.put(std::move(topic));
    }
    read_deleted(c);
    if (form_ >= 3) c.counters_ = counters();
    if (!sound_ || !in_.done()) return corrupt("its body is broken");
    return c;
  }

 private:
  /// A count of items of at least `least` bytes each; 0 and unsound if they cannot be there.
  std::size_t count(std::size_t least) {
    const std::size_t n = in_.le<std::uint32_t>();
    if (in_.ok() && n <= in_.left() / least) return n;
    sound_ = false;
    return 0;
  }
  std::size_t small_count(std::size_t least) {
    const std::size_t n = in_.le<std::uint8_t>();
    if (in_.ok() && n <= kMaxReplicas && n <= in_.left() / least) return n;
    sound_ = false;
    return 0;
  }

  std::shared_ptr<const std::map<NodeId, Node>> nodes() {
    auto all = std::make_shared<std::map<NodeId, Node>>();
    const std::size_t n = count(44);
    for (std::size_t i = 0; i < n; ++i) {
      Node node;
      node.id = NodeId(in_.le<std::int32_t>());
      node.incarnation = read_uuid(in_);
      node.boot_counter = in_.le<std::uint64_t>();
      node.host = in_.sized_text();
      node.port = in_.le<std::int32_t>();
      node.rack = in_.sized_text();
      if (form_ >= 2) {
        node.peer_host = in_.sized_text();
        node.peer_port = in_.le<std::int32_t>();
        node.feature_level = in_.le<std::uint16_t>();
      }
      if (form_ >= 3) {
        const auto draining = in_.le<std::uint8_t>();
        sound_ = draining <= 1 && sound_;
        node.draining = draining == 1;
        const auto role = in_.le<std::uint8_t>();
        sound_ = role <= static_cast<std::uint8_t>(NodeRole::kObelisk) && sound_;
        node.role = static_cast<NodeRole>(role);
      }
      const std::size_t retired = count(16);
      for (std::size_t r = 0; r < retired; ++r) node.retired.push_back(read_uuid(in_));
      const NodeId id = node.id;
      sound_ = all->emplace(id, std::move(node)).second && sound_;
    }
    return all;
  }

  std::shared_ptr<const std::vector<Replica>> removed() {
    auto all = std::make_shared<std::vector<Replica>>();
    const std::size_t n = count(20);
    if (n > Catalog::kMaxRemoved) sound_ = false;
    for (std::size_t i = 0; i < n && sound_; ++i) {
      const NodeId node(in_.le<std::int32_t>());
      all->push_back(Replica{node, read_uuid(in_)});
    }
    return all;
  }

  std::shared_ptr<const std::map<NodeId, Invitation>> invited() {
    auto all = std::make_shared<std::map<NodeId, Invitation>>();
    const std::size_t n = count(28);
    if (n > Catalog::kMaxInvited) sound_ = false;
    for (std::size_t i = 0; i < n && sound_; ++i) {
      const NodeId node(in_.le<std::int32_t>());
      Invitation each;
      each.incarnation = read_uuid(in_);
      each.host = in_.sized_text();
      each.port = in_.le<std::int32_t>();
      sound_ = all->emplace(node, std::move(each)).second;
    }
    return all;
  }

  std::shared_ptr<const std::map<std::uint16_t, MachineGrant>> machines() {
    auto all = std::make_shared<std::map<std::uint16_t, MachineGrant>>();
    const std::size_t n = count(14);
    for (std::size_t i = 0; i < n; ++i) {
      const auto machine = in_.le<std::uint16_t>();
      const NodeId node(in_.le<std::int32_t>());
      sound_ = all->emplace(machine, MachineGrant{node, in_.le<std::uint64_t>()}).second && sound_;
    }
    return all;
  }

  CowMap<std::string, std::int64_t> counters() {
    std::vector<std::pair<std::string, std::int64_t>> all;
    const std::size_t n = count(13);
    if (n > kMaxCounters) sound_ = false;
    for (std::size_t i = 0; i < n && sound_ && in_.ok(); ++i) {
      std::string name(in_.sized_text());
      const auto next = in_.le<std::int64_t>();
      if (!is_valid_counter_name(name) || next < 1 || (!all.empty() && name <= all.back().first)) {
        sound_ = false;
      }
      all.emplace_back(std::move(name), next);
    }
    if (!sound_ || !in_.ok()) return {};
    return CowMap<std::string, std::int64_t>::of_sorted(std::move(all));
  }

  void read_deleted(Catalog& c) {
    std::vector<std::pair<TopicId, std::uint64_t>> by_id(count(24));
    std::vector<std::pair<std::uint64_t, TopicId>> by_position;
    for (auto& [id, position] : by_id) {
      id.uuid = read_uuid(in_);
      position = in_.le<std::uint64_t>();
      by_position.emplace_back(position, id);
    }
    const auto first = [](const auto& item) { return item.first; };
    std::ranges::sort(by_position);
    sound_ = sound_ &&
             std::ranges::adjacent_find(by_id, std::greater_equal{}, first) == by_id.end() &&
             std::ranges::adjacent_find(by_position, {}, first) == by_position.end();
    if (!sound_) return;
    // An older version may have written more.
    if (by_position.size() > Catalog::kMaxDeleted) {
      const std::uint64_t oldest = by_position[by_position.size() - Catalog::kMaxDeleted].first;
      std::erase_if(by_id, [oldest](const auto& item) { return item.second < oldest; });
      std::erase_if(by_position, [oldest](const auto& item) { return item.first < oldest; });
    }
    c.deleted_ = CowMap<TopicId, std::uint64_t>::of_sorted(std::move(by_id));
    c.deleted_by_position_ = CowMap<std::uint64_t, TopicId>::of_sorted(std::move(by_position));
  }

  EpochRecord record() {
    EpochRecord r;
    r.epoch = Epoch(in_.le<std::uint32_t>());
    r.start = Offset(in_.le<std::int64_t>());
    const auto end = in_.le<std::int64_t>();
    if (end >= 0) r.end = Offset(end);
    r.leader = NodeId(in_.le<std::int32_t>());
    r.write_quorum = in_.le<std::uint16_t>();
    const std::size_t n = small_count(20);
    for (std::size_t i = 0; i < n; ++i) {
      const NodeId node(in_.le<std::int32_t>());
      r.replicas.push_back(Replica{node, read_uuid(in_)});
    }
    return r;
  }

  Partition partition(std::size_t index) {
    Partition p;
    p.index = PartitionIndex(static_cast<std::int32_t>(index));
    p.replicas = read_nodes(in_, sound_);
    if (form_ >= 3) p.target = read_nodes(in_, sound_);
    p.highest_proposed = Epoch(in_.le<std::uint32_t>());
    p.candidate = NodeId(in_.le<std::int32_t>());
    const auto has_current = in_.le<std::uint8_t>();
    if (has_current > 1 || p.replicas.empty()) sound_ = false;
    if (has_current == 1) p.current = record();
    const std::size_t epochs = count(12);
    for (std::size_t i = 0; i < epochs; ++i) {
      const Epoch epoch(in_.le<std::uint32_t>());
      p.epochs.push_back(EpochStart{epoch, Offset(in_.le<std::int64_t>())});
    }
    const std::size_t lost = small_count(28);
    for (std::size_t i = 0; i < lost; ++i) {
      LostRecord l;
      l.from = Offset(in_.le<std::int64_t>());
      l.to = Offset(in_.le<std::int64_t>());
      l.reason = in_.sized_text();
      l.at = WallMs{in_.le<std::int64_t>()};
      p.lost.push_back(std::move(l));
    }
    return p;
  }

  Result<TopicPtr> read_topic(const Settings& cluster_settings) {
    auto t = std::make_shared<Topic>();
    t->id.uuid = read_uuid(in_);
    t->name = in_.sized_text();
    t->created = WallMs{in_.le<std::int64_t>()};
    PYRALOG_ASSIGN(t->settings, read_settings(in_));
    PYRALOG_ASSIGN(t->config, make_topic_config(t->settings, cluster_settings));
    const std::size_t partitions = count(18);
    for (std::size_t i = 0; i < partitions && sound_ && in_.ok(); ++i) {
      t->partitions.push_back(std::make_shared<const Partition>(partition(i)));
    }
    if (!sound_ || !in_.ok() || t->partitions.empty() || !is_valid_topic_name(t->name)) {
      return corrupt("a topic is broken");
    }
    return t;
  }

  Reader in_;
  std::uint16_t form_;
  std::uint16_t level_;
  bool sound_ = true;
};

Result<Catalog> Catalog::decode_snapshot(ByteView bytes, std::uint16_t understood) {
  Reader in(bytes);
  const ByteView magic = in.raw(kMagic.size());
  const auto version = in.le<std::uint16_t>();
  const auto level = in.le<std::uint16_t>();
  if (!in.ok() || as_text(magic) != kMagic) return corrupt("it does not begin as one");
  if (PYRALOG_PLANT("catalog.read_newer")) understood = kFeatureLevel;
  if (version > kVersion || level > understood) {
    return fail(too_new("metadata snapshot of form " + std::to_string(version),
                        std::max(version, level), understood));
  }
  constexpr std::size_t kCrcBytes = 4;
  if (version == 0 || level < version || in.left() < kCrcBytes) return corrupt("it is cut short");
  const std::size_t covered = bytes.size() - kCrcBytes;
  if (load_le<std::uint32_t>(bytes.data() + covered) != crc32c(bytes.first(covered))) {
    return corrupt("its checksum does not match");
  }
  const std::size_t body = in.position();
  return SnapshotReader(bytes.subspan(body, covered - body), version, level).read();
}

}  // namespace pyralog::catalog
