#pragma once

#include <algorithm>
#include <optional>

#include "base/plant.h"
#include "base/time.h"
#include "io/shard.h"

namespace pyralog::io::posix {

/// How long a write that has to wait waits for a peer that may be slow: for as long as the bytes that it
/// has not confirmed grow fewer. Looked at only when nothing else has shown progress for a while, so the
/// first look has nothing to compare with, and counts as progress. Pure.
class WritePatience {
 public:
  WritePatience(Instant begun, Duration patience) : patience_(patience), moved_(begun) {}
  /// When to look at what is unconfirmed.
  [[nodiscard]] Instant next_look(Instant now) const {
    constexpr int kLooks = 4;
    return std::min(now + patience_ / kLooks, moved_ + patience_);
  }
  /// Whether it has lasted too long; `unconfirmed` bytes now, nullopt = nobody can tell.
  [[nodiscard]] bool is_over(Instant now, std::optional<std::int64_t> unconfirmed) {
    const bool first = !before_.has_value();
    const bool progress = unconfirmed && (first || *unconfirmed < *before_) &&
                          (first || !PYRALOG_PLANT("io.writes_end_at_their_time"));
    if (progress) moved_ = now;
    if (unconfirmed) before_ = unconfirmed;
    return now >= moved_ + patience_;
  }

 private:
  Duration patience_;
  Instant moved_;
  std::optional<std::int64_t> before_;
};

}  // namespace pyralog::io::posix
