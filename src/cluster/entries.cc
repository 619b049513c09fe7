#include "cluster/entries.h"

namespace pyralog::cluster {

Bytes encode_entries(const std::vector<catalog::Entry>& entries) {
  Writer out;
  for (const auto& entry : entries) out.sized(catalog::encode_entry(entry));
  return out.take();
}

Result<std::vector<catalog::Entry>> decode_entries(ByteView bytes, std::uint16_t understood) {
  std::vector<catalog::Entry> entries;
  Reader in(bytes);
  while (in.left() > 0) {
    const ByteView one = in.sized();
    if (!in.ok()) return fail(Code::kCorrupt, "metadata log: an entry is cut short");
    PYRALOG_ASSIGN(catalog::Entry entry, catalog::decode_entry(one, understood));
    entries.push_back(std::move(entry));
  }
  return entries;
}

Result<catalog::Catalog> with(const catalog::Catalog& state,
                              const std::vector<catalog::Entry>& entries) {
  catalog::Catalog next = state;
  PYRALOG_TRY(next.apply_all(entries));
  return next;
}

}  // namespace pyralog::cluster
