#include "base/json.h"
#include "cli/handlers.h"
#include "cli/with_client.h"
#include "cluster/lone_log.h"
#include "io/disk.h"
#include "io/shard.h"
#include "log/tools.h"

namespace pyralog::cli {

namespace {

std::string to_text(const log::LogReport& report, bool headers) {
  std::string out = "partition " + to_string(report.partition) + "  offsets " +
                    std::to_string(report.start.value) + " to " + std::to_string(report.end.value);
  out += report.has_synced ? "  synced to " + std::to_string(report.synced_end.value) + "\n"
                           : std::string("  nothing known to be synced\n");
  for (const auto& segment : report.segments) {
    out += "  " + segment.file + "  " + std::to_string(segment.bytes) + " bytes  offsets " +
           std::to_string(segment.first.value) + " to " + std::to_string(segment.next.value) +
           "  " + std::to_string(segment.batches) + " batches  " + std::to_string(segment.records) +
           " records  epochs " + std::to_string(segment.first_epoch.value) + " to " +
           std::to_string(segment.last_epoch.value) +
           (segment.index_sound ? "" : "  index to be rebuilt") + "\n";
    for (const auto& header : headers ? segment.headers : std::vector<BatchHeader>()) {
      out += "    batch " + std::to_string(header.base_offset) + " to " +
             std::to_string(header.last_offset()) + "  " + std::to_string(header.total_bytes()) +
             " bytes  epoch " + std::to_string(header.leader_epoch) + "  codec " +
             name(header.codec()) + "  producer " + std::to_string(header.producer_id) + "\n";
    }
  }
  for (const auto& finding : report.findings) {
    out += "  " + std::string(finding.synced ? "DAMAGE " : "torn tail ") + finding.file +
           " at byte " + std::to_string(finding.position) + ": " + finding.what + "\n";
  }
  if (report.cut_bytes > 0)
    out += "  " + std::to_string(report.cut_bytes) + " bytes beyond the first fault\n";
  return out;
}

void add_json(JsonWriter& json, const log::LogReport& report, bool headers) {
  json.object()
      .field("partition", to_string(report.partition))
      .field("dir", report.dir)
      .field("start", report.start.value)
      .field("end", report.end.value)
      .field("sound", report.sound())
      .field("cut_bytes", report.cut_bytes);
  json.key("synced_end");
  if (report.has_synced)
    json.value(report.synced_end.value);
  else
    json.null();
  json.key("segments").array();
  for (const auto& segment : report.segments) {
    json.object()
        .field("file", segment.file)
        .field("bytes", segment.bytes)
        .field("sound_bytes", segment.sound_bytes)
        .field("first", segment.first.value)
        .field("next", segment.next.value)
        .field("batches", segment.batches)
        .field("records", segment.records)
        .field("first_epoch", segment.first_epoch.value)
        .field("last_epoch", segment.last_epoch.value)
        .field("index_sound", segment.index_sound);
    if (headers) {
      json.key("headers").array();
      for (const auto& header : segment.headers) {
        json.object()
            .field("base_offset", header.base_offset)
            .field("last_offset", header.last_offset())
            .field("bytes", header.total_bytes())
            .field("epoch", header.leader_epoch)
            .field("codec", name(header.codec()))
            .field("producer_id", header.producer_id)
            .end();
      }
      json.end();
    }
    json.end();
  }
  json.end().key("findings").array();
  for (const auto& finding : report.findings) {
    json.object()
        .field("file", finding.file)
        .field("position", finding.position)
        .field("what", finding.what)
        .field("synced", finding.synced)
        .end();
  }
  json.end().end();
}

/// The partitions' directories that DIR means: itself, or all in a data directory.
struct Where {
  std::string data_dir;
  std::vector<std::string> partitions;
};

io::Task<Result<Where>> find_partitions(io::Disk& disk, std::string dir) {
  while (dir.size() > 1 && dir.ends_with('/')) dir.pop_back();
  Where where;
  const std::string base = dir.substr(dir.rfind('/') + 1);
  if (parse_partition_id(base)) {
    where.data_dir = io::parent_dir(dir);
    where.partitions.push_back(dir);
    co_return where;
  }
  where.data_dir = dir;
  const auto ids = co_await log::list_logs(disk, dir);
  if (!ids && ids.error().code == Code::kNotFound) {
    co_return fail(Code::kNotFound, dir + ": there is no such directory; give a data directory, or a "
                                          "partition's directory in one");
  }
  PYRALOG_CO_TRY(ids);
  for (const auto& id : *ids) where.partitions.push_back(dir + "/" + to_string(id));
  if (where.partitions.empty()) {
    co_return fail(Code::kNotFound, dir +
                                        ": is neither a partition's nor a data directory; it "
                                        "holds no partitions");
  }
  co_return where;
}

/// What a tool may ask for beside the directory that it works on.
struct Given {
  log::EpochTable epochs;
  log::BesidePtr beside;
  std::function<void(std::uint64_t bytes)> on_segment;
};
using Tool = std::function<io::Task<Result<log::LogReport>>(io::Disk& disk, std::string dir, Given given)>;

/// How far it is, once a second from the second second on; without a terminal every tenth.
class Progress {
 public:
  Progress(Console& console, std::size_t partitions)
      : console_(console), partitions_(partitions), next_(io::Shard::current().now() + 1s) {}
  ~Progress() {
    if (said_ && console_.err_is_terminal) print(console_.err, "\n");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void read(std::uint64_t bytes) {
    bytes_ += bytes;
    say();
  }
  void partition_done() {
    ++done_;
    say();
  }

 private:
  void say() {
    const Instant now = io::Shard::current().now();
    if (now < next_) return;
    next_ = now + (console_.err_is_terminal ? Duration(1s) : Duration(10s));
    said_ = true;
    print(console_.err, std::to_string(done_) + " of " + std::to_string(partitions_) + " partitions, " +
                            std::to_string(bytes_ >> 20U) + " MiB read" +
                            (console_.err_is_terminal ? "\r" : "\n"));
    std::fflush(console_.err);
  }

  Console& console_;
  std::size_t partitions_;
  Instant next_;
  std::size_t done_ = 0;
  std::uint64_t bytes_ = 0;
  bool said_ = false;
};

/// Where the epochs of the partition in `dir` began, as the catalogue knows it; empty without one.
log::EpochTable epochs_of(const cluster::CatalogPtr& catalog, const std::string& dir) {
  const auto id = parse_partition_id(dir.substr(dir.rfind('/') + 1));
  const catalog::Partition* known = catalog && id ? catalog->partition(*id) : nullptr;
  return known == nullptr ? log::EpochTable() : log::EpochTable(known->epochs);
}

/// How a tool is run over the partitions.
struct Way {
  bool must_be_sound = false;
  bool only_reads = true;  ///< what lies beside the partitions stays as it is, and is read once for all
  bool as_json = false;
  bool headers = false;
};

io::Task<Result<void>> run_tool(std::string dir, Tool tool, Way way, Console& console) {
  const auto [must_be_sound, only_reads, as_json, headers] = way;
  io::Disk& disk = io::Shard::current().disk();
  PYRALOG_CO_ASSIGN(const Where where, co_await find_partitions(disk, std::move(dir)));
  auto lock = co_await disk.lock(where.data_dir + "/lock");
  if (!lock) {
    if (lock.error().code != Code::kAlreadyExists) co_return fail(lock.error());
    co_return fail(Code::kAlreadyExists,
                   where.data_dir + ": a server has it open; end it first (or copy the directory)");
  }
  // A directory that was copied alone has no catalogue; one that is damaged hides nothing here.
  cluster::CatalogPtr catalog;
  if (auto found = co_await cluster::LoneLog::peek(disk, where.data_dir)) catalog = *found;
  log::BesidePtr beside;
  if (only_reads) {
    PYRALOG_CO_ASSIGN(beside, co_await log::read_beside(disk, where.data_dir));
  }
  Progress progress(console, where.partitions.size());
  JsonWriter json;
  json.array();
  std::size_t unsound = 0;
  std::vector<Error> refused;  // damage in one partition is no reason to leave the others alone
  for (const std::string& partition : where.partitions) {
    const auto report =
        co_await tool(disk, partition, {epochs_of(catalog, partition), beside, [&](std::uint64_t bytes) {
                                          progress.read(bytes);
                                        }});
    progress.partition_done();
    if (!report) {
      refused.push_back(report.error());
      if (as_json) {
        json.object().field("dir", partition).field("error", report.error().message).end();
      } else if (where.partitions.size() > 1) {
        print(console.out, partition + ": " + report.error().message + "\n");
      }
      continue;
    }
    if (!report->sound()) ++unsound;
    if (as_json)
      add_json(json, *report, headers);
    else
      print(console.out, to_text(*report, headers));
  }
  if (as_json) print(console.out, json.end().text() + "\n");
  if (refused.size() == 1) co_return fail(std::move(refused.front()));
  if (!refused.empty()) {
    co_return fail(refused.front().code,
                   where.data_dir + ": " + std::to_string(refused.size()) + " of " +
                       std::to_string(where.partitions.size()) +
                       " partitions were left as they are; see above");
  }
  if (must_be_sound && unsound > 0) {
    co_return fail(Code::kCorrupt,
                   where.data_dir + ": " + std::to_string(unsound) + " of " +
                       std::to_string(where.partitions.size()) +
                       " partitions have faults; see above, and `pyralog log repair`");
  }
  co_return Result<void>();
}

log::InspectOptions options_of(Given given) {
  log::InspectOptions options;
  options.given_out = std::move(given.epochs);
  options.beside = std::move(given.beside);
  options.on_segment = std::move(given.on_segment);
  return options;
}

}  // namespace

Outcome log_inspect(const Args& args, Console& console) {
  const bool headers = args.flag("batches");
  return with_runtime([&] {
    return run_tool(
        args.text("DIR"),
        [headers](io::Disk& disk, std::string dir, Given given) {
          log::InspectOptions options = options_of(std::move(given));
          options.headers = headers;
          return log::inspect(disk, std::move(dir), std::move(options));
        },
        {.as_json = args.flag("json"), .headers = headers}, console);
  });
}

Outcome log_verify(const Args& args, Console& console) {
  return with_runtime([&] {
    return run_tool(
        args.text("DIR"),
        [](io::Disk& disk, std::string dir, Given given) {
          return log::verify(disk, std::move(dir), options_of(std::move(given)));
        },
        {.must_be_sound = true, .as_json = args.flag("json")}, console);
  });
}

Outcome log_repair(const Args& args, Console& console) {
  const bool below_synced = args.flag("below-synced");
  const bool dry_run = args.flag("dry-run");
  return with_runtime([&] {
    return run_tool(
        args.text("DIR"),
        [below_synced, dry_run](io::Disk& disk, std::string dir, Given given) {
          return log::repair(disk, std::move(dir), {below_synced, dry_run, std::move(given.epochs)});
        },
        {.only_reads = false, .as_json = args.flag("json")}, console);
  });
}

}  // namespace pyralog::cli
