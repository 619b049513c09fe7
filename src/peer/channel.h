#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/net.h"
#include "io/shard.h"
#include "peer/credits.h"
#include "peer/frame.h"
#include "wire/peer/message.h"

namespace pyralog::peer {

using wire::peer::Kind;
using wire::peer::Packed;

struct ChannelOptions {
  /// A connection on which nothing has come for so long is over: the peer may be cut off.
  Duration dead_after = 700ms;
  /// Who has nothing to say says so this often.
  Duration beat_every = 150ms;
  /// How long a peer may take nothing of what is sent to it. Long: a peer that does not read
  /// because it has too much to do still beats, and one that is gone is noticed by its silence.
  Duration write_patience = 30s;
  std::size_t max_body_bytes = 32u << 20;  ///< of one frame; the same on all nodes
  std::size_t read_block_bytes = 128u << 10;
  std::size_t max_batch_bytes = 1u << 20;  ///< that leave in one write, but for one frame
  std::size_t max_batch_frames = 1024;
};

/// One frame on its way out. `hold` is given back once it has left.
struct Outgoing {
  Packed message;
  std::uint64_t correlation = 0;
  std::uint8_t flags = 0;
  Credits::Hold hold;
};

/// An authenticated connection as a row of frames each way: writes what is queued, what was queued
/// in one turn of the loop at once; checks what it reads; beats; notices a silent peer. Lives on
/// one shard as a shared_ptr. Knows nothing of requests and replies, nor of bounds on its queue:
/// its owners do.
class Channel : public std::enable_shared_from_this<Channel> {
 public:
  struct Stats {
    std::uint64_t frames_sent = 0;
    std::uint64_t bytes_sent = 0;
    std::uint64_t writes = 0;
    std::uint64_t frames_read = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t reads = 0;
    std::uint64_t beats_read = 0;
  };
  /// What takes a frame that is no beat; an error ends the connection.
  using OnFrame = std::move_only_function<Result<void>(Frame)>;

  /// `name` says who is at the other end, in errors.
  Channel(std::unique_ptr<io::Stream> stream, const Key& send_key, const Key& receive_key,
          std::string name, ChannelOptions options);

  /// Reads and writes until the connection ends, and says why it did. Once.
  [[nodiscard]] io::Task<Error> run(OnFrame on_frame);
  /// Queues a frame; drops it if the connection has ended.
  void send(Outgoing frame);
  /// Drops a request that is still in the queue.
  void unqueue(std::uint64_t correlation);
  /// While held, nothing is read; the peer is not missed meanwhile.
  void hold_reading(bool held);
  /// Ends the connection; the first reason counts.
  void close(Error why);
  [[nodiscard]] bool closed() const { return why_.has_value(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const Stats& stats() const { return stats_; }
  [[nodiscard]] const ChannelOptions& options() const { return options_; }

 private:
  io::Task<void> read_all(OnFrame on_frame);
  io::Task<void> write_all();
  io::Task<void> beat_all();
  /// One frame of the block, checked and handed on. False if more bytes are needed; ends the
  /// connection.
  bool take_one(OnFrame& on_frame);
  io::Task<Result<std::size_t>> read_some();
  [[nodiscard]] std::vector<io::Piece> next_batch();

  std::unique_ptr<io::Stream> stream_;
  FrameMac send_mac_;
  FrameMac receive_mac_;
  std::string name_;
  ChannelOptions options_;
  FrameReader reader_;
  std::deque<Outgoing> queue_;
  std::vector<Outgoing> leaving_;  ///< in the write that is under way
  io::WaitList queued_;
  io::WaitList resumed_;
  io::WaitList ended_;
  bool held_ = false;
  Instant last_heard_{};
  std::optional<Error> why_;
  Stats stats_;
};

}  // namespace pyralog::peer
