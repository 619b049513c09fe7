#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "multiraft/multiraft.h"
#include "peer/links.h"
#include "peer/service.h"
#include "wire/peer/gen/raft_messages.h"

namespace pyralog::cluster {

/// The groups' messages as they travel, and back. `decode` leaves out nothing: what does not fit is
/// for MultiRaft to refuse. kCorrupt for what is no message.
[[nodiscard]] wire::peer::RaftMessages encode_messages(
    const std::vector<multiraft::GroupMessage>& messages);
[[nodiscard]] Result<std::vector<multiraft::GroupMessage>> decode_messages(
    const wire::peer::RaftMessages& messages);

/// Carries what the Raft groups say over a shard's links: messages as one frame a turn, snapshots
/// in pieces that are asked for one by one. Lives on the shard of the MultiRaft.
class RaftTransport final : public multiraft::Transport {
 public:
  struct Options {
    std::size_t chunk_bytes = 512u << 10;
    std::size_t max_snapshot_bytes = 400u << 20;  ///< a larger one is refused before it is taken
    Duration chunk_timeout = std::chrono::seconds(5);
  };
  explicit RaftTransport(peer::Links& links) : RaftTransport(links, Options()) {}
  RaftTransport(peer::Links& links, Options options) : links_(links), options_(options) {}
  /// From now on `raft` gets what other nodes send to `service`, which is this shard's.
  void serve(peer::Service& service, multiraft::MultiRaft& raft);
  /// It goes away: what still comes is dropped.
  void forget() { raft_ = nullptr; }

  void send(NodeId to, std::vector<multiraft::GroupMessage> messages) override;
  [[nodiscard]] io::Task<Result<void>> send_snapshot(multiraft::GroupMessage message,
                                                     SharedBytes content) override;

 private:
  /// A snapshot on its way here; one for each sender and group, the newest.
  struct Arriving {
    std::int64_t from_term = 0;
    std::int64_t index = 0;
    std::int64_t term = 0;
    std::int64_t total = 0;
    Bytes bytes;
  };
  void take_messages(const peer::Request& request);
  void take_chunk(peer::Request request);

  peer::Links& links_;
  Options options_;
  multiraft::MultiRaft* raft_ = nullptr;
  std::map<std::pair<NodeId, multiraft::GroupId>, Arriving> arriving_;
};

}  // namespace pyralog::cluster
