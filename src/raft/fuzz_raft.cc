// What a Raft group keeps of its members, from bytes: never a crash, and what is read is written
// the same.
#include <cstddef>
#include <cstdint>

#include "base/assert.h"
#include "raft/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pyralog;
  const ByteView bytes(data, size);
  const auto config = raft::decode_config(bytes);
  if (config) {
    PYRALOG_ASSERT(raft::decode_config(raft::encode(*config)) == *config);
  }
  const auto change = raft::decode_config_change(bytes);
  if (change) {
    const auto again = raft::decode_config_change(raft::encode(*change));
    PYRALOG_ASSERT(again == *change);
    raft::Config three;
    for (int i = 1; i <= 3; ++i) three.voters.emplace_back(i);
    const auto next = raft::changed(three, *change);
    if (next) {
      PYRALOG_ASSERT(!next->voters.empty());
      PYRALOG_ASSERT(raft::decode_config(raft::encode(*next)) == *next);
    }
  }
  return 0;
}
