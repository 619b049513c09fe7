#include "io/posix/posix_net.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "io/pools.h"
#include "io/posix/descriptors.h"
#include "io/posix/errors.h"
#include "io/posix/posix_shard.h"
#include "io/posix/posix_stream.h"
#include "io/posix/socket.h"

namespace pyralog::io::posix {

namespace {

Task<Result<std::vector<SystemAddress>>> resolve_in_pool(Address address) {
  if (is_numeric(address.host)) co_return resolve(address);
  co_return co_await run_in(Pool::kWork, [&address] { return resolve(address); });
}

const sockaddr* raw(const SystemAddress& address) {
  return reinterpret_cast<const sockaddr*>(&address.storage);
}

class PosixListener final : public Listener {
 public:
  PosixListener(PosixShard& shard, int fd, Address local)
      : socket_(std::make_shared<Socket>(shard, fd)), local_(std::move(local)) {}
  ~PosixListener() override { close(); }
  void close() override { socket_->close(); }
  const Address& local() const override { return local_; }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    const std::shared_ptr<Socket> socket = socket_;
    const std::string name = to_string(local_);
    // Without descriptors a listener would be ready at once, again and again.
    if (std::exchange(exhausted_, false)) co_await sleep_for(std::chrono::milliseconds(50));
    while (!socket->closed()) {
      if (!room_for_connection(*accepted_)) {
        // Whoever comes waits in the backlog; while nobody does there is nothing to tell.
        PYRALOG_CO_TRY(co_await wait_for_client(socket));
        if (!socket->closed() && !room_for_connection(*accepted_)) {
          exhausted_ = true;
          co_return fail(no_room_for_connection(name));
        }
        continue;
      }
      SystemAddress peer;
      peer.length = sizeof peer.storage;
      const int fd = ::accept4(socket->fd(), reinterpret_cast<sockaddr*>(&peer.storage),
                               &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        set_stream_options(fd);
        std::unique_ptr<Stream> stream =
            std::make_unique<PosixStream>(socket->shard(), fd, to_address(peer), Accepted(accepted_));
        co_return stream;
      }
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        PYRALOG_CO_TRY(co_await wait_for_client(socket));
        continue;
      }
      // Connections that ended before we took them are no errors of ours.
      if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO) continue;
      exhausted_ = true;
      co_return fail(system_error(errno, name, "accept"));
    }
    co_return fail(Code::kCancelled, fmt::format("{}: the listener was closed", name));
  }

 private:
  static Task<Result<void>> wait_for_client(std::shared_ptr<Socket> socket) {
    auto ready = co_await socket->wait(Socket::Ready::kReadable, Instant::never());
    // When it was closed, the caller says so.
    if (!ready && ready.error().code == Code::kCancelled) co_return Result<void>{};
    co_return ready;
  }

  std::shared_ptr<Socket> socket_;
  Address local_;
  Accepted::Count accepted_ = std::make_shared<std::atomic<std::uint64_t>>(0);
  bool exhausted_ = false;
};

Result<int> listen_on(const SystemAddress& address, const std::string& name) {
  const int family = address.storage.ss_family;
  const int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(system_error(errno, name, "socket"));
  const int one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  const char* call = "bind";
  if (::bind(fd, raw(address), address.length) == 0) {
    call = "listen";
    if (::listen(fd, 1024) == 0) return fd;
  }
  const int number = errno;
  ::close(fd);
  return fail(system_error(number, name, call));
}

}  // namespace

Task<Result<std::unique_ptr<Listener>>> PosixNet::listen(Address address) {
  const std::string name = to_string(address);
  PYRALOG_CO_ASSIGN(const auto found, co_await resolve_in_pool(address));
  PYRALOG_CO_ASSIGN(const int fd, listen_on(found.front(), name));
  std::unique_ptr<Listener> listener =
      std::make_unique<PosixListener>(shard_, fd, local_address(fd));
  co_return listener;
}

namespace {

Task<Result<int>> connect_to(PosixShard& shard, SystemAddress address, std::string name,
                             Instant deadline) {
  const int fd =
      ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) co_return fail(system_error(errno, name, "socket"));
  auto socket = std::make_shared<Socket>(shard, fd);
  if (::connect(fd, raw(address), address.length) != 0) {
    if (errno != EINPROGRESS) co_return fail(system_error(errno, name, "connect"));
    if (auto ready = co_await socket->wait(Socket::Ready::kWritable, deadline); !ready) {
      const bool late = ready.error().code == Code::kTimedOut;
      co_return fail(ready.error().code,
                     fmt::format("{}: connect: {}{}", name, ready.error().message,
                                 late ? "; is the server running?" : ""),
                     ready.error().sys_errno);
    }
    int number = 0;
    socklen_t size = sizeof number;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size);
    if (number != 0) co_return fail(system_error(number, name, "connect"));
  }
  set_stream_options(fd);
  co_return socket->release();
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> PosixNet::connect(Address address, Instant deadline) {
  PYRALOG_CO_ASSIGN(const auto found, co_await resolve_in_pool(address));
  Error last{Code::kNotFound, fmt::format("{}: has no address", to_string(address)), 0};
  for (const SystemAddress& one : found) {
    auto fd = co_await connect_to(shard_, one, to_string(address), deadline);
    if (fd) {
      std::unique_ptr<Stream> stream =
          std::make_unique<PosixStream>(shard_, *fd, to_address(one));
      co_return stream;
    }
    last = std::move(fd.error());
    if (last.code == Code::kTimedOut || last.code == Code::kCancelled) break;
  }
  co_return fail(std::move(last));
}

}  // namespace pyralog::io::posix
