#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "io/net.h"
#include "io/posix/posix_disk.h"
#include "io/posix/socket.h"

namespace pyralog::io::posix {

/// One of the connections that a listener has accepted and that are still open. Any thread.
class Accepted {
 public:
  using Count = std::shared_ptr<std::atomic<std::uint64_t>>;
  Accepted() = default;
  explicit Accepted(Count count) : count_(std::move(count)) { count_->fetch_add(1); }
  Accepted(Accepted&& o) noexcept = default;
  Accepted& operator=(Accepted&&) = delete;
  ~Accepted() { end(); }
  void end() {
    if (const Count count = std::exchange(count_, nullptr)) count->fetch_sub(1);
  }

 private:
  Count count_;
};

/// A TCP connection on one shard.
class PosixStream final : public Stream {
 public:
  PosixStream(PosixShard& shard, int fd, Address peer, Accepted accepted = {});
  ~PosixStream() override { close(); }
  Task<Result<std::size_t>> read_some(MutableBytes out, Instant deadline) override;
  Task<Result<void>> write(std::vector<Piece> pieces, Instant deadline) override;
  Task<Result<void>> write_while_taken(std::vector<Piece> pieces, Duration patience) override;
  void limit_send_buffer(std::uint32_t bytes) override;
  void close() override {
    socket_->close();
    accepted_.end();
  }
  const Address& peer() const override { return peer_; }
  const Address& local() const override { return local_; }
  Task<Result<std::unique_ptr<Stream>>> move_to(Shard& target) override;

 private:
  /// Before something is sent in answer, now and then.
  void look_where_peer_is(const Socket& socket);
  Task<Result<void>> send(std::vector<Piece> pieces, Instant deadline, Duration patience);

  std::shared_ptr<Socket> socket_;
  Address peer_;
  Address local_;
  bool on_this_machine_;
  int processor_ = -1;             ///< of the peer, as of some megabytes ago
  std::uint64_t since_asked_ = 0;  ///< bytes
  Accepted accepted_;
};

/// What every connection of ours sets.
void set_stream_options(int fd);

}  // namespace pyralog::io::posix
