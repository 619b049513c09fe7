#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace pyralog::base {

void assertion_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "pyralog: invariant broken: %s (%s:%d); this is a bug, please report it\n",
               expression, file, line);
  std::abort();
}

}  // namespace pyralog::base
