#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "cluster/metadata_log.h"
#include "multiraft/types.h"

namespace pyralog::cluster {

/// The catalogue as what the Global Raft agrees on. Lives on the shard of the MultiRaft.
class CatalogMachine final : public multiraft::StateMachine {
 public:
  /// `understood`: the feature level up to which entries are taken.
  explicit CatalogMachine(std::uint16_t understood = catalog::kFeatureLevel);

  /// A proposal's entries, all or none; what the catalogue refuses changes nothing, on all nodes.
  /// An error: this node is too old for what the others have agreed on.
  [[nodiscard]] Result<void> apply(raft::Index index, const SharedBytes& data) override;
  [[nodiscard]] Bytes snapshot() const override;
  [[nodiscard]] Result<void> restore(ByteView content) override;
  [[nodiscard]] Result<void> check(ByteView content) const override;

  [[nodiscard]] const CatalogPtr& catalog() const { return catalog_; }
  [[nodiscard]] std::uint16_t understood() const { return understood_; }
  /// Why what stands at `index` was refused, as far as is remembered; nullopt = it was not.
  [[nodiscard]] std::optional<Error> refusal(raft::Index index) const;
  /// Called after every change.
  void on_change(std::function<void()> call) { changed_ = std::move(call); }

 private:
  struct Refusal {
    raft::Index index;
    Error why;
  };
  static constexpr std::size_t kRemembered = 64;
  std::uint16_t understood_;
  CatalogPtr catalog_;
  /// What `check` has decoded, and of which bytes: a large catalogue is not decoded twice.
  mutable std::optional<std::pair<ByteView, CatalogPtr>> checked_;
  std::deque<Refusal> refused_;  ///< the newest
  std::function<void()> changed_;
};

}  // namespace pyralog::cluster
