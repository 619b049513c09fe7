#include "link.h"

namespace pyralog::simtest {

io::Task<Result<void>> Link::connect(io::Address address, Duration within) {
  close();
  io::Shard& shard = io::Shard::current();
  PYRALOG_CO_ASSIGN(stream_,
                    co_await shard.net().connect(std::move(address), shard.now() + within));
  cutter_.emplace(wire::FrameCutter::Options{});
  next_id_ = awaited_ = 1;
  co_return Result<void>{};
}

void Link::close() {
  if (stream_ != nullptr) stream_->close();
  stream_.reset();
}

io::Task<Result<void>> Link::write(Bytes bytes) {
  if (stream_ == nullptr) co_return fail(Code::kUnavailable, "not connected");
  std::vector<io::Piece> pieces;
  pieces.emplace_back(SharedBytes(std::move(bytes)));
  auto written = co_await stream_->write(std::move(pieces),
                                         io::Shard::current().now() + std::chrono::seconds(1));
  if (!written) close();
  co_return written;
}

io::Task<Result<Bytes>> Link::next_frame(Instant deadline) {
  if (stream_ == nullptr) co_return fail(Code::kUnavailable, "not connected");
  while (true) {
    auto frame = cutter_->next();
    if (!frame) co_return fail(std::move(frame.error()));
    if (frame->has_value()) co_return std::move(**frame);
    auto got = co_await stream_->read_some(cutter_->buffer(), deadline);
    if (!got) co_return fail(std::move(got.error()));
    if (*got == 0) co_return fail(Code::kUnavailable, "the server closed the connection");
    cutter_->advance(*got);
  }
}

}  // namespace pyralog::simtest
