#pragma once

#include <memory>

#include "io/net.h"
#include "io/sim/connection.h"
#include "io/sim/sim_net.h"

namespace pyralog::io::sim {

/// One side of a simulated connection.
class SimStream final : public Stream {
 public:
  SimStream(SimNet& net, std::shared_ptr<Connection> connection, int side)
      : net_(net), connection_(std::move(connection)), side_(side) {}
  ~SimStream() override { close(); }
  Task<Result<std::size_t>> read_some(MutableBytes out, Instant deadline) override;
  Task<Result<void>> write(std::vector<Piece> pieces, Instant deadline) override;
  Task<Result<void>> write_while_taken(std::vector<Piece> pieces, Duration patience) override;
  void limit_send_buffer(std::uint32_t) override {}  // it has one of its own
  void close() override;
  const Address& peer() const override { return connection_->ends[1 - side_].address; }
  const Address& local() const override { return connection_->ends[side_].address; }
  Task<Result<std::unique_ptr<Stream>>> move_to(Shard& target) override;

 private:
  Task<Result<void>> send_all(std::vector<Piece> pieces, Instant deadline, Duration patience);
  Task<Result<void>> send(ByteView bytes, Instant deadline, Duration patience);
  [[nodiscard]] Error broken(const Connection& connection) const;

  SimNet& net_;
  std::shared_ptr<Connection> connection_;
  int side_;
};

}  // namespace pyralog::io::sim
