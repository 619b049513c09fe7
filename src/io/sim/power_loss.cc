// What a crash leaves of a SimDisk.
#include <algorithm>

#include "base/plant.h"
#include "io/sim/inode.h"
#include "io/sim/sim_disk.h"

namespace pyralog::io::sim {

namespace {
// How a power loss treats all that was not durable; extremes are as likely as mixtures.
enum Mood { kLoseAll, kKeepAll, kMixed, kMixedToo, kMoods };
}  // namespace

void SimDisk::process_ended(bool power_too) {
  locks_.clear();
  ++process_;
  if (!power_too) return abandon_syncs(*root_);
  ++boots_;
  if (PYRALOG_PLANT("sim.crash_forgets_nothing")) return abandon_syncs(*root_);
  power_lost();
}

void SimDisk::abandon_syncs(Inode& dir) {
  for (const auto& [name, inode] : dir.entries) {
    inode->abandon_syncs();
    if (inode->directory) abandon_syncs(*inode);
  }
}

void SimDisk::rot(Inode& file) {
  if (options_.bit_rot <= 0 || file.durable.empty() || !rng_.chance(options_.bit_rot)) return;
  file.durable[rng_.below(file.durable.size())] ^=
      static_cast<std::uint8_t>(1U << rng_.below(8));
  stats_.add("disk.bit_rot");
}

void SimDisk::power_lost() {
  used_ = 0;
  settle_directory(*root_, static_cast<int>(rng_.below(kMoods)));
}

void SimDisk::settle_directory(Inode& dir, int mood) {
  // A journal keeps a beginning of the changes; without one any of them may be there.
  const bool any = rng_.chance(0.5);
  bool keeping = true;
  for (const NameChange& change : dir.pending) {
    const bool keep = mood == kKeepAll || (mood != kLoseAll && rng_.chance(0.5));
    keeping = any ? keep : keeping && keep;
    if (keeping) dir.apply(change);
    stats_.add(keeping ? "disk.name_kept" : "disk.name_lost");
  }
  dir.pending.clear();
  dir.entries = dir.durable_entries;
  for (const auto& [name, inode] : dir.entries) {
    inode->linked = true;
    if (inode->directory) {
      settle_directory(*inode, mood);
    } else {
      settle_file(*inode, mood);
    }
  }
}

void SimDisk::settle_page(Inode& file, std::uint64_t page, ByteView now, int mood) {
  const std::uint64_t kind = mood == kLoseAll ? 0 : mood == kKeepAll ? 1 : rng_.below(4);
  if (kind == 0) {
    stats_.add("disk.page_lost");
  } else if (kind == 1) {
    stats_.add("disk.page_kept");
    file.store(page * kPage, now);
  } else {
    stats_.add("disk.page_torn");
    const std::uint64_t sectors = (now.size() + kSector - 1) / kSector;
    const std::uint64_t prefix = rng_.below(sectors + 1);
    for (std::uint64_t i = 0; i < sectors; ++i) {
      if (kind == 2 ? i >= prefix : rng_.chance(0.5)) continue;
      const std::size_t from = i * kSector;
      file.store(page * kPage + from, now.subspan(from, std::min(kSector, now.size() - from)));
    }
  }
}

void SimDisk::settle_file(Inode& file, int mood) {
  const auto shrink = [&](std::uint64_t to) {
    if (to >= file.durable.size()) return true;
    const bool done = mood == kKeepAll || (mood != kLoseAll && rng_.chance(0.5));
    if (done) file.durable.resize(to);
    return done;
  };
  bool reached = true;  // what comes after a truncation that did not happen did not happen either
  for (const SyncSnapshot& snapshot : file.in_flight) {
    if (snapshot.stored) continue;
    reached = reached && shrink(snapshot.shrunk_to);
    if (!reached) break;
    for (const auto& [page, bytes] : snapshot.pages) settle_page(file, page, bytes, mood);
  }
  reached = reached && shrink(file.shrunk_to);
  if (reached) {
    for (const std::uint64_t page : file.dirty) {
      const ByteView now = Inode::page_of(file.content, page);
      if (!now.empty()) settle_page(file, page, now, mood);
    }
  }
  if (mood >= kMixed && file.durable.size() < file.content.size() && rng_.chance(0.3)) {
    const std::uint64_t grown = file.content.size() - file.durable.size();
    file.durable.resize(file.durable.size() + 1 + rng_.below(grown));
    stats_.add("disk.grown_by_zeros");
  }
  file.in_flight.clear();
  file.dirty.clear();
  file.shrunk_to = kNeverShrunk;
  rot(file);
  file.content = file.durable;
  file.cold = true;
  used_ += file.content.size();
}

}  // namespace pyralog::io::sim
