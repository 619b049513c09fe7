#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace pyralog::base {

/// An integer that is not interchangeable with others of its width: `using Epoch =
/// Strong<std::uint32_t, struct EpochTag>`. Explicit in and out (`.value`), ordered, hashable.
template <typename Rep, typename Tag>
struct Strong {
  Rep value{};
  constexpr Strong() = default;
  constexpr explicit Strong(Rep v) : value(v) {}
  friend constexpr auto operator<=>(Strong, Strong) = default;
};

}  // namespace pyralog::base

template <typename Rep, typename Tag>
struct std::hash<pyralog::base::Strong<Rep, Tag>> {
  std::size_t operator()(pyralog::base::Strong<Rep, Tag> s) const noexcept {
    return std::hash<Rep>{}(s.value);
  }
};
