// All messages of the Kafka protocol, keyed by message and version (see testing.h).
#include "wire/kafka/testing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pyralog::wire::kafka::testing::try_input({data, size});
  return 0;
}
