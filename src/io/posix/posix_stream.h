#pragma once

#include <memory>
#include <string>

#include "io/net.h"
#include "io/posix/posix_disk.h"
#include "io/posix/socket.h"

namespace pyralog::io::posix {

/// A TCP connection on one shard.
class PosixStream final : public Stream {
 public:
  PosixStream(PosixShard& shard, int fd, Address peer);
  ~PosixStream() override { close(); }
  Task<Result<std::size_t>> read_some(MutableBytes out, Instant deadline) override;
  Task<Result<void>> write(std::vector<Piece> pieces, Instant deadline) override;
  Task<Result<void>> write_while_taken(std::vector<Piece> pieces, Duration patience) override;
  void limit_send_buffer(std::uint32_t bytes) override;
  void close() override { socket_->close(); }
  const Address& peer() const override { return peer_; }
  const Address& local() const override { return local_; }
  Task<Result<std::unique_ptr<Stream>>> move_to(Shard& target) override;

 private:
  Task<Result<void>> send(std::vector<Piece> pieces, Instant deadline, Duration patience);

  std::shared_ptr<Socket> socket_;
  Address peer_;
  Address local_;
  bool on_this_machine_;
};

/// What every connection of ours sets.
void set_stream_options(int fd);

}  // namespace pyralog::io::posix
