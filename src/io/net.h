#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "io/disk.h"
#include "io/task.h"

namespace pyralog::io {

/// HOST:PORT; the host is a name, an IPv4 or a bracketless IPv6 address.
struct Address {
  std::string host;
  std::uint16_t port = 0;
  friend bool operator==(const Address&, const Address&) = default;
};
/// Reads "HOST:PORT", "[V6]:PORT"; kInvalidArgument says what is wrong.
[[nodiscard]] Result<Address> parse_address(std::string_view text);
[[nodiscard]] std::string to_string(const Address& address);
[[nodiscard]] bool is_loopback(const Address& address);
/// True for 0.0.0.0 and :: in any way of writing them: good to listen on, no place to connect to.
[[nodiscard]] bool is_wildcard(const Address& address);

/// Bytes to send: owned memory or part of a file, which goes out without passing user space.
using Piece = std::variant<SharedBytes, FileRange>;

/// A connected byte stream. One reader and one writer at a time, both on the stream's shard.
class Stream {
 public:
  virtual ~Stream() = default;
  /// Reads at least one byte; 0 = the peer has closed its side. kTimedOut at `deadline`, kCancelled
  /// after close().
  [[nodiscard]] virtual Task<Result<std::size_t>> read_some(MutableBytes out, Instant deadline) = 0;
  /// Sends everything, in order, or fails; after a failure the stream is of no more use. Where a file is
  /// to blame, not the peer, the owner of its range is told.
  [[nodiscard]] virtual Task<Result<void>> write(std::vector<Piece> pieces, Instant deadline) = 0;
  /// As write, but for as long as the peer takes something, in however small parts: kTimedOut once it
  /// has confirmed nothing for `patience`, or up to a quarter of that later.
  [[nodiscard]] virtual Task<Result<void>> write_while_taken(std::vector<Piece> pieces,
                                                             Duration patience) = 0;
  /// Bounds what the system holds of what was written and the peer has not taken. Without it the bound
  /// grows by itself to megabytes; memory that is copied there passes through no cache on its way.
  virtual void limit_send_buffer(std::uint32_t bytes) = 0;
  /// Ends both directions at once; pending calls fail with kCancelled.
  virtual void close() = 0;
  [[nodiscard]] virtual const Address& peer() const = 0;
  [[nodiscard]] virtual const Address& local() const = 0;
  /// Moves the stream to `target`, where its next user lives; nothing may be pending. The returned
  /// stream replaces this one. Called on this stream's shard.
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Stream>>> move_to(class Shard& target) = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  /// The next connection, on the listener's shard; kCancelled after close().
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;
  virtual void close() = 0;
  /// With the port that was really bound.
  [[nodiscard]] virtual const Address& local() const = 0;
};

/// A node's network, as one shard uses it.
class Net {
 public:
  virtual ~Net() = default;
  /// Port 0 takes a free one. kAlreadyExists if the port is in use, naming it.
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Listener>>> listen(Address address) = 0;
  [[nodiscard]] virtual Task<Result<std::unique_ptr<Stream>>> connect(Address address,
                                                                      Instant deadline) = 0;
};

}  // namespace pyralog::io
