#pragma once

#include <sys/socket.h>

#include <boost/asio/generic/stream_protocol.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "io/net.h"
#include "io/posix/descriptors.h"
#include "io/task.h"

namespace pyralog::io::posix {

class PosixShard;

/// A non-blocking socket on one shard's event loop, registered there when it first has to wait.
/// Shared by the stream and the coroutines that wait on it.
class Socket : public std::enable_shared_from_this<Socket> {
 public:
  Socket(PosixShard& shard, int fd) : shard_(&shard), fd_(fd) { count_opened(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket();

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool closed() const { return fd_ < 0; }
  [[nodiscard]] PosixShard& shard() const { return *shard_; }
  /// Ends both directions; whoever waits goes on with kCancelled.
  void close();
  /// Takes the descriptor out, for another shard; nothing may be waiting.
  [[nodiscard]] int release();

  enum class Ready : std::uint8_t { kReadable, kWritable };
  /// Waits until a call that said EAGAIN may go on. kTimedOut, kCancelled.
  [[nodiscard]] Task<Result<void>> wait(Ready what, Instant deadline);
  /// recv, waiting for the first byte.
  [[nodiscard]] Task<Result<std::size_t>> receive(MutableBytes out, Instant deadline,
                                                  const Address& peer);

 private:
  template <typename Start>
  class Operation;
  [[nodiscard]] Result<void> attach();

  PosixShard* shard_;
  int fd_;
  std::optional<boost::asio::generic::stream_protocol::socket> asio_;
};

/// Addresses of the operating system.
struct SystemAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};
/// Numeric addresses at once, names by the system's resolver, which may block. kNotFound.
[[nodiscard]] Result<std::vector<SystemAddress>> resolve(const Address& address);
[[nodiscard]] bool is_numeric(const std::string& host);
[[nodiscard]] Address to_address(const SystemAddress& address);
[[nodiscard]] Address local_address(int fd);

}  // namespace pyralog::io::posix
