// Frames of the journal: whatever they say, an error or a state that is written and read the same.
#include <cstdint>
#include <cstdlib>
#include <map>

#include "multiraft/stored.h"

using namespace pyralog;
using namespace pyralog::multiraft;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::map<GroupId, StoredGroup> groups;
  if (!read_frame({data, size}, groups)) return 0;
  // Once more: what a rewritten journal holds twice changes nothing that can be told apart.
  (void)read_frame({data, size}, groups);
  for (const auto& [id, stored] : groups) {
    std::uint64_t next = stored.raft.snapshot.index.value + 1;
    for (const auto& entry : stored.raft.entries) {
      if (entry.index.value != next++) std::abort();
    }
    std::map<GroupId, StoredGroup> again;
    if (!read_frame(snapshot_frame(id, stored), again)) std::abort();
    const StoredGroup& other = again.at(id);
    if (other.raft.hard != stored.raft.hard || other.raft.snapshot != stored.raft.snapshot ||
        other.raft.entries.size() != stored.raft.entries.size()) {
      std::abort();
    }
  }
  return 0;
}
