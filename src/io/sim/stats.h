#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace pyralog::io::sim {

/// How often each kind of fault and rare path has happened in a run, by name ("disk.page_torn"). A
/// simulation asserts that what it wants to cover is not zero. One thread.
class Stats {
 public:
  void add(std::string_view name, std::uint64_t count = 1) {
    const auto found = counts_.find(name);
    if (found != counts_.end()) {
      found->second += count;
    } else {
      counts_.emplace(name, count);
    }
  }
  [[nodiscard]] std::uint64_t operator[](std::string_view name) const {
    const auto found = counts_.find(name);
    return found == counts_.end() ? 0 : found->second;
  }
  [[nodiscard]] const std::map<std::string, std::uint64_t, std::less<>>& all() const {
    return counts_;
  }

 private:
  std::map<std::string, std::uint64_t, std::less<>> counts_;
};

}  // namespace pyralog::io::sim
