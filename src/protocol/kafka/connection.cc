#include "protocol/kafka/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "io/rng.h"
#include "observe/metrics.h"

namespace pyralog::protocol::kafka {

namespace {
// An idle connection keeps only this much; requests without record batches fit into it.
constexpr Duration kLongestMemoryWait = std::chrono::minutes(10);

std::size_t read_buffer_bytes() {
  return PYRALOG_PLANT("kafka.large_read_buffers") ? 32u << 10 : 2u << 10;
}
}  // namespace

Connection::Connection(std::unique_ptr<io::Stream> stream, Handler& handler,
                       ConnectionLimits limits, RequestMemory& memory)
    : stream_(std::move(stream)),
      handler_(handler),
      limits_(limits),
      memory_(memory),
      holder_(memory),
      cutter_({.max_frame_bytes = limits.max_frame_bytes, .read_buffer_bytes = read_buffer_bytes()}) {}

Connection::Connection(std::unique_ptr<io::Stream> stream, Unread unread, Handler& handler,
                       ConnectionLimits limits, RequestMemory& memory)
    : Connection(std::move(stream), handler, limits, memory) {
  cutter_ = std::move(unread.cutter);
  first_ = std::move(unread.request);
}

std::size_t memory_of(const Reply& reply) {
  std::size_t bytes = 0;
  for (const io::Piece& piece : reply.pieces) {
    if (const auto* owned = std::get_if<SharedBytes>(&piece)) bytes += owned->size();
  }
  return bytes;
}

std::uint64_t size_of(const Reply& reply) {
  std::uint64_t bytes = 0;
  for (const io::Piece& piece : reply.pieces) {
    if (const auto* owned = std::get_if<SharedBytes>(&piece)) {
      bytes += owned->size();
    } else {
      bytes += std::get<io::FileRange>(piece).count;
    }
  }
  return bytes;
}

void Connection::drain() {
  draining_ = true;
  if (waiting_for_request_ && slots_.empty()) stream_->close();
  changed_.wake_all();
}

void Connection::close() {
  broken_ = true;
  stream_->close();
  holder_.leave();
  handler_.client_left();
  handler_.closed();
  changed_.wake_all();
}

io::Task<Result<void>> Connection::reserve(std::size_t whole, std::size_t now, Arrival& arrival) {
  const Instant begun = io::Shard::current().now();
  // However short idle clients are kept: this one would send if it could.
  const Instant deadline = PYRALOG_PLANT("kafka.wait_for_memory_for_ever")
                               ? Instant::never()
                               : begun + std::max(limits_.idle, kLongestMemoryWait);
  bool granted = true;
  if (reserved_) {
    granted = co_await memory_.grow(reserved_, now, deadline);
  } else {
    reserved_ = co_await memory_.begin(holder_, whole, now, deadline);
    granted = static_cast<bool>(reserved_);
  }
  const Instant done = io::Shard::current().now();
  arrival.put_off(done - begun);  // the wait was ours, not the client's
  if (granted) co_return Result<void>{};
  if (broken_) co_return fail(Code::kCancelled, "the connection was closed here");
  co_return fail(Code::kExhausted,
                 fmt::format("a request of {} bytes has waited for {} s for memory, which other requests "
                             "hold; raise queued.max.request.bytes",
                             whole, (done - begun) / 1s));
}

/// Others wait for what this request holds: one that dwindles to a drip, or stops, would hold them up
/// for as long as it may take. Whoever sends as evenly as half of what is asked anyway is not too slow.
Result<void> Connection::keep_pace(Arrival& arrival, std::size_t whole) const {
  const Instant now = io::Shard::current().now();
  if (whole == 0 || now < arrival.look) return {};
  const std::size_t bytes = std::exchange(arrival.bytes, 0);
  arrival.look = now + limits_.pace_time;
  const double part = 0.5 * (static_cast<double>(limits_.pace_time / 1ms) /
                             static_cast<double>(limits_.frame_time / 1ms));
  const auto least = static_cast<std::size_t>(static_cast<double>(whole) * part);
  if (bytes >= least || !memory_.is_wanted(reserved_) || PYRALOG_PLANT("kafka.any_pace")) return {};
  return fail(Code::kExhausted,
              fmt::format("others wait for the memory of a request of {} bytes of which {} came in {} s; send "
                          "it without pauses, or raise queued.max.request.bytes",
                          whole, bytes, limits_.pace_time / 1s));
}

io::Task<Result<Bytes>> Connection::next_frame() {
  Arrival arrival{.since = io::Shard::current().now(), .look = Instant::never()};
  if (first_) {
    PYRALOG_CO_TRY(co_await reserve(first_->size(), first_->size(), arrival));
    Bytes frame = std::move(*first_);
    first_.reset();
    co_return frame;
  }
  bool begun = !cutter_.at_boundary();
  while (true) {
    auto frame = cutter_.next();
    if (!frame) co_return fail(std::move(frame.error()));
    if (frame->has_value()) {
      if (!reserved_) {
        PYRALOG_CO_TRY(co_await reserve((*frame)->size(), (*frame)->size(), arrival));
      }
      co_return std::move(**frame);
    }
    const std::size_t whole = cutter_.frame_under_way();
    if (whole > 0) {
      PYRALOG_CO_TRY(co_await reserve(whole, cutter_.room(), arrival));
      if (arrival.look == Instant::never()) arrival.look = io::Shard::current().now() + limits_.pace_time;
    }
    const bool idle = cutter_.at_boundary();
    if (begun == idle) {
      begun = !idle;
      arrival.since = io::Shard::current().now();
    }
    waiting_for_request_ = idle;
    const Instant end = arrival.since + (idle ? limits_.idle : limits_.frame_time);
    auto got = co_await stream_->read_some(cutter_.buffer(), std::min(end, arrival.look));
    waiting_for_request_ = false;
    if (!got && got.error().code == Code::kTimedOut) {
      if (idle && !slots_.empty()) {
        arrival.since = io::Shard::current().now();  // whoever waits for an answer is not idle
        continue;
      }
      if (io::Shard::current().now() < end) {
        PYRALOG_CO_TRY(keep_pace(arrival, whole));
        continue;
      }
    }
    if (!got) co_return fail(std::move(got.error()));
    if (*got == 0) {
      co_return fail(Code::kCancelled, idle ? "the client closed the connection"
                                            : "the client left in the middle of a request");
    }
    cutter_.advance(*got);
    arrival.bytes += *got;
    if (cutter_.missing() > 0) PYRALOG_CO_TRY(keep_pace(arrival, whole));
  }
}

io::Task<void> Connection::admit(bool barrier, std::size_t bytes) {
  const auto must_wait = [&] {
    if (slots_.empty() || PYRALOG_PLANT("kafka.no_credits")) return false;
    return barrier || slots_.size() >= limits_.max_pipelined ||
           (unsent_bytes_ > limits_.max_unsent_bytes && !PYRALOG_PLANT("kafka.answers_pile_up")) ||
           slot_bytes_ + bytes > limits_.max_pipelined_bytes;
  };
  if (!must_wait() || broken_) co_return;
  const Instant begun = io::Shard::current().now();
  while (must_wait() && !broken_) co_await changed_.wait(Instant::never());
  if (!barrier) handler_.waited_for_credit(io::Shard::current().now() - begun);
}

io::Task<void> Connection::serve(RequestBytes request, std::shared_ptr<Slot> slot,
                                 Duration queued) {
  slot->reply = co_await handler_.handle(std::move(request), queued);
  // The request is gone; its answer may lie here for as long as a slow client takes.
  if (!PYRALOG_PLANT("kafka.answered_requests_hold")) slot->memory.release();
  if (broken_) slot->reply = {};  // nobody takes it
  slot->answer_bytes = memory_of(slot->reply);
  unsent_bytes_ += slot->answer_bytes;
  slot->ready = true;
  changed_.wake_all();
}

io::Task<Result<void>> Connection::send(std::vector<io::Piece> pieces) {
  if (PYRALOG_PLANT("kafka.slow_clients_are_dropped")) {
    return stream_->write(std::move(pieces), io::Shard::current().now() + limits_.write_time);
  }
  return stream_->write_while_taken(std::move(pieces), limits_.write_time);
}

io::Task<void> Connection::write_replies() {
  while (true) {
    while ((slots_.empty() || !slots_.front()->ready) && !broken_ &&
           !(reading_done_ && slots_.empty())) {
      co_await changed_.wait(Instant::never());
    }
    if (broken_ || slots_.empty()) break;
    // What is ready goes out in one piece.
    std::vector<io::Piece> pieces;
    bool ending = false;
    std::size_t taken = 0;
    for (; taken < slots_.size() && slots_[taken]->ready && !ending; ++taken) {
      auto& reply = slots_[taken]->reply;
      std::move(reply.pieces.begin(), reply.pieces.end(), std::back_inserter(pieces));
      reply.pieces.clear();
      ending = reply.close || (PYRALOG_PLANT("kafka.end_any_connection") &&
                               io::Shard::current().rng().next() % 200 == 0);
    }
    if (!pieces.empty()) {
      auto written = co_await send(std::move(pieces));
      if (!written) ending = true;
    }
    const Instant sent = io::Shard::current().now();
    for (std::size_t i = 0; i < taken; ++i) {
      const Slot& slot = *slots_.front();
      if (slot.reply.whole != nullptr) slot.reply.whole->record(sent - slot.came);
      slot_bytes_ -= slots_.front()->frame_bytes;
      unsent_bytes_ -= slots_.front()->answer_bytes;
      slots_.pop_front();
    }
    if (ending || (draining_ && waiting_for_request_ && slots_.empty())) {
      close();
      break;
    }
    changed_.wake_all();
  }
  for (const auto& slot : slots_) {
    if (slot->ready) slot->reply = {};
  }
}

io::Task<void> Connection::close_later() {
  while (!broken_ && !slots_.empty()) {
    const bool going_out = slots_.front()->ready && !PYRALOG_PLANT("kafka.cut_answers_after_the_linger");
    const Instant last = io::Shard::current().now() + limits_.linger;
    if (!co_await changed_.wait(going_out ? Instant::never() : last)) break;
  }
  if (!broken_) close();
}

io::Task<Result<void>> Connection::run() {
  tasks_.spawn(write_replies());
  Result<void> end;
  bool after_barrier = false;
  while (!broken_ && !draining_) {
    auto frame = co_await next_frame();
    if (!frame) {
      end = fail(std::move(frame.error()));
      // It may have ended its side only; then what is made soon still goes out. What takes longer, the wait
      // for other members of a group say, must not keep the socket and the place of a client that is gone.
      if (PYRALOG_PLANT("kafka.clients_that_left_keep_their_place")) break;
      if (end.error().code == Code::kUnavailable) close();
      if (end.error().code == Code::kCancelled) {
        handler_.client_ended();
        tasks_.spawn(close_later());
      }
      break;
    }
    if (const auto shard = handler_.better_shard(*frame)) {
      co_await admit(true, frame->size());
      if (broken_) break;
      if (!draining_) {
        if (PYRALOG_PLANT("kafka.move_without_what_came_behind")) (void)cutter_.next();
        move_.emplace(*shard, nullptr, Unread{std::move(*frame), std::move(cutter_)});
        break;
      }
    }
    const bool barrier = handler_.is_barrier(*frame);
    const Instant came = io::Shard::current().now();
    co_await admit(barrier || after_barrier, frame->size());
    if (broken_) break;
    after_barrier = barrier;
    auto slot = std::make_shared<Slot>();
    slot->frame_bytes = frame->size();
    slot->came = came;
    slot->memory = std::move(reserved_);
    slot_bytes_ += frame->size();
    slots_.push_back(slot);
    tasks_.spawn(serve(std::make_shared<Bytes>(std::move(*frame)), std::move(slot),
                       io::Shard::current().now() - came));
  }
  reading_done_ = true;
  changed_.wake_all();
  co_await tasks_.join();
  if (move_ && !broken_) {
    move_->stream = std::move(stream_);
    co_return end;
  }
  move_.reset();
  stream_->close();
  handler_.closed();
  co_return end;
}

}  // namespace pyralog::protocol::kafka
