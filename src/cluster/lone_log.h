#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/metadata_log.h"
#include "io/disk.h"
#include "journal/journal.h"

namespace pyralog::cluster {

/// The metadata log of a lone node: a journal of entries behind a snapshot. One proposal at a time
/// is decided, made durable and only then seen. After kIo none is taken until a restart.
class LoneLog final : public MetadataLog {
 public:
  struct Options {
    std::uint64_t rewrite_bytes = 8u << 20;  ///< a larger journal is replaced by a snapshot
    std::uint16_t understood =
        catalog::kFeatureLevel;  ///< newer entries are neither read nor written
  };

  /// Opens or creates `<data_dir>/metadata.log`.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<LoneLog>>> open(io::Disk& disk,
                                                                       std::string data_dir,
                                                                       Options options);

  /// What the metadata log of a directory says that no server has open; changes nothing. kNotFound
  /// if there is none.
  [[nodiscard]] static io::Task<Result<CatalogPtr>> peek(io::Disk& disk, std::string data_dir);

  [[nodiscard]] const CatalogPtr& catalog() const override { return catalog_; }
  [[nodiscard]] io::Task<Result<CatalogPtr>> propose(Plan plan) override;
  [[nodiscard]] io::Task<void> on_change(Observer observer) override;

 private:
  explicit LoneLog(Options options) : options_(options) {}
  [[nodiscard]] io::Task<Result<void>> rewrite_if_large();

  Options options_;
  std::unique_ptr<journal::Journal> journal_;
  CatalogPtr catalog_;
  Observer observer_;
  io::Turn turn_;
};

}  // namespace pyralog::cluster
