#pragma once
// Planted defects: each names one mistake that a named test must catch (tests/plants.md). They are
// compiled only with -DPYRALOG_PLANTS=ON and chosen by the environment variable PYRALOG_PLANT, so
// a release cannot carry one.

#ifdef PYRALOG_PLANTS
#include <cstdlib>
#include <cstring>
namespace pyralog::base {
/// True if the environment chose the plant `name`. Reads the environment once per call; any thread.
inline bool plant_chosen(const char* name) {
  const char* chosen = std::getenv("PYRALOG_PLANT");
  return chosen != nullptr && std::strcmp(chosen, name) == 0;
}
}  // namespace pyralog::base
#define PYRALOG_PLANT(name) (::pyralog::base::plant_chosen(name))
#else
#define PYRALOG_PLANT(name) false
#endif
