#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace pyralog::catalog {

/// A sorted map whose copies share what did not change: a copy is one reference count, a change
/// copies one chunk and the list of chunks. For thousands of keys with rare changes and many
/// readers. A map is used by one thread; copies of it may be read by any.
template <typename Key, typename Value>
class CowMap {
 public:
  using Item = std::pair<Key, Value>;

  /// Of items in the order of their keys, no two with one.
  [[nodiscard]] static CowMap of_sorted(std::vector<Item> items) {
    CowMap map;
    auto chunks = std::make_shared<Chunks>();
    for (auto from = items.begin(); from != items.end();) {
      const auto to = from + std::min<std::ptrdiff_t>(items.end() - from, kMaxChunk / 2);
      chunks->push_back(
          std::make_shared<const Chunk>(std::move_iterator(from), std::move_iterator(to)));
      from = to;
    }
    map.chunks_ = std::move(chunks);
    map.size_ = items.size();
    return map;
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

  /// The value of `key`, or null; valid as long as any copy of this map that holds it.
  template <typename K>
  [[nodiscard]] const Value* find(const K& key) const {
    const std::size_t c = chunk_of(key);
    if (!chunks_ || c >= chunks_->size()) return nullptr;
    const Chunk& chunk = *(*chunks_)[c];
    const auto at = lower_bound(chunk, key);
    return at != chunk.end() && !(key < at->first) ? &at->second : nullptr;
  }

  /// Inserts, or replaces the value of an equal key.
  void set(Key key, Value value) {
    auto chunks = chunks_ ? std::make_shared<Chunks>(*chunks_) : std::make_shared<Chunks>();
    if (chunks->empty()) chunks->push_back(std::make_shared<const Chunk>());
    const std::size_t c = std::min(chunk_of(key), chunks->size() - 1);
    auto chunk = std::make_shared<Chunk>(*(*chunks)[c]);
    const auto at = lower_bound(*chunk, key);
    if (at != chunk->end() && !(key < at->first)) {
      chunk->begin()[at - chunk->cbegin()].second = std::move(value);
    } else {
      chunk->insert(at, Item(std::move(key), std::move(value)));
      ++size_;
    }
    if (chunk->size() > kMaxChunk) {
      const auto middle = chunk->begin() + kMaxChunk / 2;
      auto upper = std::make_shared<const Chunk>(middle, chunk->end());
      chunk->erase(middle, chunk->end());
      chunks->insert(chunks->begin() + static_cast<std::ptrdiff_t>(c) + 1, std::move(upper));
    }
    (*chunks)[c] = std::move(chunk);
    chunks_ = std::move(chunks);
  }

  /// Removes `key`; false if it is not there.
  template <typename K>
  bool erase(const K& key) {
    if (find(key) == nullptr) return false;
    const std::size_t c = chunk_of(key);
    auto chunks = std::make_shared<Chunks>(*chunks_);
    auto chunk = std::make_shared<Chunk>(*(*chunks)[c]);
    chunk->erase(lower_bound(*chunk, key));
    if (chunk->empty()) {
      chunks->erase(chunks->begin() + static_cast<std::ptrdiff_t>(c));
    } else {
      (*chunks)[c] = std::move(chunk);
    }
    chunks_ = std::move(chunks);
    --size_;
    return true;
  }

  /// Puts what `next(key, value)` returns, an optional value, in the place of every value; nothing
  /// leaves it. One pass, in order; chunks in which nothing changes stay shared.
  template <typename Next>
  void replace(Next next) {
    std::shared_ptr<Chunks> chunks;
    for (std::size_t c = 0; chunks_ && c < chunks_->size(); ++c) {
      const Chunk& old = *(*chunks_)[c];
      std::shared_ptr<Chunk> chunk;
      for (std::size_t i = 0; i < old.size(); ++i) {
        std::optional<Value> value = next(old[i].first, old[i].second);
        if (!value) continue;
        if (!chunk) chunk = std::make_shared<Chunk>(old);
        (*chunk)[i].second = std::move(*value);
      }
      if (!chunk) continue;
      if (!chunks) chunks = std::make_shared<Chunks>(*chunks_);
      (*chunks)[c] = std::move(chunk);
    }
    if (chunks) chunks_ = std::move(chunks);
  }

  /// The item with the smallest key, or null; valid as what find() returns.
  [[nodiscard]] const Item* first() const { return empty() ? nullptr : &chunks_->front()->front(); }

  /// Calls `visit(key, value)` for every item in order.
  template <typename Visit>
  void for_each(Visit visit) const {
    if (!chunks_) return;
    for (const auto& chunk : *chunks_) {
      for (const Item& item : *chunk) visit(item.first, item.second);
    }
  }

 private:
  static constexpr std::size_t kMaxChunk = 128;
  using Chunk = std::vector<Item>;
  using Chunks = std::vector<std::shared_ptr<const Chunk>>;

  template <typename K>
  static auto lower_bound(const Chunk& chunk, const K& key) {
    return std::lower_bound(chunk.begin(), chunk.end(), key,
                            [](const Item& item, const K& k) { return item.first < k; });
  }
  /// The first chunk whose last key is not below `key`.
  template <typename K>
  [[nodiscard]] std::size_t chunk_of(const K& key) const {
    if (!chunks_) return 0;
    const auto at = std::lower_bound(
        chunks_->begin(), chunks_->end(), key,
        [](const auto& chunk, const K& k) { return !chunk->empty() && chunk->back().first < k; });
    return static_cast<std::size_t>(at - chunks_->begin());
  }

  std::shared_ptr<const Chunks> chunks_;
  std::size_t size_ = 0;
};

}  // namespace pyralog::catalog
