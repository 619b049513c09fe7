#include "log/index_cache.h"

#include <iterator>

#include "base/plant.h"

namespace pyralog::log {

namespace {
/// A segment that is written to, or waits for its last sync, keeps its index.
bool may_go(const Segment& segment) {
  return segment.sealed && segment.file == nullptr && segment.index_loaded;
}
}  // namespace

void IndexCache::drop(std::list<Entry>::iterator entry) {
  bytes_ -= entry->bytes;
  places_.erase(entry->key);
  order_.erase(entry);
}

void IndexCache::sweep() {
  for (auto entry = order_.begin(); entry != order_.end();) {
    const auto here = entry++;
    const std::shared_ptr<Segment> segment = here->segment.lock();
    if (segment == nullptr || !may_go(*segment)) drop(here);
  }
}

void IndexCache::used(const std::shared_ptr<Segment>& segment) {
  if (const auto found = places_.find(segment.get()); found != places_.end()) {
    // Another segment may have had this address.
    if (found->second->segment.lock() == segment &&
        found->second->bytes == segment->index.memory_bytes()) {
      order_.splice(order_.begin(), order_, found->second);
      return;
    }
    drop(found->second);
  }
  if (!may_go(*segment)) return;
  order_.push_front({segment, segment.get(), segment->index.memory_bytes()});
  places_.emplace(segment.get(), order_.begin());
  bytes_ += order_.front().bytes;
  if (bytes_ <= max_bytes_ || PYRALOG_PLANT("log.keep_indexes")) return;
  sweep();
  while (bytes_ > max_bytes_ && order_.size() > 1) {
    const auto last = std::prev(order_.end());
    const std::shared_ptr<Segment> oldest = last->segment.lock();
    drop(last);
    oldest->index = SegmentIndex(oldest->base);
    oldest->index_loaded = false;
  }
}

}  // namespace pyralog::log
