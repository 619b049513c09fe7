#include "cluster/first_start.h"

#include <algorithm>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/plant.h"
#include "catalog/entry.h"
#include "peer/auth.h"

namespace pyralog::cluster {

FirstStart decide_first_start(NodeId self, const Uuid& incarnation,
                              const std::vector<Member>& members,
                              const std::map<NodeId, Seen>& seen, bool waited_long,
                              std::uint16_t own_level) {
  const bool named = std::ranges::find(members, self, &Member::node) != members.end();
  Uuid exists;
  for (const auto& [node, each] : seen) {
    if (!each.cluster.is_nil()) exists = each.cluster;
  }
  if (!named) {
    if (exists.is_nil()) return {};
    return {FirstStart::Kind::kJoin, exists, 0};
  }
  std::map<NodeId, Uuid> disks{{self, incarnation}};
  std::uint16_t level = own_level;
  for (const Member& each : members) {
    const auto found = seen.find(each.node);
    if (found == seen.end()) continue;
    disks.emplace(each.node, found->second.incarnation);
    if (!PYRALOG_PLANT("cluster.begin_with_own_level"))
      level = std::min(level, found->second.level);
  }
  const bool enough =
      PYRALOG_PLANT("cluster.begin_with_a_majority") && 2 * disks.size() > members.size();
  if (disks.size() < members.size() && !enough) {
    if (exists.is_nil() || !waited_long) return {};
    return {FirstStart::Kind::kJoin, exists, 0};
  }
  const Uuid name = cluster_of(disks, level);
  if (exists.is_nil() || exists == name) return {FirstStart::Kind::kBegin, name, level};
  return {FirstStart::Kind::kJoin, exists, 0};
}

Uuid cluster_of(const std::map<NodeId, Uuid>& disks, std::uint16_t level) {
  Writer text;
  text.raw(as_bytes(std::string_view("pyralog cluster 1"))).le(level);
  for (const auto& [node, disk] : disks) text.le(node.value).raw(disk.bytes);
  const peer::Digest digest = peer::sha256({text.view()});
  Uuid id;
  std::copy_n(digest.begin(), id.bytes.size(), id.bytes.begin());
  id.bytes[6] =
      static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x80);  // version 8: of our own making
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

catalog::Catalog first_catalog(const std::map<NodeId, Uuid>& disks, std::uint16_t level) {
  std::vector<catalog::Entry> entries;
  catalog::ClusterCreated created;
  created.cluster = cluster_of(disks, level);
  entries.emplace_back(created);
  // Where they listen, the command lines and the nodes themselves say.
  for (const auto& [node, disk] : disks) {
    const catalog::Entry invited = catalog::NodeInvited{node, disk, "", 0};
    if (level >= catalog::level_of(invited)) {
      entries.push_back(invited);
      continue;
    }
    // Who knows no invitations knows disks that are registered. Each start counts higher.
    catalog::NodeRegistered expected;
    expected.node = node;
    expected.incarnation = disk;
    entries.emplace_back(expected);
  }
  catalog::Catalog state;
  PYRALOG_ASSERT(state.apply_all(entries));
  return state;
}

}  // namespace pyralog::cluster
