#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "multiraft/multiraft.h"
#include "peer/links.h"
#include "peer/service.h"
#include "wire/peer/gen/raft_messages.h"
#include "wire/peer/gen/raft_snapshot.h"

namespace pyralog::cluster {

/// The groups' messages as they travel, and back. `decode` leaves out nothing: what does not fit is
/// for MultiRaft to refuse. kCorrupt for what is no message.
[[nodiscard]] wire::peer::RaftMessages encode_messages(
    const std::vector<multiraft::GroupMessage>& messages);
[[nodiscard]] Result<std::vector<multiraft::GroupMessage>> decode_messages(
    const wire::peer::RaftMessages& messages);

/// Carries what the Raft groups say over a shard's links: messages as one frame a turn, snapshots
/// in pieces that are asked for one by one. Lives on the shard of the MultiRaft. To be ended in
/// this order: MultiRaft::stop, `forget`, the links' stop, `join`.
class RaftTransport final : public multiraft::Transport {
 public:
  struct Options {
    std::size_t chunk_bytes = 512u << 10;
    std::size_t max_snapshot_bytes = 400u << 20;  ///< a larger one is refused before it is taken
    Duration chunk_timeout = std::chrono::seconds(5);
    /// Of all snapshots on their way here, when whole; and how many.
    std::size_t max_arriving_bytes = 512u << 20;
    std::size_t max_arriving = 64;
    Duration silence = std::chrono::seconds(30);  ///< after that, what has come of one is dropped
  };
  explicit RaftTransport(peer::Links& links) : RaftTransport(links, Options()) {}
  RaftTransport(peer::Links& links, Options options) : links_(links), options_(options) {}
  /// From now on `raft` gets what other nodes send to `service`, which is this shard's.
  void serve(peer::Service& service, multiraft::MultiRaft& raft);
  /// It goes away: what still comes is dropped.
  void forget() {
    raft_ = nullptr;
    arriving_.clear();
    arriving_bytes_ = 0;
  }
  /// Returns once what stop() left behind, a question to a node that does not answer, has ended:
  /// soon after the links have.
  [[nodiscard]] io::Task<void> join() { return tasks_.join(); }

  bool send(NodeId to, std::vector<multiraft::GroupMessage> messages) override;
  [[nodiscard]] io::Task<Result<void>> send_snapshot(multiraft::GroupMessage message,
                                                     SharedBytes content) override;
  /// MultiRaft::stop calls it: send_snapshot ends with kCancelled.
  void stop() override;
  /// Of all snapshots on their way here, when whole.
  [[nodiscard]] std::size_t arriving_bytes() const { return arriving_bytes_; }

 private:
  using Key = std::pair<NodeId, multiraft::GroupId>;
  /// A snapshot on its way here; one for each sender and group, the newest. Its whole size counts
  /// from the first piece on.
  struct Arriving {
    std::int64_t from_term = 0;
    std::int64_t index = 0;
    std::int64_t term = 0;
    std::int64_t total = 0;
    Bytes bytes;
    Instant last;  ///< when something of it has come
  };
  /// A question under way, and its answer.
  struct Asked {
    std::optional<Result<peer::Reply>> reply;
    io::WaitList done;
  };
  io::Task<void> ask(std::shared_ptr<Asked> asked, NodeId to, wire::peer::Packed packed);
  [[nodiscard]] io::Task<Result<peer::Reply>> answer_of(NodeId to, wire::peer::Packed packed);
  void take_messages(const peer::Request& request);
  void take_chunk(peer::Request request);
  [[nodiscard]] Result<std::int64_t> took(NodeId from,
                                          const wire::peer::RaftSnapshotRequest& chunk);
  [[nodiscard]] Result<void> begin(const Key& key, const wire::peer::RaftSnapshotRequest& chunk);
  [[nodiscard]] Result<void> install(const Key& key, const wire::peer::RaftSnapshotRequest& chunk);
  std::map<Key, Arriving>::iterator drop(std::map<Key, Arriving>::iterator which);
  void drop_silent();

  peer::Links& links_;
  Options options_;
  multiraft::MultiRaft* raft_ = nullptr;
  std::map<Key, Arriving> arriving_;
  std::size_t arriving_bytes_ = 0;
  bool stopping_ = false;
  std::set<Asked*> asked_;
  io::TaskGroup tasks_;
};

}  // namespace pyralog::cluster
