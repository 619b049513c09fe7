#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/plant.h"

namespace pyralog::io::sim {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kSector = 512;
inline constexpr std::uint64_t kNeverShrunk = UINT64_MAX;

struct Inode;

/// What one fdatasync in flight takes to the device.
struct SyncSnapshot {
  std::map<std::uint64_t, Bytes> pages;
  std::uint64_t size = 0;
  std::uint64_t shrunk_to = kNeverShrunk;
  bool stored = false;
};

/// A change of a directory that is not durable yet: `name` now stands for `inode`, or for nothing;
/// a rename in one directory also takes `old_name` away.
struct NameChange {
  std::uint64_t number = 0;
  std::string name;
  std::shared_ptr<Inode> inode;
  std::string old_name;
};

/// A file or a directory: as programs see it, as the device has it, and what lies between.
struct Inode {
  bool directory = false;
  bool linked = true;  ///< counts for used space

  Bytes content;
  Bytes durable;
  std::set<std::uint64_t> dirty;  ///< pages written since their last snapshot
  std::uint64_t shrunk_to = kNeverShrunk;
  std::list<SyncSnapshot> in_flight;
  bool cold = false;

  std::map<std::string, std::shared_ptr<Inode>> entries;
  std::map<std::string, std::shared_ptr<Inode>> durable_entries;
  std::vector<NameChange> pending;

  /// The bytes of a page of `from`; shorter at its end.
  [[nodiscard]] static ByteView page_of(const Bytes& from, std::uint64_t page) {
    if (page * kPage >= from.size()) return {};
    return ByteView(from).subspan(page * kPage,
                                  std::min<std::size_t>(kPage, from.size() - page * kPage));
  }
  /// Puts bytes into the durable image, which grows as needed.
  void store(std::uint64_t position, ByteView bytes) {
    if (durable.size() < position + bytes.size()) durable.resize(position + bytes.size());
    std::copy(bytes.begin(), bytes.end(),
              durable.begin() + static_cast<std::ptrdiff_t>(position));
  }
  /// Puts a page there as it is now; syncs under way leave that as it is.
  void store_now(std::uint64_t page) {
    const ByteView now = page_of(content, page);
    store(page * kPage, now);
    if (PYRALOG_PLANT("sim.sync_undoes_durable_write")) return;
    for (SyncSnapshot& snapshot : in_flight) {
      if (const auto older = snapshot.pages.find(page); older != snapshot.pages.end()) {
        older->second.assign(now.begin(), now.end());
      }
      snapshot.size = std::max<std::uint64_t>(snapshot.size, page * kPage + now.size());
    }
  }
  /// What a sync brings to the device when it is done: its pages and those of older ones.
  void store(std::list<SyncSnapshot>::iterator done) {
    for (auto it = in_flight.begin(); it != std::next(done); ++it) {
      if (std::exchange(it->stored, true)) continue;
      if (durable.size() > it->shrunk_to) durable.resize(it->shrunk_to);
      for (const auto& [page, bytes] : it->pages) store(page * kPage, bytes);
      durable.resize(it->size);
    }
  }
  /// The process that asked for the syncs in flight is gone: their pages are dirty as before.
  void abandon_syncs() {
    for (const SyncSnapshot& snapshot : in_flight) {
      if (snapshot.stored) continue;
      for (const auto& [page, bytes] : snapshot.pages) dirty.insert(page);
      shrunk_to = std::min(shrunk_to, snapshot.shrunk_to);
    }
    in_flight.clear();
  }
  void apply(const NameChange& change) {
    if (!change.old_name.empty()) durable_entries.erase(change.old_name);
    if (change.inode != nullptr) {
      durable_entries[change.name] = change.inode;
    } else {
      durable_entries.erase(change.name);
    }
  }
};

}  // namespace pyralog::io::sim
