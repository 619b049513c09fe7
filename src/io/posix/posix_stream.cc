#include "io/posix/posix_stream.h"

#include <fmt/format.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/plant.h"
#include "io/posix/errors.h"
#include "io/posix/posix_shard.h"
#include "io/posix/write_patience.h"

namespace pyralog::io::posix {

namespace {

constexpr std::size_t kMaxPieces = 64;
// As much of a file as is offered at once.
constexpr std::uint64_t kFileChunk = SendPipe::kBytes;
// As much as is checked for being in memory before it is sent: the send itself would wait for the device
// on the shard's thread.
constexpr std::uint64_t kChecked = 2 * kFileChunk;
// So little goes along with what is before it.
constexpr std::uint64_t kLittleRest = SendPipe::kMost - SendPipe::kBytes;
// How much is sent before the reader's processor is asked for again.
constexpr std::uint64_t kAskAgain = 8u << 20;
// What a socket takes at once, of which there is no measure but what it took before.
constexpr std::uint64_t kLeastPart = 64 * 1024;

/// How long a write waits for its peer: until `deadline`, or, with `patience`, for as long as the peer
/// takes something.
struct Limit {
  Instant deadline = Instant::never();
  Duration patience{0};
};

/// Bytes that the peer has not confirmed yet, of those that the system has taken.
std::optional<std::int64_t> unconfirmed(const Socket& socket) {
  int bytes = 0;
  if (socket.closed() || ::ioctl(socket.fd(), SIOCOUTQ, &bytes) != 0) return std::nullopt;
  return bytes;
}

/// Waits until more can be written. That there is room again is progress; but the system says so only
/// once much of its buffer is free, so a wait that is overdue asks how much is still unconfirmed.
Task<Result<void>> wait_writable(std::shared_ptr<Socket> socket, Limit limit) {
  if (limit.patience == Duration(0)) {
    co_return co_await socket->wait(Socket::Ready::kWritable, limit.deadline);
  }
  const Shard& shard = socket->shard();
  WritePatience patience(shard.now(), limit.patience);
  while (true) {
    auto ready = co_await socket->wait(Socket::Ready::kWritable, patience.next_look(shard.now()));
    if (ready || ready.error().code != Code::kTimedOut) co_return ready;
    if (patience.is_over(shard.now(), unconfirmed(*socket))) co_return ready;
  }
}

/// Sends the memory pieces from `index` on, as far as they go without a file between them. Returns
/// after all of them; moves `index` behind them.
Task<Result<void>> send_memory(std::shared_ptr<Socket> socket, const std::vector<Piece>& pieces,
                               std::size_t& index, Limit limit, const std::string& peer) {
  std::size_t skip = 0;  // bytes of pieces[index] that are sent already
  while (true) {
    std::array<iovec, kMaxPieces> batch;
    std::size_t count = 0;
    std::size_t end = index;
    while (end < pieces.size() && count < kMaxPieces) {
      const auto* bytes = std::get_if<SharedBytes>(&pieces[end]);
      if (bytes == nullptr) break;
      const std::size_t from = end == index ? skip : 0;
      batch[count++] = {const_cast<std::uint8_t*>(bytes->data()) + from, bytes->size() - from};
      ++end;
    }
    if (count == 0) co_return Result<void>{};
    msghdr message{};
    message.msg_iov = batch.data();
    message.msg_iovlen = count;
    const int more = end < pieces.size() ? MSG_MORE : 0;
    const ssize_t sent = ::sendmsg(socket->fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT | more);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) co_return fail(system_error(errno, peer, "send"));
      PYRALOG_CO_TRY(co_await wait_writable(socket, limit));
      continue;
    }
    auto left = static_cast<std::size_t>(sent);
    while (index < end) {
      const std::size_t size = std::get<SharedBytes>(pieces[index]).size() - skip;
      if (left < size) break;
      left -= size;
      skip = 0;
      ++index;
    }
    skip += left;
  }
}

/// Whether sendfile blames the file, and not the connection.
bool is_of_file(int number) {
  return number == EIO || number == EUCLEAN || number == EBADMSG || number == ENODATA ||
         number == ENXIO || number == ESTALE;
}

/// The file cannot be read: its owner hears of it, and the write ends.
std::unexpected<Error> unreadable(const FileRange& range, Error error) {
  if (range.owner != nullptr) {
    range.owner->unreadable(range.file->path(), range.position, range.count, error);
  }
  return fail(std::move(error));
}

/// The processor that handled what came last from the peer. On this machine it is the one where the peer
/// runs as long as that was a request; what confirms bytes that we send may be handled where we run.
int processor_of_peer(const Socket& socket) {
  int processor = -1;
  socklen_t size = sizeof processor;
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_INCOMING_CPU, &processor, &size) != 0) return -1;
  return processor;
}

Task<Result<void>> send_file(std::shared_ptr<Socket> socket, FileRange range, Limit limit,
                             const std::string& peer) {
  auto& file = static_cast<PosixFile&>(*range.file);
  const std::uint64_t end = range.position + range.count;
  std::uint64_t next = range.position;
  std::uint64_t checked = range.position;
  std::uint64_t part = kFileChunk;  // what is offered at once: a bit more than was taken
  while (next < end) {
    if (next >= checked) {
      const std::uint64_t chunk = end - next <= kChecked + kLittleRest ? end - next : kChecked;
      if (!file.probably_cached(next, chunk)) {
        if (auto warm = co_await file.warm(next, chunk); !warm) {
          co_return unreadable(range, std::move(warm.error()));
        }
        if (socket->closed()) {
          co_return fail(Code::kCancelled, fmt::format("{}: the connection was closed here", peer));
        }
      }
      checked = next + chunk;
    }
    if (file.sync_has_failed() && !PYRALOG_PLANT("io.send_after_a_failed_sync")) {
      co_return unreadable(range, Error{Code::kIo, fmt::format("{}: a sync has failed, and what it was to "
                                                               "write may be gone from memory", file.path()), 0});
    }
    // A little rest goes along.
    const std::uint64_t left = checked - next;
    const auto count = static_cast<std::size_t>(left <= part + kLittleRest ? left : part);
    const SendPipe::Sent sent =
        socket->shard().send_pipe().send(socket->fd(), file.fd(), next, count);
    next += sent.bytes;
    if (sent.error == 0 && sent.offered == 0) {
      co_return unreadable(range, Error{Code::kIo, fmt::format("{}: ends before the range that is to "
                                                               "be sent", file.path()), 0});
    }
    if (is_of_file(sent.error)) {
      co_return unreadable(range,
                           system_error(sent.error, file.path(), fmt::format("send to {}", peer)));
    }
    if (sent.error != 0 && sent.error != EAGAIN && sent.error != EWOULDBLOCK) {
      co_return fail(system_error(sent.error, peer, fmt::format("send of {}", file.path())));
    }
    if (sent.error != 0 || sent.bytes < sent.offered) {
      part = std::clamp(sent.bytes + kLeastPart, kLeastPart, kFileChunk);
      PYRALOG_CO_TRY(co_await wait_writable(socket, limit));
    } else {
      part = std::min(2 * part, kFileChunk);
    }
  }
  co_return Result<void>{};
}

}  // namespace

void set_stream_options(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

PosixStream::PosixStream(PosixShard& shard, int fd, Address peer, Accepted accepted)
    : socket_(std::make_shared<Socket>(shard, fd)),
      peer_(std::move(peer)),
      local_(local_address(fd)),
      on_this_machine_(is_loopback(peer_) || peer_.host == local_.host),
      accepted_(std::move(accepted)) {}

void PosixStream::limit_send_buffer(std::uint32_t bytes) {
  const int value = static_cast<int>(std::min(bytes, std::uint32_t{INT32_MAX}));
  ::setsockopt(socket_->fd(), SOL_SOCKET, SO_SNDBUF, &value, sizeof value);
}

Task<Result<std::size_t>> PosixStream::read_some(MutableBytes out, Instant deadline) {
  return socket_->receive(out, deadline, peer_);
}

Task<Result<void>> PosixStream::write(std::vector<Piece> pieces, Instant deadline) {
  return send(std::move(pieces), deadline, Duration(0));
}

Task<Result<void>> PosixStream::write_while_taken(std::vector<Piece> pieces, Duration patience) {
  return send(std::move(pieces), Instant::never(), patience);
}

Task<Result<void>> PosixStream::send(std::vector<Piece> pieces, Instant deadline, Duration patience) {
  const Limit limit{deadline, patience};
  const std::shared_ptr<Socket> socket = socket_;
  const std::string peer = to_string(peer_);
  std::size_t index = 0;
  if (on_this_machine_) look_where_peer_is(*socket);
  while (index < pieces.size()) {
    if (socket->closed()) {
      co_return fail(Code::kCancelled, fmt::format("{}: the connection was closed here", peer));
    }
    if (const auto* range = std::get_if<FileRange>(&pieces[index])) {
      PYRALOG_CO_TRY(co_await send_file(socket, *range, limit, peer));
      if (on_this_machine_) {
        since_asked_ += range->count;
        socket->shard().sent_file(processor_, range->count);
      }
      ++index;
    } else {
      PYRALOG_CO_TRY(co_await send_memory(socket, pieces, index, limit, peer));
    }
  }
  co_return Result<void>{};
}

void PosixStream::look_where_peer_is(const Socket& socket) {
  if (processor_ >= 0 && since_asked_ < kAskAgain) return;
  processor_ = processor_of_peer(socket);
  since_asked_ = 0;
}

Task<Result<std::unique_ptr<Stream>>> PosixStream::move_to(Shard& target) {
  if (socket_->closed()) {
    co_return fail(Code::kCancelled,
                   fmt::format("{}: the connection was closed here", to_string(peer_)));
  }
  // It registers with the target's event loop when it first waits there.
  std::unique_ptr<Stream> moved = std::make_unique<PosixStream>(
      static_cast<PosixShard&>(target), socket_->release(), std::move(peer_), std::move(accepted_));
  co_return moved;
}

}  // namespace pyralog::io::posix
