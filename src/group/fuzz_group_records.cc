#include <cstdlib>

#include "group/assignor.h"
#include "group/group_table.h"

namespace {

using namespace pyralog;
using namespace pyralog::group;

/// Whatever is stored or sent, it is read within its bytes; what we could write, we write alike.
void judge_record(ByteView key, ByteView value) {
  if (const auto decoded = decode_key(key)) {
    const Bytes again = std::visit([](const auto& k) { return encode_key(k); }, *decoded);
    const auto twice = decode_key(again);
    if (!twice || *twice != *decoded) std::abort();
  }
  if (const auto group = decode_group_value(value)) {
    const auto twice = decode_group_value(encode_value(*group));
    if (!twice || !(*twice == *group)) std::abort();
  }
  (void)decode_offset_value(value);
  (void)decode_subscription(value);
  (void)decode_assignment(value);
}

/// A loaded table serves and lets time pass, whatever was loaded.
void judge_load(ByteView key, ByteView value) {
  GroupTable table{Options{}};
  if (!table.load(key, value)) return;
  Now now{Instant{1}, WallMs{1}};
  Effects effects = table.loaded(now);
  for (int i = 0; i < 4 && effects.next_timer != Instant::never(); ++i) {
    now.at = effects.next_timer;
    effects = table.step(Tick{}, now);
  }
  (void)table.list({});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView all{data + 1, size - 1};
  const std::size_t split = std::min<std::size_t>(data[0], all.size());
  judge_record(all.first(split), all.subspan(split));
  judge_load(all.first(split), all.subspan(split));
  return 0;
}
