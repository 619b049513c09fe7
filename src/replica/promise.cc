#include "replica/promise.h"

#include <algorithm>
#include <string>

namespace pyralog::replica {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kEmptied = 2;  ///< a build that does not know it opens no journal with one

}  // namespace

Bytes encode(const PromiseFrame& frame) {
  Writer out;
  out.le(frame.promise.emptied ? kEmptied : kVersion)
      .raw(frame.partition.topic.uuid.bytes)
      .le(frame.partition.partition.value);
  out.le(frame.promise.promised.value).le(frame.promise.joined.value).le(frame.promise.lossy.value);
  out.le(static_cast<std::uint8_t>(frame.promise.in_doubt ? 1 : 0));
  return out.take();
}

Result<PromiseFrame> decode_promise(ByteView bytes) {
  Reader in(bytes);
  const auto version = in.le<std::uint8_t>();
  if (in.ok() && version != kVersion && version != kEmptied) {
    return fail(Code::kUnsupported, "promise: version " + std::to_string(version) +
                                        " is not known to this build; start the newer one");
  }
  PromiseFrame frame;
  const ByteView topic = in.raw(frame.partition.topic.uuid.bytes.size());
  std::ranges::copy(topic, frame.partition.topic.uuid.bytes.begin());
  frame.partition.partition = PartitionIndex(in.le<std::int32_t>());
  frame.promise.promised = Epoch(in.le<std::uint32_t>());
  frame.promise.joined = Epoch(in.le<std::uint32_t>());
  frame.promise.lossy = Epoch(in.le<std::uint32_t>());
  const auto doubt = in.le<std::uint8_t>();
  frame.promise.in_doubt = doubt == 1;
  frame.promise.emptied = version == kEmptied;
  if (!in.done() || doubt > 1 || frame.partition.partition.value < 0 ||
      frame.promise.joined > frame.promise.promised || frame.promise.lossy > frame.promise.joined ||
      (frame.promise.emptied && !frame.promise.in_doubt)) {
    return fail(Code::kCorrupt, "promise: " + std::to_string(bytes.size()) +
                                    " bytes are none that this program writes; restore the disk or "
                                    "replace it");
  }
  return frame;
}

}  // namespace pyralog::replica
