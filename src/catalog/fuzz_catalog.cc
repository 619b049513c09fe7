#include <cstdlib>

#include "base/crc32c.h"
#include "catalog/catalog.h"
#include "catalog/reassign.h"

namespace {

using namespace pyralog;
using namespace pyralog::catalog;

/// Three nodes, and a topic of id 0…01 on the first two, whose only partition leads in epoch 1.
Catalog some_cluster() {
  Catalog c;
  const auto apply = [&](const Entry& entry) {
    if (!c.apply(entry, c.position() + 1)) std::abort();
  };
  ClusterCreated created;
  created.cluster.bytes[0] = 1;
  apply(created);
  EpochActivation first;
  for (std::int32_t id = 1; id <= 3; ++id) {
    NodeRegistered node;
    node.node = NodeId(id);
    node.boot_counter = 1;
    node.host = "h";
    node.incarnation.bytes[15] = static_cast<std::uint8_t>(id);
    apply(node);
    if (id < 3) first.replicas.push_back({node.node, node.incarnation});
  }
  TopicCreated topic;
  topic.name = "t";
  topic.partitions = {{NodeId(1), NodeId(2)}};
  topic.id.uuid.bytes[15] = 1;
  apply(topic);
  first.partition.topic = topic.id;
  first.epoch = Epoch(1);
  first.leader = NodeId(1);
  first.write_quorum = 2;
  apply(EpochsActivated{{first}});
  return c;
}

/// Plans are made of any state.
void judge_state(const Catalog& c) {
  for (const TopicPtr& topic : c.topics()) {
    for (const auto& p : topic->partitions) {
      for (const NodeId each : p->replicas) {
        (void)next_replicas(*p, {{each}, replaced_disks(*p, c)}, each,
                            topic->config.min_insync_replicas);
        (void)hand_over(*p, {{each}, replaced_disks(*p, c)}, each);
        (void)replace_missing(*p, {{each}, replaced_disks(*p, c)}, each,
                              topic->config.min_insync_replicas);
        (void)replicas_for_candidate(*p, each, topic->config.min_insync_replicas);
        (void)replicas_for_candidate(*p, each, topic->config.min_insync_replicas, {each});
      }
    }
  }
  if (!c.nodes().empty()) (void)plan_drain(c, c.nodes().begin()->first, 2);
}

/// What can be read is written back as the same bytes, and applies or is refused without harm.
void judge_entry(ByteView bytes) {
  const auto entry = decode_entry(bytes);
  if (!entry) return;
  const Bytes again = encode_entry(*entry);
  if (again.size() != bytes.size() || !std::equal(again.begin(), again.end(), bytes.begin())) {
    std::abort();
  }
  Catalog empty;
  ClusterCreated created;
  created.cluster.bytes[0] = 1;
  if (!empty.apply(created, 1)) std::abort();
  if (!empty.apply(*entry, 2) && empty.position() != 1) std::abort();
  static const Catalog cluster = some_cluster();
  Catalog c = cluster;
  if (!c.apply(*entry, c.position() + 1) && !(c == cluster)) std::abort();
  judge_state(c);
  const auto back = Catalog::decode_snapshot(c.encode_snapshot());
  if (!back || !(*back == c)) std::abort();
}

/// The fuzzer cannot guess checksums, so the last four bytes are set right first.
void judge_snapshot(ByteView bytes) {
  if (bytes.size() < 4) return;
  Bytes sealed(bytes.begin(), bytes.end());
  const std::size_t covered = sealed.size() - 4;
  store_le(sealed.data() + covered, crc32c(ByteView(sealed).first(covered)));
  auto c = Catalog::decode_snapshot(sealed);
  if (!c) return;
  judge_state(*c);
  const auto again = Catalog::decode_snapshot(c->encode_snapshot());
  if (!again || !(*again == *c)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (data[0] == 'P') {
    judge_snapshot({data, size});
  } else {
    judge_entry({data, size});
  }
  return 0;
}
