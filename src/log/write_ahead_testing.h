#pragma once
// What the tests of the write-ahead files share: a shard with some logs, and rounds of group commit.

#include "log/log_testing.h"

namespace pyralog::log::test {

inline constexpr std::uint8_t kLogs = 6;

inline Options ahead(std::uint64_t bytes = 1u << 20) {
  Options o = options();
  o.write_ahead_bytes = bytes;
  o.write_ahead_min_files = 2;
  return o;
}

inline LogConfig config(std::uint64_t segment_bytes = 1u << 20) {
  LogConfig c;
  c.segment_bytes = segment_bytes;
  return c;
}

struct Life {
  std::unique_ptr<ShardLogs> shard;
  std::vector<std::shared_ptr<PartitionLog>> logs;
};

inline io::Task<Result<Life>> begin(Options o = ahead(), LogConfig c = config(), std::uint8_t count = kLogs) {
  Life life;
  PYRALOG_CO_ASSIGN(life.shard, co_await open_shard(std::move(o)));
  for (std::uint8_t p = 0; p < count; ++p) {
    auto log = co_await life.shard->open_log(partition(p), c);
    if (!log) {
      co_await life.shard->abandon();
      co_return fail(log.error());
    }
    life.logs.push_back(std::move(*log));
  }
  co_return life;
}

/// One batch to each log, then one group commit of all; false if any failed.
inline io::Task<bool> round(Life& life, std::uint32_t epoch, std::size_t value_bytes = 50) {
  bool fine = true;
  for (const auto& log : life.logs) {
    const std::int64_t at = log->end_offset().value;
    const auto done = co_await append(*log, batch(at, epoch, 2, 1000 + at, value_bytes));
    fine = fine && done.has_value();
  }
  std::vector<Result<Offset>> synced(life.logs.size(), fail(Code::kIo, "not run"));
  io::TaskGroup all;
  for (std::size_t i = 0; i < life.logs.size(); ++i) {
    all.spawn([](ShardLogs* shard, std::shared_ptr<PartitionLog> log,
                 Result<Offset>* out) -> io::Task<void> {
      *out = co_await shard->sync(std::move(log));
    }(life.shard.get(), life.logs[i], &synced[i]));
  }
  co_await all.join();
  for (const auto& each : synced) fine = fine && each.has_value();
  co_return fine;
}

/// A life that has some rounds behind it.
inline io::Task<Result<Life>> live_on(Options o, int rounds = 3) {
  auto life = co_await begin(std::move(o));
  for (int i = 0; life && i < rounds; ++i) EXPECT_TRUE(co_await round(*life, 1));
  co_return life;
}

/// Goes on with rounds, `pause` before each, until a sync of the first log's own file, which fails, has taken
/// it offline; returns what of it was acknowledged.
inline std::int64_t rounds_until_a_sync_fails(io::sim::Node& node, Duration pause) {
  const std::string dir = "/data/" + to_string(partition(0)) + "/";
  std::int64_t acknowledged = 0;
  node.run([&]() -> io::Task<void> {
    auto life = co_await live_on(ahead(128 << 10));
    node.disk().set_hook([&](io::sim::DiskOp op, const std::string& path) {
      const bool bad = op == io::sim::DiskOp::kSync && path.starts_with(dir) && path.ends_with(".log");
      return bad ? io::sim::DiskFault::kError : io::sim::DiskFault::kNone;
    });
    // The first sync of the file comes when the write-ahead files take turns, beside the next round.
    for (int i = 0; i < 100 && !life->logs[0]->offline(); ++i) {
      if (pause > Duration(0)) co_await io::sleep_for(pause);
      (void)co_await round(*life, 1);
      acknowledged = life->logs[0]->synced_end().value;
    }
    EXPECT_TRUE(life->logs[0]->offline());
    EXPECT_GT(acknowledged, 0);
    co_await life->shard->abandon();
  });
  node.disk().set_hook({});
  return acknowledged;
}

}  // namespace pyralog::log::test
