#include "io/sim/sim_disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <functional>

#include "io/shard.h"
#include "io/sim/inode.h"
#include "io/sim/sim_file.h"
#include "io/sim/simulator.h"

namespace pyralog::io::sim {

namespace {

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t slash = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, slash - at);
    at = slash + 1;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(std::move(part));
    }
  }
  return parts;
}

const char* name_of(DiskOp op) {
  switch (op) {
    case DiskOp::kOpen: return "open";
    case DiskOp::kRead: return "read";
    case DiskOp::kWrite: return "write";
    case DiskOp::kSync: return "sync";
    case DiskOp::kTruncate: return "truncate";
    case DiskOp::kMakeDirs: return "make directory";
    case DiskOp::kSyncDir: return "sync directory";
    case DiskOp::kList: return "list";
    case DiskOp::kRename: return "rename";
    case DiskOp::kRemove: return "remove";
    case DiskOp::kLock: return "lock";
    case DiskOp::kSend: return "send";
  }
  return "call";
}

auto not_found(const std::string& path) {
  return fail(Code::kNotFound, fmt::format("{}: no such file or directory", path), ENOENT);
}

}  // namespace

class SimFileLock final : public FileLock {
 public:
  SimFileLock(SimDisk& disk, std::string path)
      : disk_(disk), path_(std::move(path)), process_(disk.process_) {}
  ~SimFileLock() override {
    if (process_ == disk_.process_) disk_.locks_.erase(path_);
  }

 private:
  SimDisk& disk_;
  std::string path_;
  std::uint64_t process_;
};

SimDisk::SimDisk(Node& node, DiskOptions options, std::uint64_t seed, Stats& stats)
    : node_(node), options_(options), rng_(seed), stats_(stats) {
  root_ = std::make_shared<Inode>();
  root_->directory = true;
}

SimDisk::~SimDisk() = default;

SimDisk::Place SimDisk::find(const std::string& path) const {
  Place place;
  place.inode = root_;
  for (const std::string& part : split(path)) {
    place.dir = place.inode != nullptr && place.inode->directory ? place.inode : nullptr;
    place.name = part;
    place.inode = nullptr;
    if (place.dir == nullptr) continue;
    const auto entry = place.dir->entries.find(part);
    if (entry != place.dir->entries.end()) place.inode = entry->second;
  }
  return place;
}

DiskFault SimDisk::judge(DiskOp op, const std::string& path, double rate) {
  ++calls_;
  if (!node_.up()) return DiskFault::kKill;
  DiskFault fault = hook_ ? hook_(op, path) : DiskFault::kNone;
  if (fault == DiskFault::kNone && rate > 0 && rng_.chance(rate)) fault = DiskFault::kError;
  if (fault == DiskFault::kKill) node_.kill();
  if (fault == DiskFault::kPowerLoss) node_.lose_power();
  if (fault == DiskFault::kError) stats_.add(fmt::format("disk.error_{}", name_of(op)));
  if (fault == DiskFault::kNoSpace) stats_.add("disk.no_space");
  if (fault == DiskFault::kNoQuota) stats_.add("disk.no_quota");
  if (fault == DiskFault::kNoDescriptors) stats_.add("disk.no_descriptors");
  return fault;
}

Result<void> SimDisk::refused(DiskFault fault, DiskOp op, const std::string& path) {
  switch (fault) {
    case DiskFault::kNone: break;
    case DiskFault::kError:
      return fail(Code::kIo, fmt::format("{}: {} failed: input/output error", path, name_of(op)),
                  EIO);
    case DiskFault::kNoSpace:
      return fail(Code::kExhausted,
                  fmt::format("{}: {} failed: no space left on the device", path, name_of(op)),
                  ENOSPC);
    case DiskFault::kNoQuota:
      return fail(Code::kExhausted,
                  fmt::format("{}: {} failed: disk quota exceeded", path, name_of(op)), EDQUOT);
    case DiskFault::kNoDescriptors:
      return fail(Code::kExhausted,
                  fmt::format("{}: {} failed: too many open files", path, name_of(op)), EMFILE);
    case DiskFault::kKill:
    case DiskFault::kPowerLoss:
      return fail(Code::kIo, fmt::format("{}: the node is down", path), EIO);
  }
  return {};
}

Duration SimDisk::latency() {
  const auto span = static_cast<std::uint64_t>((options_.latency_max - options_.latency_min).count());
  Duration time = options_.latency_min + Duration(rng_.below(span + 1));
  if (options_.slow > 0 && rng_.chance(options_.slow)) {
    stats_.add("disk.slow");
    time += options_.slow_by;
  }
  return time;
}

Task<Result<void>> SimDisk::admit(DiskOp op, std::string path, double rate) {
  const DiskFault fault = judge(op, path, rate);
  co_await sleep_for(latency());
  co_return refused(fault, op, path);
}

void SimDisk::link(Inode& dir, const std::string& name, std::shared_ptr<Inode> inode) {
  dir.entries[name] = inode;
  dir.pending.push_back({next_change_++, name, std::move(inode), {}});
}

void SimDisk::unlink(Inode& dir, const std::string& name) {
  const auto entry = dir.entries.find(name);
  PYRALOG_ASSERT(entry != dir.entries.end());
  if (std::exchange(entry->second->linked, false)) used_ -= entry->second->content.size();
  dir.entries.erase(entry);
  dir.pending.push_back({next_change_++, name, nullptr, {}});
}

Result<std::shared_ptr<Inode>> SimDisk::create(const Place& place, const std::string& path,
                                               bool directory) {
  if (place.dir == nullptr) return not_found(path);
  auto inode = std::make_shared<Inode>();
  inode->directory = directory;
  link(*place.dir, place.name, inode);
  return inode;
}

Task<Result<std::shared_ptr<File>>> SimDisk::open(std::string path, OpenMode mode) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kOpen, path, options_.metadata_error));
  const Place place = find(path);
  std::shared_ptr<Inode> inode = place.inode;
  if (inode != nullptr && inode->directory) {
    co_return fail(Code::kInvalidArgument, fmt::format("{}: is a directory", path), EISDIR);
  }
  if (inode != nullptr && mode == OpenMode::kCreate) {
    co_return fail(Code::kAlreadyExists, fmt::format("{}: exists already", path), EEXIST);
  }
  if (inode == nullptr) {
    if (mode == OpenMode::kRead || mode == OpenMode::kReadWrite) co_return not_found(path);
    PYRALOG_CO_ASSIGN(inode, create(place, path, false));
  }
  std::shared_ptr<File> file =
      SimFile::make(*this, std::move(path), std::move(inode), mode != OpenMode::kRead);
  co_return file;
}

Task<std::vector<Result<void>>> SimDisk::sync(std::vector<std::shared_ptr<File>> files) {
  return sync_all(std::move(files));
}

Task<Result<void>> SimDisk::make_dirs(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kMakeDirs, path, options_.metadata_error));
  std::string so_far = path.starts_with('/') ? "/" : "";
  for (const std::string& part : split(path)) {
    so_far += part;
    const Place place = find(so_far);
    if (place.inode == nullptr) {
      PYRALOG_CO_TRY(create(place, so_far, true));
      PYRALOG_CO_TRY(co_await sync_dir(parent_dir(so_far)));
    } else if (!place.inode->directory) {
      co_return fail(Code::kAlreadyExists, fmt::format("{}: is no directory", so_far), ENOTDIR);
    }
    so_far += '/';
  }
  co_return Result<void>{};
}

Task<Result<void>> SimDisk::sync_dir(std::string path) {
  const std::shared_ptr<Inode> dir = find(path).inode;
  const std::uint64_t covered = next_change_;
  PYRALOG_CO_TRY(co_await admit(DiskOp::kSyncDir, path, options_.metadata_error));
  if (dir == nullptr || !dir->directory) co_return not_found(path);
  std::vector<NameChange> later;
  for (NameChange& change : dir->pending) {
    if (change.number < covered) {
      dir->apply(change);
    } else {
      later.push_back(std::move(change));
    }
  }
  dir->pending = std::move(later);
  co_return Result<void>{};
}

Task<Result<std::vector<DirEntry>>> SimDisk::list(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kList, path, options_.metadata_error));
  const std::shared_ptr<Inode> dir = find(path).inode;
  if (dir == nullptr || !dir->directory) co_return not_found(path);
  std::vector<DirEntry> entries;
  for (const auto& [name, inode] : dir->entries) {
    entries.push_back({name, inode->directory, inode->content.size()});
  }
  co_return entries;
}

Task<Result<void>> SimDisk::rename(std::string from, std::string to) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kRename, from, options_.metadata_error));
  const Place source = find(from);
  const Place target = find(to);
  if (source.inode == nullptr) co_return not_found(from);
  if (target.dir == nullptr) co_return not_found(to);
  if (source.inode == target.inode) co_return Result<void>{};
  if (target.inode != nullptr) {
    if (target.inode->directory != source.inode->directory ||
        (target.inode->directory && !target.inode->entries.empty())) {
      co_return fail(Code::kAlreadyExists, fmt::format("{}: cannot be replaced by {}", to, from),
                     ENOTEMPTY);
    }
    if (std::exchange(target.inode->linked, false)) used_ -= target.inode->content.size();
  }
  source.dir->entries.erase(source.name);
  target.dir->entries[target.name] = source.inode;
  if (source.dir == target.dir) {
    source.dir->pending.push_back({next_change_++, target.name, source.inode, source.name});
  } else {
    // One journal entry on the systems we run on: it is there for both directories or for none, so
    // neither half waits for the other's sync.
    const std::uint64_t number = next_change_++;
    for (Inode* dir : {source.dir.get(), target.dir.get()}) {
      for (const NameChange& change : dir->pending) dir->apply(change);
      dir->pending.clear();
    }
    source.dir->apply({number, source.name, nullptr, {}});
    target.dir->apply({number, target.name, source.inode, {}});
  }
  co_return Result<void>{};
}

Task<Result<void>> SimDisk::remove(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kRemove, path, options_.metadata_error));
  const Place place = find(path);
  if (place.inode == nullptr) co_return not_found(path);
  if (place.inode->directory) {
    co_return fail(Code::kInvalidArgument, fmt::format("{}: is a directory", path), EISDIR);
  }
  unlink(*place.dir, place.name);
  co_return Result<void>{};
}

void SimDisk::forget_tree(Inode& dir) {
  while (!dir.entries.empty()) {
    const auto& [name, inode] = *dir.entries.begin();
    if (inode->directory) forget_tree(*inode);
    unlink(dir, std::string(name));
  }
}

Task<Result<void>> SimDisk::remove_tree(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kRemove, path, options_.metadata_error));
  const Place place = find(path);
  if (place.inode == nullptr) co_return Result<void>{};
  if (place.dir == nullptr) {
    co_return fail(Code::kInvalidArgument, fmt::format("{}: the root stays", path), EINVAL);
  }
  if (place.inode->directory) forget_tree(*place.inode);
  unlink(*place.dir, place.name);
  co_return Result<void>{};
}

Task<Result<bool>> SimDisk::exists(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kList, path, options_.metadata_error));
  co_return find(path).inode != nullptr;
}

Task<Result<std::unique_ptr<FileLock>>> SimDisk::lock(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kLock, path, options_.metadata_error));
  const Place place = find(path);
  if (place.inode == nullptr) PYRALOG_CO_TRY(create(place, path, false));
  if (!locks_.insert(path).second) {
    co_return fail(Code::kAlreadyExists,
                   fmt::format("{}: is locked by another process; stop it first", path));
  }
  co_return std::make_unique<SimFileLock>(*this, std::move(path));
}

Task<Result<SpaceInfo>> SimDisk::space(std::string path) {
  PYRALOG_CO_TRY(co_await admit(DiskOp::kList, path, 0));
  co_return SpaceInfo{room(), options_.capacity};
}

std::string SimDisk::boot_id() { return fmt::format("{}-boot-{}", node_.name(), boots_); }

Result<Bytes> SimDisk::peek(const std::string& path) const {
  const Place place = find(path);
  if (place.inode == nullptr || place.inode->directory) return not_found(path);
  return place.inode->content;
}

Result<void> SimDisk::corrupt(const std::string& path, std::uint64_t position, std::uint8_t mask) {
  const Place place = find(path);
  if (place.inode == nullptr || place.inode->directory) return not_found(path);
  if (position >= place.inode->content.size()) {
    return fail(Code::kOutOfRange, fmt::format("{}: has no byte {}", path, position));
  }
  place.inode->content[position] ^= mask;
  if (position < place.inode->durable.size()) place.inode->durable[position] ^= mask;
  stats_.add("disk.bit_rot");
  return {};
}

Result<void> SimDisk::corrupt_stored(const std::string& path, std::uint64_t position,
                                     std::uint8_t mask) {
  const Place place = find(path);
  if (place.inode == nullptr || place.inode->directory) return not_found(path);
  if (position >= place.inode->durable.size()) {
    return fail(Code::kOutOfRange, fmt::format("{}: has no byte {} stored", path, position));
  }
  place.inode->durable[position] ^= mask;
  stats_.add("disk.bit_rot");
  return {};
}

std::vector<std::string> SimDisk::files() const {
  std::vector<std::string> found;
  const std::function<void(const Inode&, const std::string&)> walk = [&](const Inode& dir,
                                                                        const std::string& prefix) {
    for (const auto& [name, inode] : dir.entries) {
      const std::string path = prefix + "/" + name;
      if (inode->directory) {
        walk(*inode, path);
      } else {
        found.push_back(path);
      }
    }
  };
  walk(*root_, "");
  return found;
}

}  // namespace pyralog::io::sim
