#include "io/sim/sim_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "io/sim/sim_file.h"
#include "io/sim/sim_shard.h"
#include "io/sim/simulator.h"

namespace pyralog::io::sim {

Error SimStream::broken(const Connection& connection) const {
  const std::string who = to_string(connection.ends[1 - side_].address);
  if (connection.ends[side_].closed) {
    return {Code::kCancelled, fmt::format("{}: the connection was closed here", who), 0};
  }
  return {Code::kUnavailable, fmt::format("{}: connection reset by peer", who), ECONNRESET};
}

Task<Result<std::size_t>> SimStream::read_some(MutableBytes out, Instant deadline) {
  const std::shared_ptr<Connection> connection = connection_;
  End& mine = connection->ends[side_];
  End& other = connection->ends[1 - side_];
  Simulator& sim = net_.sim_;
  while (mine.inbox.empty()) {
    if (mine.closed || connection->reset) co_return fail(broken(*connection));
    if (mine.ended) co_return std::size_t{0};
    if (!co_await mine.readable.wait(deadline)) {
      co_return fail(Code::kTimedOut, fmt::format("{}: nothing came in time", to_string(other.address)));
    }
  }
  if (mine.closed) co_return fail(broken(*connection));
  std::size_t count = std::min(out.size(), mine.inbox.size());
  if (count > 1 && net_.rng_.chance(net_.options_.short_read)) {
    sim.stats().add("net.short_read");
    count = 1 + net_.rng_.below(count);
  }
  count = std::min({count, out.size(), mine.inbox.size()});
  const auto end = mine.inbox.begin() + static_cast<std::ptrdiff_t>(count);
  std::copy(mine.inbox.begin(), end, out.begin());
  mine.inbox.erase(mine.inbox.begin(), end);
  other.unread -= count;
  other.writable.wake_all();
  co_return count;
}

Task<Result<void>> SimStream::send(ByteView bytes, Instant deadline, Duration patience) {
  const std::shared_ptr<Connection> connection = connection_;
  End& mine = connection->ends[side_];
  while (!bytes.empty()) {
    if (mine.closed || connection->reset) co_return fail(broken(*connection));
    const NetOptions& options = net_.options_;
    if (mine.unread >= options.buffer_bytes) {
      net_.sim_.stats().add("net.backpressure");
      // Confirmed is what the peer has read, and every read wakes who waits here.
      const Instant last =
          patience == Duration(0) ? deadline : Shard::current().now() + patience;
      if (!co_await mine.writable.wait(last)) {
        co_return fail(Code::kTimedOut, fmt::format("{}: does not read in time",
                                                    to_string(connection->ends[1 - side_].address)));
      }
      continue;
    }
    std::uint64_t count = std::min<std::uint64_t>(
        {bytes.size(), options.buffer_bytes - mine.unread, options.segment_bytes});
    if (net_.rng_.chance(0.1)) count = 1 + net_.rng_.below(count);
    const ByteView part = bytes.first(count);
    net_.send(connection, side_, Bytes(part.begin(), part.end()), false);
    bytes = bytes.subspan(count);
  }
  co_return Result<void>{};
}

Task<Result<void>> SimStream::write(std::vector<Piece> pieces, Instant deadline) {
  return send_all(std::move(pieces), deadline, Duration(0));
}

Task<Result<void>> SimStream::write_while_taken(std::vector<Piece> pieces, Duration patience) {
  return send_all(std::move(pieces), Instant::never(), patience);
}

Task<Result<void>> SimStream::send_all(std::vector<Piece> pieces, Instant deadline,
                                       Duration patience) {
  const std::shared_ptr<Connection> connection = connection_;
  if (connection->ends[side_].closed || connection->reset) co_return fail(broken(*connection));
  for (const Piece& piece : pieces) {
    if (const auto* shared = std::get_if<SharedBytes>(&piece)) {
      PYRALOG_CO_TRY(co_await send(shared->view(), deadline, patience));
      continue;
    }
    const FileRange& range = std::get<FileRange>(piece);
    const auto& file = static_cast<const SimFile&>(*range.file);
    auto readable = file.may_send();
    const Bytes bytes = file.copy(range.position, range.count);
    if (readable && bytes.size() != range.count) {
      readable = fail(Code::kIo, fmt::format("{}: ends before the range that is to be sent", file.path()));
    }
    if (!readable) {
      if (range.owner != nullptr) {
        range.owner->unreadable(file.path(), range.position, range.count, readable.error());
      }
      co_return readable;
    }
    net_.sim_.stats().add("net.file_range");
    PYRALOG_CO_TRY(co_await send(bytes, deadline, patience));
  }
  co_return Result<void>{};
}

void SimStream::close() {
  if (connection_ != nullptr) net_.close_end(connection_, side_);
}

Task<Result<std::unique_ptr<Stream>>> SimStream::move_to(Shard&) {
  std::unique_ptr<Stream> moved = std::make_unique<SimStream>(net_, std::move(connection_), side_);
  co_return moved;
}

}  // namespace pyralog::io::sim
