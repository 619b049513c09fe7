#include "cluster/catalog_machine.h"

#include "cluster/entries.h"
#include "observe/log.h"

namespace pyralog::cluster {

CatalogMachine::CatalogMachine(std::uint16_t understood)
    : understood_(understood), catalog_(std::make_shared<const catalog::Catalog>()) {}

Result<void> CatalogMachine::apply(raft::Index index, const SharedBytes& data) {
  PYRALOG_ASSIGN(const auto entries, decode_entries(data.view(), understood_));
  auto next = with(*catalog_, entries);
  if (!next) {
    observe::log_warn("cluster.entry_refused",
                      {{"index", index.value}, {"reason", next.error().message}});
    refused_.push_back({index, std::move(next.error())});
    if (refused_.size() > kRemembered) refused_.pop_front();
    return {};
  }
  catalog_ = std::make_shared<const catalog::Catalog>(std::move(*next));
  if (changed_) changed_();
  return {};
}

Bytes CatalogMachine::snapshot() const {
  return catalog_->encode_snapshot();
}

Result<void> CatalogMachine::restore(ByteView content) {
  const bool same = checked_ && checked_->first.data() == content.data() &&
                    checked_->first.size() == content.size();
  if (!same) PYRALOG_TRY(check(content));
  catalog_ = std::move(checked_->second);
  checked_.reset();
  if (changed_) changed_();
  return {};
}

Result<void> CatalogMachine::check(ByteView content) const {
  checked_.reset();
  PYRALOG_ASSIGN(catalog::Catalog state, catalog::Catalog::decode_snapshot(content, understood_));
  checked_.emplace(content, std::make_shared<const catalog::Catalog>(std::move(state)));
  return {};
}

std::optional<Error> CatalogMachine::refusal(raft::Index index) const {
  for (const Refusal& each : refused_) {
    if (each.index == index) return each.why;
  }
  return std::nullopt;
}

}  // namespace pyralog::cluster
