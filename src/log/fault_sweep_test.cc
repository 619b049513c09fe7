// A small life of a shard's logs, in which each call of the disk fails once: what was acknowledged is there.
#include <algorithm>
#include <map>

#include "log/log_testing.h"

namespace pyralog::log {
namespace {

using namespace test;
using io::sim::DiskFault;
using io::sim::Node;
using io::sim::Simulator;

constexpr std::uint8_t kLogs = 5;
constexpr std::uint8_t kShortened = 1;  ///< its records are deleted below some offset
constexpr std::uint8_t kCompacted = 3;
constexpr std::uint8_t kDeleted = 4;

/// What the test knows of one log, whatever became of it.
struct Known {
  std::map<std::int64_t, Bytes> batches;  ///< by base offset, as they were handed over last
  std::int64_t acknowledged = 0;
  std::int64_t deleted = 0;  ///< what lies below may be gone
  bool gone = false;         ///< its deletion was asked for
};

Options life_options() {
  Options o = options();
  o.write_ahead_bytes = 1u << 20;
  o.write_ahead_min_files = 3;
  o.synced_journal_bytes = 1500;
  return o;
}

LogConfig config_of(std::uint8_t p) {
  LogConfig c;
  c.segment_bytes = 600;
  c.index_interval_bytes = 300;
  if (p == kCompacted) c.compaction = Compaction{};
  return c;
}

/// Keys come again, so that there is something to compact; the value is the offset.
Bytes next_batch(std::int64_t at, std::uint32_t epoch) {
  BatchBuilder builder;
  const std::string key = "k" + std::to_string(at % 3);
  const std::string value = std::to_string(at) + std::string(60, '.');
  NewRecord record;
  record.timestamp = 1000 + at;
  record.key = as_bytes(key);
  record.value = as_bytes(value);
  builder.add(record);
  Bytes bytes = builder.build(Offset(at)).value();
  assign_offset_and_epoch(bytes, Offset(at), Epoch(epoch));
  return bytes;
}

using Logs = std::vector<std::shared_ptr<PartitionLog>>;

/// A record to each log that takes one, and one group commit; what failed is opened anew, as far as that goes.
io::Task<void> write_round(ShardLogs& shard, Logs* logs, Known* known, std::uint32_t epoch) {
  io::TaskGroup all;
  const auto sync = [](ShardLogs* to, std::shared_ptr<PartitionLog> log, Known* k) -> io::Task<void> {
    const auto synced = co_await to->sync(std::move(log));
    if (synced) k->acknowledged = std::max(k->acknowledged, synced->value);
  };
  for (std::uint8_t p = 0; p < kLogs; ++p) {
    std::shared_ptr<PartitionLog>& log = (*logs)[p];
    if (log == nullptr || known[p].gone) continue;
    if (log->offline()) {
      auto again = co_await shard.reopen(log->id());
      if (!again) continue;
      log = std::move(*again);
      EXPECT_GE(log->end_offset().value, known[p].acknowledged);
    }
    const std::int64_t at = log->end_offset().value;
    Bytes bytes = next_batch(at, epoch);
    known[p].batches[at] = bytes;
    if (co_await append(*log, std::move(bytes))) all.spawn(sync(&shard, log, &known[p]));
  }
  co_await all.join();
}

/// From a start to a stop.
io::Task<void> live(Known* known, std::uint32_t epoch, std::uint64_t* passes) {
  auto opened = co_await open_shard(life_options());
  if (!opened) co_return;
  ShardLogs& shard = **opened;
  Logs logs(kLogs);
  for (std::uint8_t p = 0; p < kLogs; ++p) {
    if (known[p].gone) continue;
    auto log = co_await shard.open_log(partition(p), config_of(p));
    if (!log) log = co_await shard.open_log(partition(p), config_of(p));
    if (!log) continue;
    logs[p] = std::move(*log);
    EXPECT_GE(logs[p]->end_offset().value, known[p].acknowledged);
  }
  for (int i = 0; i < 5; ++i) co_await write_round(shard, &logs, known, epoch);
  if (logs[0] != nullptr) (void)co_await logs[0]->roll();
  if (logs[kCompacted] != nullptr) (void)co_await logs[kCompacted]->roll();
  co_await write_round(shard, &logs, known, epoch);
  if (logs[kCompacted] != nullptr) {
    CompactionCall call;
    call.limit = Offset(known[kCompacted].acknowledged);
    (void)co_await logs[kCompacted]->compact(call);
  }
  if (logs[kShortened] != nullptr && logs[kShortened]->end_offset().value >= 4) {
    known[kShortened].deleted = known[kShortened].acknowledged - 2;
    (void)co_await logs[kShortened]->delete_records_below(Offset(known[kShortened].deleted));
  }
  if (epoch == 2 && logs[kDeleted] != nullptr) {
    known[kDeleted].gone = true;
    logs[kDeleted].reset();
    (void)co_await shard.delete_log(partition(kDeleted));
  }
  for (int i = 0; i < 2; ++i) co_await write_round(shard, &logs, known, epoch);
  *passes += shard.stats().compaction_passes;
  (void)co_await shard.close();
  co_await shard.abandon();
}

/// The newest record of each key that was acknowledged is there, or a later one.
void check_keys(ByteView bytes, const Known& known) {
  std::map<std::string, std::int64_t> newest;
  while (!bytes.empty()) {
    const BatchHeader header = parse_batch_header(bytes).value();
    RecordReader reader = RecordReader::open(bytes.first(header.total_bytes()), 1u << 20).value();
    while (const auto record = reader.next().value()) {
      newest[std::string(as_text(*record->key))] = std::stoll(std::string(as_text(*record->value)));
    }
    bytes = bytes.subspan(header.total_bytes());
  }
  for (std::int64_t at = known.acknowledged - 3; at < known.acknowledged; ++at) {
    if (at >= 0) EXPECT_GE(newest["k" + std::to_string(at % 3)], at);
  }
}

io::Task<void> check(Known* known) {
  auto opened = co_await open_shard(life_options());
  EXPECT_TRUE(opened.has_value()) << (opened ? "" : opened.error().message);
  if (!opened) co_return;
  ShardLogs& shard = **opened;
  for (std::uint8_t p = 0; p < kLogs; ++p) {
    const Known& k = known[p];
    if (k.gone) continue;
    const auto log = co_await shard.open_log(partition(p), config_of(p));
    EXPECT_TRUE(log.has_value()) << int{p} << (log ? "" : log.error().message);
    if (!log) continue;
    EXPECT_GE((*log)->end_offset().value, k.acknowledged) << int{p};
    EXPECT_LE((*log)->start_offset().value, k.deleted) << int{p};
    const Offset from = (*log)->start_offset();
    const auto bytes = co_await read_all(*log, from);
    EXPECT_TRUE(bytes.has_value()) << int{p} << (bytes ? "" : bytes.error().message);
    if (!bytes) continue;
    if (p == kCompacted) {
      check_keys(*bytes, k);
      continue;
    }
    Bytes expected;
    for (const auto& [at, batch] : k.batches) {
      if (at < from.value || at >= (*log)->end_offset().value) continue;
      expected.insert(expected.end(), batch.begin(), batch.end());
    }
    EXPECT_EQ(*bytes, expected) << int{p};
  }
  co_await shard.abandon();
}

/// The call that fails is the `nth`; false if there are fewer.
bool live_with_fault(DiskFault fault, bool power_loss, std::uint64_t nth) {
  Simulator sim(nth);
  Node& node = sim.add_node(quiet_disk());
  Known known[kLogs];
  std::uint64_t passes = 0;
  std::uint64_t calls = 0;
  // The directory of all is the cluster's to make.
  node.run([]() -> io::Task<void> {
    EXPECT_TRUE((co_await io::Shard::current().disk().make_dirs("/data")).has_value());
  });
  node.disk().set_hook([&](io::sim::DiskOp, const std::string&) {
    return ++calls == nth ? fault : DiskFault::kNone;
  });
  for (const std::uint32_t epoch : {1u, 2u}) {
    node.run([&] { return live(known, epoch, &passes); });
  }
  node.disk().set_hook({});
  if (calls < nth) {
    EXPECT_GT(passes, 0u);
    for (std::uint8_t p = 0; p < kDeleted; ++p) EXPECT_EQ(known[p].acknowledged, 16) << int{p};
  }
  restart(node, power_loss);
  node.run([&] { return check(known); });
  return calls >= nth;
}

TEST(FaultSweep, every_acknowledged_record_outlives_the_failure_of_any_call) {
  for (const DiskFault fault : {DiskFault::kError, DiskFault::kNoSpace}) {
    for (const bool power_loss : {true, false}) {
      std::uint64_t nth = 1;
      for (bool met = true; met; ++nth) {
        SCOPED_TRACE(testing::Message() << "call " << nth << (power_loss ? ", power" : ", kill")
                                        << (fault == DiskFault::kError ? ", EIO" : ", ENOSPC"));
        met = live_with_fault(fault, power_loss, nth);
        if (testing::Test::HasFailure()) return;
      }
      EXPECT_GT(nth, 200u);
    }
  }
}

}  // namespace
}  // namespace pyralog::log
