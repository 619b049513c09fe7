#pragma once
// A partition's log on a simulated disk of which a known part was synced, for tests that damage it.

#include <functional>
#include <map>

#include "log/log_testing.h"

namespace pyralog::log::test {

inline LogConfig small_segments() {
  LogConfig c;
  c.segment_bytes = 1500;
  c.index_interval_bytes = 300;
  return c;
}

inline std::string dir_of(std::uint8_t n) {
  return "/data/" + to_string(partition(n));
}

/// The log of partition(1) as a process left it that was killed.
struct Torn {
  std::vector<Bytes> batches;
  std::vector<std::int64_t> bases;     ///< base offset of each batch, and the end
  std::vector<std::string> files;      ///< the segments' paths
  std::vector<Bytes> contents;         ///< of these
  std::map<std::string, Bytes> image;  ///< everything in the data directory
  std::size_t synced = 0;              ///< batches that were acknowledged as durable
  std::uint64_t synced_position = 0;   ///< where the unsynced tail begins in the last file

  /// Where each epoch begins.
  [[nodiscard]] EpochTable given_out() const {
    EpochTable table;
    for (std::size_t i = 0; i < batches.size(); ++i) {
      const std::int32_t epoch = parse_batch_header(batches[i])->leader_epoch;
      (void)table.note(Epoch(static_cast<std::uint32_t>(epoch)), Offset(bases[i]));
    }
    return table;
  }
  [[nodiscard]] std::int64_t acknowledged() const { return bases[synced]; }
  /// The first `n` batches, as they lie in the log.
  [[nodiscard]] Bytes first(std::size_t n) const {
    return join({batches.begin(), batches.begin() + static_cast<std::ptrdiff_t>(n)});
  }
};

/// Writes and syncs `synced` batches, or some more, so that the `unsynced` ones that follow stay in
/// their segment. `draw(n)` is below n.
inline Torn make_torn(io::sim::Node& node, std::size_t synced, std::size_t unsynced,
                      std::function<std::uint64_t(std::uint64_t)> draw) {
  Torn torn;
  torn.bases.push_back(0);
  node.run([&]() -> io::Task<void> {
    auto shard = (co_await open_shard()).value();
    auto log = (co_await shard->open_log(partition(1), small_segments())).value();
    std::uint32_t epoch = 1;
    const auto add = [&]() -> io::Task<void> {
      const std::int64_t base = torn.bases.back();
      // A node writes one epoch between two starts.
      if (torn.synced == 0) epoch = static_cast<std::uint32_t>(1 + base / 8);
      Bytes bytes = batch(base, epoch, static_cast<int>(1 + draw(2)), 1000 + base, 5 + draw(60));
      torn.batches.push_back(bytes);
      torn.bases.push_back((co_await append(*log, std::move(bytes))).value().end.value);
    };
    while (torn.batches.size() < synced) co_await add();
    const std::uint64_t rolls = shard->stats().rolls;
    while (unsynced > 0 && shard->stats().rolls == rolls) co_await add();
    (void)(co_await shard->sync(log)).value();
    torn.synced = torn.batches.size();
    for (std::size_t i = 0; i < unsynced; ++i) co_await add();
    EXPECT_EQ(log->synced_end(), Offset(torn.acknowledged()));
    co_await shard->abandon();
  });
  for (const std::string& path : node.disk().files()) {
    torn.image[path] = node.disk().peek(path).value();
    if (!path.starts_with(dir_of(1)) || !path.ends_with(".log")) continue;
    torn.files.push_back(path);
    torn.contents.push_back(node.disk().peek(path).value());
  }
  std::uint64_t tail = 0;
  for (std::size_t i = torn.synced; i < torn.batches.size(); ++i) tail += torn.batches[i].size();
  EXPECT_LT(tail, torn.contents.back().size());
  torn.synced_position = torn.contents.back().size() - tail;
  return torn;
}
inline Torn make_torn(io::sim::Node& node, std::size_t synced, std::size_t unsynced) {
  return make_torn(node, synced, unsynced, [](std::uint64_t n) { return n - 1; });
}

/// Puts everything back as it was. Files that came since stay.
inline io::Task<Result<void>> restore(io::Disk& disk, const Torn& torn) {
  for (const auto& [path, bytes] : torn.image) {
    PYRALOG_CO_TRY(co_await io::replace_file(disk, path, bytes));
  }
  co_return Result<void>{};
}

/// Opens partition(1) and reads everything; the error of either.
inline io::Task<Result<Bytes>> open_and_read(Offset* end, EpochTable given_out = {}) {
  PYRALOG_CO_ASSIGN(auto shard, co_await open_shard());
  auto log = co_await shard->open_log(partition(1), small_segments(), Offset(0), std::move(given_out));
  if (!log) {
    co_await shard->abandon();
    co_return fail(log.error());
  }
  *end = (*log)->end_offset();
  auto bytes = co_await read_all(*log, Offset(0), 3000);
  co_await shard->abandon();
  co_return bytes;
}

}  // namespace pyralog::log::test
