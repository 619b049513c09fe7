#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "io/net.h"
#include "io/shard.h"

namespace pyralog::io::sim {

class Node;

struct Segment {
  Bytes bytes;
  bool fin = false;
};

/// One side of a connection, and what it has sent.
struct End {
  Node* node = nullptr;
  Address address;
  bool closed = false;  ///< by its own program
  bool dead = false;    ///< its process is gone
  bool ended = false;   ///< the other side will send no more
  std::deque<std::uint8_t> inbox;
  std::deque<Segment> under_way;  ///< sent by this side, not arrived
  std::uint64_t unread = 0;       ///< bytes sent by this side that the other has not read
  int stalled = 0;                ///< segments under way that wait for a partition to end
  Instant last_arrival{};
  WaitList readable;
  WaitList writable;
};

struct Connection {
  End ends[2];
  bool reset = false;
};

/// Connections that wait for accept().
struct Backlog {
  Address address;
  bool closed = false;
  std::deque<std::shared_ptr<Connection>> waiting;
  WaitList arrived;
};

}  // namespace pyralog::io::sim
