#include "log/tools.h"

#include <algorithm>

#include "log/survey.h"

namespace pyralog::log {

io::Task<Result<LogReport>> inspect(io::Disk& disk, std::string dir, InspectOptions options) {
  PYRALOG_CO_ASSIGN(Survey found,
                    co_await survey(disk, std::move(dir), BatchScan::Mode::kHeaders,
                                    std::move(options)));
  co_return std::move(found.report);
}

io::Task<Result<LogReport>> verify(io::Disk& disk, std::string dir, InspectOptions options) {
  PYRALOG_CO_ASSIGN(Survey found,
                    co_await survey(disk, std::move(dir), BatchScan::Mode::kChecked,
                                    std::move(options)));
  co_return std::move(found.report);
}

io::Task<Result<std::vector<PartitionId>>> list_logs(io::Disk& disk, std::string data_dir) {
  PYRALOG_CO_ASSIGN(const std::vector<io::DirEntry> names, co_await disk.list(std::move(data_dir)));
  std::vector<PartitionId> found;
  for (const io::DirEntry& entry : names) {
    const auto id = parse_partition_id(entry.name);
    if (id && entry.is_directory) found.push_back(*id);
  }
  std::sort(found.begin(), found.end());
  co_return found;
}

}  // namespace pyralog::log
