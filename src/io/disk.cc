#include "io/disk.h"

#include <fmt/format.h>

#include <cerrno>

namespace pyralog::io {

bool is_no_space(const Error& error) {
  return error.code == Code::kExhausted && (error.sys_errno == ENOSPC || error.sys_errno == EDQUOT);
}

bool is_no_descriptors(const Error& error) {
  return error.code == Code::kExhausted && (error.sys_errno == EMFILE || error.sys_errno == ENFILE);
}

std::string parent_dir(const std::string& path) {
  std::size_t end = path.size();
  while (end > 1 && path[end - 1] == '/') --end;
  const std::size_t slash = path.rfind('/', end - 1);
  if (slash == std::string::npos || end == 0) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Task<Result<Bytes>> read_file(Disk& disk, std::string path, std::size_t max_bytes) {
  PYRALOG_CO_ASSIGN(const std::shared_ptr<File> file, co_await disk.open(path, OpenMode::kRead));
  if (file->size() > max_bytes) {
    co_return fail(Code::kTooLarge, fmt::format("{}: {} bytes are more than the {} expected", path,
                                                file->size(), max_bytes));
  }
  Bytes bytes(static_cast<std::size_t>(file->size()));
  PYRALOG_CO_ASSIGN(const std::size_t got, co_await file->read_at(0, bytes));
  bytes.resize(got);
  co_return bytes;
}

namespace {
Task<Result<void>> write_whole(Disk& disk, std::string path, Bytes bytes) {
  PYRALOG_CO_ASSIGN(const std::shared_ptr<File> file,
                    co_await disk.open(std::move(path), OpenMode::kOpenOrCreate));
  PYRALOG_CO_TRY(co_await file->truncate(0));
  PYRALOG_CO_TRY(file->write_at(0, bytes));
  co_return co_await file->sync();
}
}  // namespace

Task<Result<void>> replace_file(Disk& disk, std::string path, Bytes bytes) {
  const std::string temporary = path + ".tmp";
  auto done = co_await write_whole(disk, temporary, std::move(bytes));
  if (done) done = co_await disk.rename(temporary, path);
  if (!done) {
    (void)co_await disk.remove(temporary);  // on a full disk it would take what room there is
    co_return done;
  }
  co_return co_await disk.sync_dir(parent_dir(path));
}

}  // namespace pyralog::io
