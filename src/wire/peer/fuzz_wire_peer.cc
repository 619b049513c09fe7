// All messages between nodes, keyed by message and version (see testing.h). The corpus is
// made as it runs: now and then a mutation starts from the bytes of a fresh valid message.
#include <algorithm>

#include "wire/peer/testing.h"

using pyralog::wire::peer::testing::Random;

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pyralog::wire::peer::testing::try_input({data, size});
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
  Random random(seed);
  if (random.below(8) == 0) {
    const pyralog::Bytes fresh = pyralog::wire::peer::testing::make_input(random);
    if (fresh.size() <= max_size) {
      std::copy(fresh.begin(), fresh.end(), data);
      size = fresh.size();
    }
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
