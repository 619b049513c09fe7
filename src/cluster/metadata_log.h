#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "catalog/catalog.h"
#include "catalog/entry.h"
#include "io/disk.h"
#include "io/shard.h"
#include "journal/journal.h"

namespace pyralog::cluster {

using CatalogPtr = std::shared_ptr<const catalog::Catalog>;

/// The metadata log of a lone node: a journal of entries behind a snapshot, and the catalogue that
/// they make. Lives on shard 0. One entry at a time is decided, made durable and only then seen, so
/// nobody acts on what a crash could take back.
class MetadataLog {
 public:
  struct Options {
    std::uint64_t rewrite_bytes = 8u << 20;  ///< a larger journal is replaced by a snapshot
  };

  /// Opens or creates `<data_dir>/metadata.log`. `cluster` nil = whatever the log says.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<MetadataLog>>> open(io::Disk& disk,
                                                                           std::string data_dir,
                                                                           Options options);

  /// What the metadata log of a directory says that no server has open; changes nothing. kNotFound if
  /// there is none.
  [[nodiscard]] static io::Task<Result<CatalogPtr>> peek(io::Disk& disk, std::string data_dir);

  /// The state as of the last durable entry. Never null.
  [[nodiscard]] const CatalogPtr& catalog() const { return catalog_; }

  /// Decides on entries against the newest state and makes them durable with one sync. `plan` gets
  /// that state and returns the entries (none: nothing is done), or an error, which is passed on;
  /// what the catalogue refuses is refused with its reason, none of the entries is taken. Returns
  /// the state with them in it. kIo, kExhausted: not committed; after kIo no proposal is taken until
  /// a restart, whose replay decides whether they stand.
  using Plan = std::function<Result<std::vector<catalog::Entry>>(const catalog::Catalog&)>;
  [[nodiscard]] io::Task<Result<CatalogPtr>> propose(Plan plan);

  /// Called, on shard 0, after every commit with the new state, before the proposer goes on and
  /// before the next proposal is decided; it must not propose.
  void on_change(std::function<io::Task<void>(CatalogPtr)> observer) {
    observer_ = std::move(observer);
  }

 private:
  explicit MetadataLog(Options options) : options_(options) {}
  [[nodiscard]] io::Task<Result<void>> rewrite_if_large();

  Options options_;
  std::unique_ptr<journal::Journal> journal_;
  CatalogPtr catalog_;
  std::function<io::Task<void>(CatalogPtr)> observer_;
  io::Turn turn_;
};

}  // namespace pyralog::cluster
