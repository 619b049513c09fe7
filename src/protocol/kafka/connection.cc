#include "protocol/kafka/connection.h"

#include <algorithm>

#include "base/plant.h"
#include "io/rng.h"
#include "observe/metrics.h"

namespace pyralog::protocol::kafka {

namespace {
// An idle connection keeps only this much; requests without record batches fit into it.
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
      cutter_({.max_frame_bytes = limits.max_frame_bytes, .read_buffer_bytes = read_buffer_bytes()}) {}

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
  handler_.client_left();
  changed_.wake_all();
}

io::Task<void> Connection::reserve(std::size_t whole, std::size_t now, Instant& since) {
  const Instant begun = io::Shard::current().now();
  if (reserved_) {
    co_await memory_.grow(reserved_, now);
  } else {
    reserved_ = co_await memory_.begin(whole, now);
  }
  since = since + (io::Shard::current().now() - begun);  // the wait was ours, not the client's
}

io::Task<Result<Bytes>> Connection::next_frame() {
  Instant since = io::Shard::current().now();  // of the silence, or of the frame's first byte
  bool begun = !cutter_.at_boundary();
  while (true) {
    auto frame = cutter_.next();
    if (!frame) co_return fail(std::move(frame.error()));
    if (frame->has_value()) {
      if (!reserved_) co_await reserve((*frame)->size(), (*frame)->size(), since);
      co_return std::move(**frame);
    }
    if (const std::size_t whole = cutter_.frame_under_way(); whole > 0) {
      co_await reserve(whole, cutter_.room(), since);
    }
    const bool idle = cutter_.at_boundary();
    if (begun == idle) {
      begun = !idle;
      since = io::Shard::current().now();
    }
    waiting_for_request_ = idle;
    auto got = co_await stream_->read_some(cutter_.buffer(),
                                           since + (idle ? limits_.idle : limits_.frame_time));
    waiting_for_request_ = false;
    if (!got && got.error().code == Code::kTimedOut && idle && !slots_.empty()) {
      since = io::Shard::current().now();  // whoever waits for an answer is not idle
      continue;
    }
    if (!got) co_return fail(std::move(got.error()));
    if (*got == 0) {
      co_return fail(Code::kCancelled, idle ? "the client closed the connection"
                                            : "the client left in the middle of a request");
    }
    cutter_.advance(*got);
  }
}

io::Task<void> Connection::admit(bool barrier, std::size_t bytes) {
  const auto must_wait = [&] {
    if (slots_.empty() || PYRALOG_PLANT("kafka.no_credits")) return false;
    return barrier || slots_.size() >= limits_.max_pipelined ||
           (unsent_bytes_ > limits_.max_unsent_bytes && !PYRALOG_PLANT("kafka.answers_pile_up")) ||
           slot_bytes_ + bytes > limits_.max_pipelined_bytes;
  };
  while (must_wait() && !broken_) co_await changed_.wait(Instant::never());
}

io::Task<void> Connection::serve(RequestBytes request, std::shared_ptr<Slot> slot,
                                 Duration queued) {
  slot->reply = co_await handler_.handle(std::move(request), queued);
  // The request is gone; its answer may lie here for as long as a slow client takes.
  if (!PYRALOG_PLANT("kafka.answered_requests_hold")) slot->memory.release();
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
}

io::Task<Result<void>> Connection::run() {
  tasks_.spawn(write_replies());
  Result<void> end;
  bool after_barrier = false;
  while (!broken_ && !draining_) {
    auto frame = co_await next_frame();
    if (!frame) {
      end = fail(std::move(frame.error()));
      // It may have ended its side only; then what is made already still goes out.
      if (end.error().code == Code::kCancelled || end.error().code == Code::kUnavailable) {
        handler_.client_left();
      }
      break;
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
  stream_->close();
  co_return end;
}

}  // namespace pyralog::protocol::kafka
