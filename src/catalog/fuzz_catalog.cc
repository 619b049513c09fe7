#include <cstdlib>

#include "base/crc32c.h"
#include "catalog/catalog.h"

namespace {

using namespace pyralog;
using namespace pyralog::catalog;

/// What can be read is written back as the same bytes, and applies or is refused without harm.
void judge_entry(ByteView bytes) {
  const auto entry = decode_entry(bytes);
  if (!entry) return;
  const Bytes again = encode_entry(*entry);
  if (again.size() != bytes.size() || !std::equal(again.begin(), again.end(), bytes.begin())) {
    std::abort();
  }
  Catalog c;
  ClusterCreated created;
  created.cluster.bytes[0] = 1;
  if (!c.apply(created, 1)) std::abort();
  if (!c.apply(*entry, 2) && c.position() != 1) std::abort();
}

/// The fuzzer cannot guess checksums, so the last four bytes are set right first.
void judge_snapshot(ByteView bytes) {
  if (bytes.size() < 4) return;
  Bytes sealed(bytes.begin(), bytes.end());
  const std::size_t covered = sealed.size() - 4;
  store_le(sealed.data() + covered, crc32c(ByteView(sealed).first(covered)));
  auto c = Catalog::decode_snapshot(sealed);
  if (!c) return;
  const auto again = Catalog::decode_snapshot(c->encode_snapshot());
  if (!again || !(*again == *c)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  if (data[0] == 'P') {
    judge_snapshot({data, size});
  } else {
    judge_entry({data, size});
  }
  return 0;
}
