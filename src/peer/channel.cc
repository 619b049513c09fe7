#include "peer/channel.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "io/pace.h"
#include "peer/shake.h"
#include "wire/peer/gen/handshake.h"

namespace pyralog::peer {
namespace {

/// So little is copied beside its header: a piece of its own costs the system more.
constexpr std::size_t kCopied = 1024;

Packed beat() {
  auto packed = wire::peer::pack(wire::peer::Beat{});
  PYRALOG_ASSERT(packed.has_value());
  return std::move(*packed);
}

std::size_t frame_bytes(const Outgoing& frame) {
  return kHeaderBytes + frame.message.bytes + sizeof(Mac);
}

/// Frames as pieces: little ones together in one block, large pieces where they lie.
class Gather {
 public:
  explicit Gather(std::size_t block_bytes) { block_.reserve(block_bytes); }
  void copy(ByteView bytes) { block_.insert(block_.end(), bytes.begin(), bytes.end()); }
  void add(const SharedBytes& piece) {
    if (piece.size() <= kCopied) return copy(piece.view());
    cuts_.push_back({block_.size(), piece});
  }
  [[nodiscard]] std::vector<io::Piece> take() {
    const SharedBytes block(std::move(block_));
    std::vector<io::Piece> pieces;
    pieces.reserve(2 * cuts_.size() + 1);
    std::size_t at = 0;
    for (Cut& cut : cuts_) {
      if (cut.at > at) pieces.emplace_back(block.slice(at, cut.at - at));
      at = cut.at;
      pieces.emplace_back(std::move(cut.piece));
    }
    if (at < block.size()) pieces.emplace_back(block.slice(at, block.size() - at));
    return pieces;
  }

 private:
  struct Cut {
    std::size_t at;
    SharedBytes piece;
  };
  Bytes block_;
  std::vector<Cut> cuts_;
};

}  // namespace

Channel::Channel(std::unique_ptr<io::Stream> stream, const Key& send_key, const Key& receive_key,
                 std::string name, ChannelOptions options)
    : stream_(std::move(stream)),
      send_mac_(send_key),
      receive_mac_(receive_key),
      name_(std::move(name)),
      options_(options),
      reader_({options.max_body_bytes, options.read_block_bytes}) {
  PYRALOG_ASSERT(options_.max_body_bytes >= 4096);  // a Refusal fits
  // One beat may be late and the next must still be in time.
  PYRALOG_ASSERT(options_.beat_every * 2 < options_.dead_after);
}

io::Task<Error> Channel::run(OnFrame on_frame) {
  const std::shared_ptr<Channel> self = shared_from_this();
  last_heard_ = io::Shard::current().now();
  io::TaskGroup tasks;
  tasks.spawn(write_all());
  tasks.spawn(beat_all());
  co_await read_all(std::move(on_frame));
  co_await tasks.join();
  co_return *why_;
}

void Channel::close(Error why) {
  if (why_) return;
  why_ = std::move(why);
  stream_->close();
  queue_.clear();
  queued_.wake_all();
  resumed_.wake_all();
  ended_.wake_all();
}

// --- out

void Channel::send(Outgoing frame) {
  if (why_) return;
  PYRALOG_ASSERT(frame.message.bytes <= options_.max_body_bytes);
  queue_.push_back(std::move(frame));
  queued_.wake_all();
}

void Channel::unqueue(std::uint64_t correlation) {
  const auto at = std::ranges::find(queue_, correlation, &Outgoing::correlation);
  if (at != queue_.end()) queue_.erase(at);
}

std::vector<io::Piece> Channel::next_batch() {
  std::size_t bytes = 0;
  std::size_t block_bytes = 0;
  while (!queue_.empty() && leaving_.size() < options_.max_batch_frames) {
    Outgoing& next = queue_.front();
    if (!leaving_.empty() && bytes + frame_bytes(next) > options_.max_batch_bytes) break;
    bytes += frame_bytes(next);
    block_bytes += kHeaderBytes + sizeof(Mac);
    for (const SharedBytes& piece : next.message.pieces) {
      if (piece.size() <= kCopied) block_bytes += piece.size();
    }
    leaving_.push_back(std::move(next));
    queue_.pop_front();
  }
  Gather gather(block_bytes);
  for (const Outgoing& frame : leaving_) {
    const Packed& message = frame.message;
    const RawHeader header = encode(Header{static_cast<std::uint32_t>(message.bytes),
                                           static_cast<std::uint16_t>(message.kind),
                                           message.version, frame.correlation, frame.flags});
    gather.copy(header);
    for (const SharedBytes& piece : message.pieces) gather.add(piece);
    gather.copy(send_mac_.next(header, message.pieces));
  }
  stats_.frames_sent += leaving_.size();
  stats_.bytes_sent += bytes;
  ++stats_.writes;
  return gather.take();
}

io::Task<void> Channel::write_all() {
  while (!why_) {
    if (queue_.empty()) {
      co_await queued_.wait(Instant::never());
      continue;
    }
    auto written = co_await stream_->write_while_taken(next_batch(), options_.write_patience);
    leaving_.clear();
    if (!written) {
      written.error().message =
          name_ + ": " + without(stream_->peer(), std::move(written.error().message));
      close(std::move(written.error()));
    }
  }
}

io::Task<void> Channel::beat_all() {
  std::uint64_t before = stats_.frames_sent;
  while (!why_) {
    co_await ended_.wait(io::in_step(options_.beat_every));
    if (why_) break;
    // What is on its way says as much as a beat.
    if (queue_.empty() && leaving_.empty() && stats_.frames_sent == before) {
      send({.message = beat(), .correlation = 0, .flags = 0, .hold = {}});
    }
    before = stats_.frames_sent;
  }
}

// --- in

void Channel::hold_reading(bool held) {
  if (held_ == held) return;
  held_ = held;
  if (!held) resumed_.wake_all();
}

bool Channel::take_one(OnFrame& on_frame) {
  auto next = reader_.next();
  if (next && !*next) return false;
  Result<void> taken = {};
  if (!next) {
    taken = fail(std::move(next.error()));
  } else {
    Frame& frame = **next;
    const Mac mac = receive_mac_.next(frame.raw, frame.body.view());
    if (!equal(mac, frame.mac) && !PYRALOG_PLANT("peer.skip_mac")) {
      taken = fail(Code::kCorrupt,
                   "a frame fails its authentication; the network or somebody in it has "
                   "changed what was sent");
    } else if (frame.header.kind == static_cast<std::uint16_t>(Kind::kBeat)) {
      ++stats_.beats_read;
    } else {
      ++stats_.frames_read;
      taken = on_frame(std::move(frame));
    }
  }
  if (taken) return true;
  taken.error().message = name_ + ": " + taken.error().message;
  close(std::move(taken.error()));
  return true;
}

io::Task<Result<std::size_t>> Channel::read_some() {
  // A shard that was held up itself finds its timers due before it has looked at its sockets: only
  // what has not come after one more look is late.
  const Duration last_look = options_.dead_after / 8;
  Instant deadline = last_heard_ + options_.dead_after - last_look;
  if (PYRALOG_PLANT("peer.forget_peer_timeout")) deadline = Instant::never();
  auto got = co_await stream_->read_some(reader_.buffer(), deadline);
  if (got || got.error().code != Code::kTimedOut) co_return got;
  co_return co_await stream_->read_some(reader_.buffer(), io::Shard::current().now() + last_look);
}

io::Task<void> Channel::read_all(OnFrame on_frame) {
  while (!why_) {
    if (held_) {
      co_await resumed_.wait(Instant::never());
      last_heard_ = io::Shard::current().now();
      continue;
    }
    if (take_one(on_frame)) continue;
    auto got = co_await read_some();
    if (!got || *got == 0) {
      Error why =
          got ? Error{Code::kUnavailable, "closed the connection", 0} : std::move(got.error());
      if (why.code == Code::kTimedOut) {
        why.message = "nothing has come from it in time; is it cut off?";
      }
      why.message = name_ + ": " + without(stream_->peer(), std::move(why.message));
      close(std::move(why));
      break;
    }
    reader_.advance(*got);
    stats_.bytes_read += *got;
    ++stats_.reads;
    last_heard_ = io::Shard::current().now();
  }
}

}  // namespace pyralog::peer
