#pragma once

#include "io/net.h"

namespace pyralog::io::posix {

class PosixShard;

/// TCP as one shard uses it. Names are resolved in the `work` pool.
class PosixNet final : public Net {
 public:
  explicit PosixNet(PosixShard& shard) : shard_(shard) {}
  Task<Result<std::unique_ptr<Listener>>> listen(Address address) override;
  Task<Result<std::unique_ptr<Stream>>> connect(Address address, Instant deadline) override;

 private:
  PosixShard& shard_;
};

}  // namespace pyralog::io::posix
