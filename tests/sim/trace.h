#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "base/bytes.h"
#include "base/hash.h"
#include "io/sim/simulator.h"

namespace pyralog::simtest {

/// What happened in one run, as a hash over its lines and, if wanted, printed: two runs of one seed
/// must have the same.
class Trace {
 public:
  Trace(io::sim::Simulator& sim, bool print) : sim_(sim), print_(print) {}

  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    line_.clear();
    fmt::format_to(std::back_inserter(line_), "{:>12.3f} ms  ",
                   static_cast<double>(sim_.now().ns) / 1e6);
    fmt::format_to(std::back_inserter(line_), format, std::forward<Args>(args)...);
    hash_ = xxh3_64(as_bytes(line_), hash_);
    ++lines_;
    if (print_) std::printf("%s\n", line_.c_str());
  }
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  [[nodiscard]] std::uint64_t lines() const { return lines_; }

 private:
  io::sim::Simulator& sim_;
  bool print_;
  std::string line_;
  std::uint64_t hash_ = 0;
  std::uint64_t lines_ = 0;
};

}  // namespace pyralog::simtest
