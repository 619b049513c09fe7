#include "cluster/cookie.h"

#include "base/crc32c.h"

namespace pyralog::cluster {

namespace {
constexpr std::string_view kMagic = "PYRACOOK";
constexpr std::size_t kMaxCookieBytes = 4096;

Uuid read_uuid(Reader& in) {
  Uuid id;
  const ByteView raw = in.raw(id.bytes.size());
  if (raw.size() == id.bytes.size()) std::copy(raw.begin(), raw.end(), id.bytes.begin());
  return id;
}
}  // namespace

Bytes encode(const Cookie& cookie) {
  Writer out;
  out.raw(as_bytes(kMagic)).le(kCookieVersion).raw(cookie.cluster.bytes).le(cookie.node.value);
  out.raw(cookie.incarnation.bytes).le(cookie.boot_counter).sized(cookie.os_boot_id);
  const std::uint32_t crc = crc32c(out.view());
  out.le(crc);
  return out.take();
}

Result<Cookie> decode_cookie(ByteView bytes, const std::string& path) {
  Reader in(bytes);
  if (as_text(in.raw(kMagic.size())) != kMagic) {
    return fail(Code::kCorrupt, path + ": not a cookie of Pyralog; is this the right --data-dir?");
  }
  const auto version = in.le<std::uint32_t>();
  if (in.ok() && version > kCookieVersion) {
    return fail(Code::kUnsupported, path + ": format " + std::to_string(version) +
                                        " is newer than this pyralog knows (" +
                                        std::to_string(kCookieVersion) +
                                        "); start the version that wrote it, or a later one");
  }
  Cookie cookie;
  cookie.cluster = read_uuid(in);
  cookie.node = NodeId(in.le<std::int32_t>());
  cookie.incarnation = read_uuid(in);
  cookie.boot_counter = in.le<std::uint64_t>();
  cookie.os_boot_id = std::string(in.sized_text());
  const std::size_t covered = in.position();
  const auto crc = in.le<std::uint32_t>();
  if (!in.done() || crc != crc32c(bytes.first(covered))) {
    return fail(Code::kCorrupt,
                path + ": damaged (checksum); restore it from a copy of this directory");
  }
  return cookie;
}

std::string cookie_path(const std::string& data_dir) {
  return data_dir + "/cookie";
}

io::Task<Result<std::optional<Cookie>>> read_cookie(io::Disk& disk, std::string data_dir) {
  const std::string path = cookie_path(data_dir);
  PYRALOG_CO_ASSIGN(const bool there, co_await disk.exists(path));
  if (!there) co_return std::optional<Cookie>{};
  PYRALOG_CO_ASSIGN(const Bytes bytes, co_await io::read_file(disk, path, kMaxCookieBytes));
  PYRALOG_CO_ASSIGN(Cookie cookie, decode_cookie(bytes, path));
  co_return std::optional<Cookie>(std::move(cookie));
}

io::Task<Result<void>> write_cookie(io::Disk& disk, std::string data_dir, Cookie cookie) {
  co_return co_await io::replace_file(disk, cookie_path(data_dir), encode(cookie));
}

}  // namespace pyralog::cluster
