#include "log/believed_time.h"

#include "base/crc32c.h"

namespace pyralog::log {

namespace {
constexpr std::string_view kMagic = "PYRATIME";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kFileBytes = 8 + 4 + 8 + 4;
/// A newer version may have more to say.
constexpr std::size_t kMaxFileBytes = 4096;

std::string path_in(const std::string& data_dir) { return data_dir + "/believed-time"; }
}  // namespace

Bytes encode_believed_time(WallMs time) {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kVersion).le(time.ms);
  out.le(crc32c(out.view()));
  return out.take();
}

Result<WallMs> decode_believed_time(ByteView bytes, const std::string& path) {
  Reader in(bytes);
  if (as_text(in.raw(kMagic.size())) != kMagic) return fail(Code::kCorrupt, path + ": not such a file");
  const auto version = in.le<std::uint32_t>();
  if (version > kVersion) return fail(Code::kUnsupported, path + ": of a newer version");
  const auto ms = in.le<std::int64_t>();
  const auto crc = in.le<std::uint32_t>();
  if (!in.ok() || version == 0 || bytes.size() != kFileBytes ||
      crc32c(bytes.first(kFileBytes - 4)) != crc) {
    return fail(Code::kCorrupt, path + ": it fails its checks");
  }
  return WallMs{ms};
}

io::Task<Result<WallMs>> load_believed_time(io::Disk& disk, std::string data_dir) {
  const std::string path = path_in(data_dir);
  PYRALOG_CO_ASSIGN(const Bytes bytes, co_await io::read_file(disk, path, kMaxFileBytes));
  co_return decode_believed_time(bytes, path);
}

io::Task<Result<void>> store_believed_time(io::Disk& disk, std::string data_dir, WallMs time) {
  co_return co_await io::replace_file(disk, path_in(data_dir), encode_believed_time(time));
}

}  // namespace pyralog::log
