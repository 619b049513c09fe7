#include "server/memory_shares.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/plant.h"
#include "protocol/kafka/request_memory.h"

namespace pyralog::server {

namespace {

constexpr std::uint64_t kMiB = 1u << 20;
/// What is taken for the machine's where nobody has asked it.
constexpr std::uint64_t kUsualMachine = 16'384 * kMiB;
constexpr std::uint64_t kLeast = 16 * kMiB;
/// Clients take 100 MiB for what a server reads: where there is memory enough each shard has room for that.
constexpr std::uint64_t kForLargeRequests = 160 * kMiB;
/// The usual batch, message.max.bytes as it is by default, and what is around it always finds room.
constexpr std::uint64_t kUsualRequest = kMiB + (128u << 10);
/// What a shard's requests have at least: with so little, the large ones have five eighths of it.
constexpr std::uint64_t kLeastRequests = (kUsualRequest * 8 + 4) / 5;

struct Room {
  std::string_view key;  ///< the setting; empty = it has none
  std::int64_t set;      ///< −1 = by its part
  std::uint64_t each;    ///< how many times it takes what is set: once, or once for each shard
  std::int64_t least;    ///< that can be set
  std::uint64_t part;    ///< of the sixteen that all rooms have together
  std::uint64_t most;    ///< that it takes by its part, over all shards
  std::uint64_t MemoryShares::*share;
};

std::string in_words(const std::vector<Room>& rooms) {
  std::string words;
  for (const Room& room : rooms) {
    if (room.set < 0) continue;
    words += (words.empty() ? "" : ", ") + std::string(room.key) + " = " + std::to_string(room.set);
    if (room.each > 1) words += " for each of " + std::to_string(room.each) + " shards";
  }
  return words;
}

}  // namespace

Result<MemoryShares> share_memory(const ServerOptions& o) {
  const std::uint64_t shards =
      o.shards > 0 ? static_cast<std::uint64_t>(o.shards) : std::max(1u, o.machine.cores);
  const std::uint64_t machine =
      o.machine.memory_bytes > 0 ? o.machine.memory_bytes : kUsualMachine;
  MemoryShares out;
  out.all = o.memory_max_bytes >= 0 ? static_cast<std::uint64_t>(o.memory_max_bytes) : machine / 4 * 3;
  if (out.all < kLeast) {
    return fail(Code::kInvalidArgument, "memory.max.bytes comes to " + std::to_string(out.all) +
                                            " bytes; it takes at least " + std::to_string(kLeast));
  }
  const std::vector<Room> rooms = {
      {"queued.max.request.bytes", o.queued_max_request_bytes, 1,
       PYRALOG_PLANT("server.tiny_request_memory") ? 1 << 20
                                                   : static_cast<std::int64_t>(kLeastRequests * shards),
       4,
       std::max(256 * kMiB, kForLargeRequests * shards), &MemoryShares::requests},
      {"queued.max.response.bytes", o.queued_max_response_bytes, 1, 1 << 20, 2, 128 * kMiB,
       &MemoryShares::answers},
      {"memory.topics.max.bytes", o.memory_topics_bytes, 1, 1 << 20, 6, 1024 * kMiB,
       &MemoryShares::topics},
      {"memory.groups.max.bytes", o.memory_groups_bytes, 1, 1 << 20, 2, 512 * kMiB * shards,
       &MemoryShares::groups},
      {"log.cleaner.dedupe.buffer.size", o.cleaner_table_bytes, shards, 1 << 16, 1, 32 * kMiB * shards,
       &MemoryShares::compaction},
      {"", -1, shards, 0, 1, 64 * kMiB * shards, &MemoryShares::indexes},
  };
  std::uint64_t left = out.all;
  std::uint64_t parts = 0;
  for (const Room& room : rooms) {
    if (room.set < 0) {
      parts += room.part;
      continue;
    }
    if (room.set < room.least) {
      return fail(Code::kInvalidArgument, std::string(room.key) + " cannot be " + std::to_string(room.set) +
                                              "; it takes -1 or at least " + std::to_string(room.least) +
                                              " bytes" +
                                              (shards > 1 ? " with " + std::to_string(shards) + " shards" : ""));
    }
    const auto set = static_cast<std::uint64_t>(room.set);
    if (set > left / room.each) {
      const std::string whose = o.memory_max_bytes >= 0
                                    ? "memory.max.bytes"
                                    : "three quarters of this machine's memory (memory.max.bytes)";
      return fail(Code::kInvalidArgument, in_words(rooms) + ": together more than " + whose + ", " +
                                              std::to_string(out.all) + " bytes; lower them or raise that");
    }
    left -= set * room.each;
    out.*room.share = set;
  }
  for (const Room& room : rooms) {
    if (room.set >= 0) continue;
    out.*room.share = std::min(room.most, left / parts * room.part) / room.each;
    if (std::cmp_less(out.*room.share, room.least)) {
      const std::string set = in_words(rooms);
      return fail(Code::kInvalidArgument,
                  (set.empty() ? "memory.max.bytes" : set) + ": leaves too little for " +
                      std::string(room.key) + "; raise memory.max.bytes, " + std::to_string(out.all) +
                      " bytes, or set both");
    }
  }
  out.largest_request = PYRALOG_PLANT("server.requests_of_any_size")
                            ? UINT64_MAX
                            : std::max<std::uint64_t>(kUsualRequest,
                                                      protocol::kafka::RequestMemory::largest(
                                                          out.requests / shards));
  return out;
}

}  // namespace pyralog::server
