#include "io/posix/socket.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <cerrno>
#include <cstring>

#include "io/posix/errors.h"
#include "io/posix/posix_shard.h"

namespace pyralog::io::posix {

namespace asio = boost::asio;

/// One asynchronous call with a deadline. Resumes inline from the event loop.
template <typename Start>
class Socket::Operation {
 public:
  Operation(Socket& socket, Instant deadline, Start start)
      : socket_(socket), deadline_(deadline), start_(std::move(start)) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> h) {
    handle_ = h;
    if (deadline_ != Instant::never()) {
      timer_ = socket_.shard_->call_at(deadline_, [this] {
        timer_ = 0;
        timed_out_ = true;
        // Cancels the other direction's wait too; that one starts again.
        boost::system::error_code ignored;
        if (socket_.asio_) socket_.asio_->cancel(ignored);
      });
    }
    start_(*socket_.asio_, [this](const boost::system::error_code& error, std::size_t bytes = 0) {
      if (timer_ != 0) socket_.shard_->cancel_timer(timer_);
      error_ = error;
      bytes_ = bytes;
      handle_.resume();
    });
  }
  struct Outcome {
    boost::system::error_code error;
    std::size_t bytes;
    bool timed_out;
  };
  Outcome await_resume() const noexcept { return {error_, bytes_, timed_out_}; }

 private:
  Socket& socket_;
  Instant deadline_;
  Start start_;
  std::coroutine_handle<> handle_;
  Shard::TimerId timer_ = 0;
  boost::system::error_code error_;
  std::size_t bytes_ = 0;
  bool timed_out_ = false;
};

Socket::~Socket() { close(); }

void Socket::close() {
  if (fd_ < 0) return;
  if (asio_) {
    boost::system::error_code ignored;
    asio_->close(ignored);
  } else {
    ::close(fd_);
  }
  fd_ = -1;
  count_closed();
}

int Socket::release() {
  const int fd = std::exchange(fd_, -1);
  if (fd >= 0) count_closed();  // whoever takes it counts it again
  if (!asio_) return fd;
  boost::system::error_code ignored;
  const int released = asio_->release(ignored);
  asio_.reset();
  return released;
}

Result<void> Socket::attach() {
  if (asio_ || fd_ < 0) return {};
  asio_.emplace(shard_->context());
  boost::system::error_code error;
  asio_->assign(asio::generic::stream_protocol(AF_INET, 0), fd_, error);
  if (error) {
    asio_.reset();
    return fail(system_error(error.value(), "socket", "register with the event loop"));
  }
  return {};
}

Task<Result<void>> Socket::wait(Ready what, Instant deadline) {
  const auto alive = shared_from_this();
  PYRALOG_CO_TRY(attach());
  while (!closed()) {
    const auto type = what == Ready::kReadable ? asio::socket_base::wait_read
                                               : asio::socket_base::wait_write;
    const auto outcome = co_await Operation(
        *this, deadline, [type](auto& socket, auto done) { socket.async_wait(type, done); });
    if (closed()) break;
    if (outcome.timed_out) co_return fail(Code::kTimedOut, "no answer in time");
    if (!outcome.error) co_return Result<void>{};
    if (outcome.error != asio::error::operation_aborted) {
      co_return fail(system_error(outcome.error.value(), "socket", "wait"));
    }
  }
  co_return fail(Code::kCancelled, "the connection was closed here");
}

Task<Result<std::size_t>> Socket::receive(MutableBytes out, Instant deadline, const Address& peer) {
  const auto alive = shared_from_this();
  PYRALOG_ASSERT(!out.empty());
  PYRALOG_CO_TRY(attach());
  while (!closed()) {
    const auto outcome = co_await Operation(*this, deadline, [out](auto& socket, auto done) {
      socket.async_receive(asio::buffer(out.data(), out.size()), done);
    });
    if (closed()) break;
    if (!outcome.error) co_return outcome.bytes;
    if (outcome.error == asio::error::eof) co_return std::size_t{0};
    if (outcome.timed_out) {
      co_return fail(Code::kTimedOut, fmt::format("{}: nothing came in time", to_string(peer)));
    }
    if (outcome.error != asio::error::operation_aborted) {
      co_return fail(system_error(outcome.error.value(), to_string(peer), "receive"));
    }
  }
  co_return fail(Code::kCancelled,
                 fmt::format("{}: the connection was closed here", to_string(peer)));
}

bool is_numeric(const std::string& host) {
  std::array<std::uint8_t, 16> parsed{};
  return ::inet_pton(AF_INET, host.c_str(), parsed.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), parsed.data()) == 1;
}

Result<std::vector<SystemAddress>> resolve(const Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (is_numeric(address.host) ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  const std::string port = std::to_string(address.port);
  const int failed = ::getaddrinfo(address.host.c_str(), port.c_str(), &hints, &found);
  if (failed != 0) {
    return fail(Code::kNotFound, fmt::format("{}: the host cannot be resolved: {}",
                                             to_string(address), ::gai_strerror(failed)));
  }
  std::vector<SystemAddress> result;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    SystemAddress one;
    std::memcpy(&one.storage, entry->ai_addr, entry->ai_addrlen);
    one.length = entry->ai_addrlen;
    result.push_back(one);
  }
  ::freeaddrinfo(found);
  return result;
}

Address to_address(const SystemAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.storage.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address.storage, sizeof v6);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    return {text.data(), ntohs(v6.sin6_port)};
  }
  sockaddr_in v4{};
  std::memcpy(&v4, &address.storage, sizeof v4);
  ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
  return {text.data(), ntohs(v4.sin_port)};
}

Address local_address(int fd) {
  SystemAddress address;
  address.length = sizeof address.storage;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length);
  return to_address(address);
}

}  // namespace pyralog::io::posix
