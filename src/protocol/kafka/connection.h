#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "io/net.h"
#include "io/shard.h"
#include "protocol/kafka/answer_memory.h"
#include "protocol/kafka/request_memory.h"
#include "wire/kafka/frame_cutter.h"

namespace pyralog::observe {
class Histogram;
}

namespace pyralog::protocol::kafka {

/// Kafka's error codes in one answer, each with how often it is there. Mostly empty.
class ErrorCounts {
 public:
  void add(std::int16_t code) {
    if (code == 0) return;
    for (auto& [known, count] : all_) {
      if (known == code) {
        ++count;
        return;
      }
    }
    all_.emplace_back(code, 1u);
  }
  [[nodiscard]] bool empty() const { return all_.empty(); }
  [[nodiscard]] const std::vector<std::pair<std::int16_t, std::uint32_t>>& all() const {
    return all_;
  }

 private:
  std::vector<std::pair<std::int16_t, std::uint32_t>> all_;
};

/// One request as it came: the bytes after the length prefix. The receiver owns them and may write
/// into the record batches that it accepts.
using RequestBytes = std::shared_ptr<Bytes>;

/// What goes back for one request: complete bytes with their length prefix, or nothing at all
/// (acks=0). `close` ends the connection once everything before it has been sent.
struct Reply {
  std::vector<io::Piece> pieces;
  bool close = false;
  AnswerMemory::Hold memory{};  ///< until it has been sent
  ErrorCounts errors{};         ///< that it tells
  observe::Histogram* whole = nullptr;  ///< is told how long it took from the request's last byte on
};
/// Bytes of a reply, of memory and files.
[[nodiscard]] std::uint64_t size_of(const Reply& reply);
/// Bytes of a reply that are in memory; what comes from files is not.
[[nodiscard]] std::size_t memory_of(const Reply& reply);

/// Whatever answers requests. Called on the connection's shard.
class Handler {
 public:
  virtual ~Handler() = default;
  /// Runs at once up to its first suspension, in the order in which the frames came; replies are
  /// sent in that order too, whichever is ready first. `queued` is how long it has waited for its
  /// turn.
  [[nodiscard]] virtual io::Task<Reply> handle(RequestBytes request, Duration queued) = 0;
  /// True if this request may start only when every earlier one has been answered, and later ones
  /// only after it.
  [[nodiscard]] virtual bool is_barrier(ByteView request) const = 0;
  /// Another shard that serves this request and those like it with less work: its connection is to go on
  /// there, with this request. Asked before each is begun.
  [[nodiscard]] virtual std::optional<unsigned> better_shard(ByteView) { return std::nullopt; }
  /// No more requests come; whoever has ended its side may still take the answers. What waits for records
  /// answers with what there is.
  virtual void client_ended() {}
  /// Nobody is there for the answers any more: what waits for room for one, or for records, need not.
  virtual void client_left() {}
  /// A request has waited so long because others of its connection are under way: for their number, their
  /// bytes, or answers that the client has not taken.
  virtual void waited_for_credit(Duration) {}
  /// The connection's socket is closed; requests may still be under way.
  virtual void closed() {}
};

struct ConnectionLimits {
  std::size_t max_frame_bytes = 100u << 20;       ///< a larger request ends the connection
  std::size_t max_pipelined = 64;                 ///< requests begun and not yet answered
  std::size_t max_pipelined_bytes = 128u << 20;   ///< and the bytes of their frames
  std::size_t max_unsent_bytes = 1u << 20;        ///< of answers in memory; beyond, nothing is begun
  Duration idle = std::chrono::minutes(10);       ///< without a request, the connection ends
  Duration frame_time = std::chrono::seconds(60);  ///< for a request begun to arrive in full
  /// While others wait for memory that a request under way has: in each such time it brings half of what
  /// comes in it at the pace of `frame_time`.
  Duration pace_time = std::chrono::seconds(10);
  /// How long the next answer to a client that has ended its side may take to be made.
  Duration linger = std::chrono::seconds(5);
  Duration write_time = std::chrono::seconds(60);  ///< in which a client takes nothing of its answers
};

/// One client connection: cuts frames, lets them be handled, answers in order. A client that sends
/// faster than it is served stops being read, nothing is dropped; one that takes its answers slowly is
/// waited for as long as it takes anything of them. Lives on the stream's shard.
class Connection {
 public:
  /// `memory` bounds what the requests of all connections of the shard hold; whoever finds it used
  /// up stops being read until others have been answered or have left, for `idle` at most. kExhausted
  /// ends the connection then, and one that sends too slowly what others wait for.
  Connection(std::unique_ptr<io::Stream> stream, Handler& handler, ConnectionLimits limits,
             RequestMemory& memory);
  /// What a client has sent that is not begun.
  struct Unread {
    Bytes request;
    wire::kafka::FrameCutter cutter;  ///< with what came behind it
  };
  /// Goes on with a connection that was served on another shard.
  Connection(std::unique_ptr<io::Stream> stream, Unread unread, Handler& handler, ConnectionLimits limits,
             RequestMemory& memory);

  /// Serves until the client leaves, misbehaves, `drain` or `close` is called, or the connection is to go
  /// on elsewhere (`moved`). The reason is in the result: success for an orderly end.
  [[nodiscard]] io::Task<Result<void>> run();
  struct Move {
    unsigned shard;
    std::unique_ptr<io::Stream> stream;
    Unread unread;
  };
  /// After `run`: nothing is under way, and the stream is open still.
  [[nodiscard]] std::optional<Move> moved() { return std::move(move_); }
  /// No new requests; those begun are answered, then the connection ends.
  void drain();
  /// Ends at once.
  void close();
  [[nodiscard]] const io::Stream& stream() const { return *stream_; }

 private:
  struct Slot {
    Reply reply;
    std::size_t frame_bytes = 0;
    std::size_t answer_bytes = 0;
    Instant came;  ///< its last byte
    RequestMemory::Hold memory;
    bool ready = false;
  };

  /// The request that is arriving.
  struct Arrival {
    Instant since;               ///< of the silence, or of its first byte
    Instant look;                ///< when its pace is looked at next
    std::size_t bytes = 0;       ///< that have come since the last look
    void put_off(Duration by) {
      since = since + by;
      if (look != Instant::never()) look = look + by;
    }
  };
  io::Task<Result<Bytes>> next_frame();
  io::Task<Result<void>> reserve(std::size_t whole, std::size_t now, Arrival& arrival);
  [[nodiscard]] Result<void> keep_pace(Arrival& arrival, std::size_t whole) const;
  io::Task<void> admit(bool barrier, std::size_t bytes);
  io::Task<void> serve(RequestBytes request, std::shared_ptr<Slot> slot, Duration queued);
  [[nodiscard]] io::Task<Result<void>> send(std::vector<io::Piece> pieces);
  io::Task<void> write_replies();
  /// Closes what is still open when no answer has become ready for the linger time; those that are ready
  /// are sent for as long as they are taken. Requests may be under way for longer.
  io::Task<void> close_later();

  std::unique_ptr<io::Stream> stream_;
  Handler& handler_;
  ConnectionLimits limits_;
  RequestMemory& memory_;
  RequestMemory::Holder holder_;
  RequestMemory::Hold reserved_;  ///< for the frame that is being read
  wire::kafka::FrameCutter cutter_;
  std::optional<Bytes> first_;  ///< a request that came on another shard
  std::optional<Move> move_;
  std::deque<std::shared_ptr<Slot>> slots_;
  std::size_t slot_bytes_ = 0;
  std::size_t unsent_bytes_ = 0;  ///< of answers that are ready, in memory
  io::WaitList changed_;  ///< a slot became ready or was sent, or the connection is ending
  io::TaskGroup tasks_;
  bool draining_ = false;
  bool waiting_for_request_ = false;
  bool broken_ = false;  ///< the stream is of no more use
  bool reading_done_ = false;
};

}  // namespace pyralog::protocol::kafka
