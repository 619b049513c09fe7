#include "log/segment_swap.h"

#include <fmt/format.h>

#include "base/plant.h"
#include "log/segment_check.h"

namespace pyralog::log {

namespace {

io::Task<Result<void>> remove_if_there(io::Disk& disk, std::string path) {
  auto removed = co_await disk.remove(std::move(path));
  if (!removed && removed.error().code != Code::kNotFound) co_return removed;
  co_return Result<void>{};
}

}  // namespace

std::optional<Offset> parse_swap_name(std::string_view name, std::string_view extension) {
  if (name.size() != 21 + extension.size() || name.substr(21) != extension) return std::nullopt;
  return parse_segment_name(std::string(name.substr(0, 20)) + ".log");
}

io::Task<Result<void>> finish_swap(io::Disk& disk, std::string dir, Offset base, Offset next,
                                   std::function<void(const std::string&)> forget) {
  const auto path = [&](Offset of, std::string_view extension) {
    return dir + "/" + segment_file_name(of, extension);
  };
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(dir));
  for (const io::DirEntry& entry : names) {
    const auto old = parse_segment_name(entry.name);
    const auto side = parse_side_file_name(entry.name);
    const std::optional<Offset> of = old ? old : side;
    if (!of || *of < base || *of >= next) continue;
    // The first one's append times were completed before, and its log is replaced below.
    if (*of == base && (old || entry.name.ends_with(".appendtime"))) continue;
    forget(dir + "/" + entry.name);
    PYRALOG_CO_TRY(co_await remove_if_there(disk, dir + "/" + entry.name));
  }
  if (!PYRALOG_PLANT("log.swap_before_removal")) PYRALOG_CO_TRY(co_await disk.sync_dir(dir));
  forget(path(base, "log"));
  PYRALOG_CO_TRY(co_await disk.rename(path(base, kSwapExtension), path(base, "log")));
  // A read that was under way may have opened the old one again meanwhile.
  forget(path(base, "log"));
  co_return co_await disk.sync_dir(dir);
}

io::Task<Result<Offset>> swap_end(io::Disk& disk, std::string dir, std::string name,
                                  PartitionId id) {
  const auto wrong = [&](const std::string& what) {
    return fail(Code::kCorrupt,
                fmt::format("{}/{}: {}; it would replace segments of the log. Restore "
                            "it from a copy, or see what is there without it by "
                            "pyralog log verify",
                            dir, name, what));
  };
  PYRALOG_CO_ASSIGN(std::shared_ptr<io::File> file,
                    co_await disk.open(dir + "/" + name, io::OpenMode::kRead));
  const auto header = co_await read_segment_header(std::move(file));
  if (!header) {
    if (header.error().code != Code::kCorrupt) co_return fail(header.error());
    co_return wrong(header.error().message);
  }
  const auto base = parse_swap_name(name, kSwapExtension);
  if (header->partition != id || header->base != base || header->next <= header->base) {
    co_return wrong("the header is not that of a compacted segment of this partition");
  }
  // The evidence had to lie in a later segment, and they follow upon one another.
  PYRALOG_CO_ASSIGN(const bool follows,
                    co_await disk.exists(dir + "/" + segment_file_name(header->next, "log")));
  if (!follows && !PYRALOG_PLANT("log.swap_unseen")) {
    co_return wrong(
        fmt::format("no segment begins at offset {}, where it ends", header->next.value));
  }
  co_return header->next;
}

io::Task<Result<void>> settle_swaps(io::Disk& disk, std::string dir, PartitionId id,
                                    bool set_aside) {
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(dir));
  for (const io::DirEntry& entry : names) {
    if (parse_swap_name(entry.name, kCleanedExtension)) {
      PYRALOG_CO_TRY(co_await remove_if_there(disk, dir + "/" + entry.name));
    }
    const auto base = parse_swap_name(entry.name, kSwapExtension);
    if (!base) continue;
    const auto next = co_await swap_end(disk, dir, entry.name, id);
    if (next) {
      PYRALOG_CO_TRY(co_await finish_swap(disk, dir, *base, *next, [](const std::string&) {}));
    } else if (set_aside && next.error().code == Code::kCorrupt) {
      const std::string path = dir + "/" + entry.name;
      PYRALOG_CO_TRY(co_await disk.rename(path, path + ".damaged"));
      PYRALOG_CO_TRY(co_await disk.sync_dir(dir));
    } else {
      co_return fail(next.error());
    }
  }
  co_return Result<void>{};
}

}  // namespace pyralog::log
