#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>

#include "log/segment.h"

namespace pyralog::log {

/// Bounds the memory that a shard's closed segments take for their indexes: the least recently used
/// ones are let go and come back from their files. The newest always stays, so whoever has loaded
/// an index may use it until he awaits something. Lives on its shard.
class IndexCache {
 public:
  explicit IndexCache(std::size_t max_bytes) : max_bytes_(max_bytes) {}
  /// `segment` is sealed and its index is loaded and is about to be used.
  void used(const std::shared_ptr<Segment>& segment);
  /// What the indexes take that it may let go.
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::weak_ptr<Segment> segment;  ///< gone with its log
    const Segment* key = nullptr;
    std::size_t bytes = 0;
  };
  void drop(std::list<Entry>::iterator entry);
  /// Entries whose index has been let go by others.
  void sweep();

  std::size_t max_bytes_;
  std::size_t bytes_ = 0;
  std::list<Entry> order_;  ///< most recently used first
  std::map<const Segment*, std::list<Entry>::iterator> places_;
};

}  // namespace pyralog::log
