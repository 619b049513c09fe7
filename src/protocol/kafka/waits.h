#pragma once

#include <cstdint>

#include "base/time.h"

namespace pyralog::protocol::kafka {

/// How often something was waited for, and how long in all; of waits that are over.
struct Waits {
  std::uint64_t count = 0;
  base::Duration time{0};
  void add(base::Duration waited) {
    ++count;
    time += waited;
  }
  Waits& operator+=(const Waits& other) {
    count += other.count;
    time += other.time;
    return *this;
  }
};

}  // namespace pyralog::protocol::kafka
