#include "broker/lag_board.h"

#include <algorithm>

namespace pyralog::broker {

bool is_lagging(const Lags& lags, const Lag& replica) {
  return std::ranges::binary_search(lags, replica);
}

bool LagBoard::take(NodeId from, unsigned shard, Lags lags) {
  std::ranges::sort(lags);
  const auto at = said_.try_emplace({from, shard}).first;
  if (at->second == lags) {
    if (lags.empty()) said_.erase(at);
    return false;
  }
  if (lags.empty()) {
    said_.erase(at);
  } else {
    at->second = std::move(lags);
  }
  return true;
}

bool LagBoard::forget(NodeId from) {
  return std::erase_if(said_, [from](const auto& each) { return each.first.first == from; }) > 0;
}

std::shared_ptr<const Lags> LagBoard::all() const {
  auto all = std::make_shared<Lags>();
  for (const auto& [who, lags] : said_) all->insert(all->end(), lags.begin(), lags.end());
  std::ranges::sort(*all);
  return all;
}

}  // namespace pyralog::broker
