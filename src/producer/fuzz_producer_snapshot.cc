#include <cstdlib>

#include "base/crc32c.h"
#include "producer/producer_table.h"

namespace {
void restore_and_use(pyralog::base::ByteView bytes) {
  using namespace pyralog::producer;
  const auto table = ProducerTable::restore(bytes, RunningMs{1});
  if (!table) return;
  const auto again = table->snapshot(table->end());
  if (!again || !ProducerTable::restore(*again, RunningMs{1})) std::abort();
}
}  // namespace

/// Foreign bytes as a snapshot, as they are and with a right checksum.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  restore_and_use({data, size});
  pyralog::base::Writer signed_bytes;
  signed_bytes.raw({data, size});
  signed_bytes.le(pyralog::base::crc32c(signed_bytes.view()));
  restore_and_use(signed_bytes.view());
  return 0;
}
