#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace pyralog::group {

/// What groups keep in memory, in bytes as they are charged (group_bounds.cc).
struct Kept {
  std::size_t members = 0;  ///< members and ids given out: what they say, read and are assigned
  std::size_t offsets = 0;  ///< groups by name; offsets that are committed, or about to be
  std::size_t storing = 0;  ///< records of appends that have not ended
  Kept& operator+=(const Kept& o) {
    members += o.members;
    offsets += o.offsets;
    storing += o.storing;
    return *this;
  }
  friend bool operator==(const Kept&, const Kept&) = default;
};

/// What all groups keep that have one room together: those of all coordinator partitions of a shard.
/// Pure; lives on that shard.
class Tally {
 public:
  Tally() = default;
  Tally(const Tally&) = delete;
  Tally& operator=(const Tally&) = delete;
  [[nodiscard]] const Kept& kept() const { return kept_; }

  /// What one group has of it: given back when the group goes, whether it was deleted, has expired or
  /// is no longer coordinated here.
  class Share {
   public:
    explicit Share(std::shared_ptr<Tally> tally) : tally_(std::move(tally)) {}
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share();
    [[nodiscard]] const Kept& kept() const { return kept_; }
    /// Of all who share.
    [[nodiscard]] const Kept& all() const { return tally_->kept_; }
    void charge(std::size_t Kept::* what, std::size_t bytes) {
      kept_.*what += bytes;
      tally_->kept_.*what += bytes;
    }
    void release(std::size_t Kept::* what, std::size_t bytes) {
      kept_.*what -= bytes;
      tally_->kept_.*what -= bytes;
    }

   private:
    std::shared_ptr<Tally> tally_;
    Kept kept_;
  };

 private:
  Kept kept_;
};

}  // namespace pyralog::group
