#include "journal/journal.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>


#include "base/crc32c.h"
#include "io/sim/simulator.h"
#include "journal/format.h"

namespace pyralog::journal {
namespace {

using io::sim::DiskFault;
using io::sim::DiskOp;
using io::sim::Node;
using io::sim::Simulator;

constexpr const char* kPath = "/data/meta.journal";

Options options() {
  Options o;
  o.kind = 7;
  o.owner.bytes[0] = 9;
  return o;
}

using Frames = std::vector<std::string>;

io::Task<Result<std::unique_ptr<Journal>>> open_at(Frames* frames, std::string path = kPath,
                                                   Options o = options()) {
  io::Disk& disk = io::Shard::current().disk();
  if (frames != nullptr) frames->clear();
  PYRALOG_CO_TRY(co_await disk.make_dirs("/data"));
  co_return co_await Journal::open(disk, path, o, [frames](ByteView payload) -> Result<void> {
    if (frames != nullptr) frames->emplace_back(as_text(payload));
    return {};
  });
}

/// A disk whose calls succeed and whose unsynced pages stay in memory until the power goes.
io::sim::NodeOptions quiet() {
  io::sim::NodeOptions o;
  o.disk.writeback = 0;
  o.disk.cold_read = 0;
  return o;
}

std::string frame_text(int i) { return "frame " + std::to_string(i) + std::string(20, 'x'); }

TEST(Journal, gives_back_frames_after_a_reopen) {
  Simulator sim(1);
  Node& node = sim.add_node();
  Frames frames;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    for (int i = 0; i < 10; ++i) (void)journal->append(as_bytes(frame_text(i))).value();
    (co_await journal->commit(journal->end())).value();
    EXPECT_EQ(journal->durable(), journal->end());
  });
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(&frames)).value();
    EXPECT_EQ(journal->torn_bytes(), 0u);
  });
  ASSERT_EQ(frames.size(), 10u);
  EXPECT_EQ(frames[9], frame_text(9));
}

TEST(Journal, has_these_bytes_on_disk) {
  const Bytes header = encode(FileHeader{7, options().owner, 0x1122334455667788});
  ASSERT_EQ(header.size(), kFileHeaderBytes);
  EXPECT_EQ(as_text(ByteView(header).first(8)), "PYRAJRNL");
  const std::uint8_t fields[] = {1, 0, 0, 0, 7, 0, 0, 0, 9};
  EXPECT_TRUE(std::equal(std::begin(fields), std::end(fields), header.begin() + 8));
  const std::uint8_t salt[] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
  EXPECT_TRUE(std::equal(std::begin(salt), std::end(salt), header.begin() + 32));
  EXPECT_EQ(load_le<std::uint32_t>(&header[60]), 0xb5c922fdu);
  Bytes frame;
  encode_frame_header(frame, as_bytes("abc"), 64, 64, 0x01020304);
  ASSERT_EQ(frame.size(), kFrameHeaderBytes);
  EXPECT_EQ(load_le<std::uint32_t>(&frame[0]), 3u);
  EXPECT_EQ(load_le<std::uint32_t>(&frame[4]), 0x7d4943c2u);
  EXPECT_EQ(load_le<std::uint64_t>(&frame[8]), 64u);
  EXPECT_EQ(load_le<std::uint32_t>(&frame[16]), 0x35c0475cu);
}

TEST(Journal, many_callers_share_a_sync) {
  Simulator sim(2);
  Node& node = sim.add_node();
  int syncs = 0;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    node.disk().set_hook([&](DiskOp op, const std::string&) {
      if (op == DiskOp::kSync) ++syncs;
      return DiskFault::kNone;
    });
    io::TaskGroup group;
    for (int i = 0; i < 100; ++i) {
      group.spawn([](Journal& j) -> io::Task<void> {
        const Position p = j.append(as_bytes("x")).value();
        (co_await j.commit(p)).value();
        EXPECT_GE(j.durable(), p);
      }(*journal));
    }
    co_await group.join();
  });
  EXPECT_LE(syncs, 2);
  EXPECT_GE(syncs, 1);
}

TEST(Journal, stays_as_it_is_if_the_rewrite_is_given_up) {
  Simulator sim(3);
  Node& node = sim.add_node();
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    (void)journal->append(as_bytes(frame_text(0))).value();
    const auto given_up = co_await journal->rewrite([] { return std::nullopt; });
    EXPECT_FALSE(given_up);
    if (!given_up) EXPECT_EQ(given_up.error().code, Code::kCancelled);
    EXPECT_FALSE(journal->dead());
    (void)journal->append(as_bytes(frame_text(1))).value();
    (co_await journal->commit(journal->end())).value();
  });
  Frames frames;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(&frames)).value();
    EXPECT_TRUE(co_await journal->rewrite([] {
      const std::string text = frame_text(2);
      return std::vector<Bytes>{Bytes(text.begin(), text.end())};
    })) << "a later one is not in its way";
  });
  EXPECT_EQ(frames, (Frames{frame_text(0), frame_text(1)}));
}

TEST(Journal, counts_nothing_durable_that_was_appended_while_the_sync_ran) {
  Simulator sim(4);
  io::sim::NodeOptions slow = quiet();
  slow.disk.latency_min = slow.disk.latency_max = std::chrono::milliseconds(5);
  Node& node = sim.add_node(slow);
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    const Position early = journal->append(as_bytes("early")).value();
    io::TaskGroup group;
    group.spawn([](Journal& j, Position p) -> io::Task<void> {
      (co_await j.commit(p)).value();
    }(*journal, early));
    co_await io::sleep_for(std::chrono::milliseconds(2));
    const Position late = journal->append(as_bytes("late")).value();
    co_await group.join();
    EXPECT_GE(journal->durable(), early);
    EXPECT_LT(journal->durable(), late);
  });
}

/// Appends and commits frame after frame until the node goes down; what was acknowledged counts.
io::Task<void> write_until_crash(int* acknowledged, int limit) {
  auto opened = co_await open_at(nullptr);
  if (!opened) co_return;
  Journal& journal = **opened;
  for (int i = 0; i < limit; ++i) {
    auto at = journal.append(as_bytes(frame_text(i)));
    if (!at) co_return;
    // Every third frame also has a follower that nobody waits for.
    if (i % 5 == 4) {
      auto rewritten = co_await journal.rewrite([&] {
        std::vector<Bytes> all;
        for (int k = 0; k <= i; ++k) {
          const std::string text = frame_text(k);
          all.emplace_back(text.begin(), text.end());
        }
        return all;
      });
      if (!rewritten) co_return;
    } else if (!co_await journal.commit(*at)) {
      co_return;
    }
    *acknowledged = i + 1;
  }
}

void expect_prefix(const Frames& frames, int acknowledged, std::uint64_t seed) {
  ASSERT_GE(static_cast<int>(frames.size()), acknowledged) << "seed " << seed;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    ASSERT_EQ(frames[i], frame_text(static_cast<int>(i))) << "seed " << seed;
  }
}

TEST(Journal, keeps_what_it_acknowledged_through_a_power_loss_at_every_call) {
  for (std::uint64_t at = 1; at < 120; ++at) {
    Simulator sim(at * 7919);
    Node& node = sim.add_node();
    std::uint64_t calls = 0;
    node.disk().set_hook([&](DiskOp, const std::string&) {
      return ++calls == at ? (at % 3 == 0 ? DiskFault::kKill : DiskFault::kPowerLoss)
                           : DiskFault::kNone;
    });
    int acknowledged = 0;
    const auto done = node.try_run([&] { return write_until_crash(&acknowledged, 20); });
    node.disk().set_hook({});
    if (done) {
      node.lose_power();
    }
    node.restart();
    Frames frames;
    node.run([&]() -> io::Task<void> {
      auto journal = co_await open_at(&frames);
      EXPECT_TRUE(journal.has_value()) << journal.error().message << " call " << at;
    });
    expect_prefix(frames, acknowledged, at);
  }
}

TEST(Journal, makes_durable_the_name_that_a_killed_process_left) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Simulator sim(seed);
    Node& node = sim.add_node(quiet());
    // Half of the runs: killed at the creation, the others: at a rewrite.
    const bool rewriting = seed % 2 == 0;
    node.run([&]() -> io::Task<void> {
      (co_await io::Shard::current().disk().make_dirs("/data")).value();
      if (!rewriting) co_return;
      auto journal = (co_await open_at(nullptr)).value();
      (co_await journal->commit(journal->append(as_bytes(frame_text(0))).value())).value();
    });
    (void)node.try_run([&]() -> io::Task<void> {
      node.disk().set_hook([&](DiskOp op, const std::string& path) {
        return op == DiskOp::kSyncDir && path == "/data" && node.disk().peek(kPath) &&
                       !node.disk().peek(std::string(kPath) + ".new")
                   ? DiskFault::kKill
                   : DiskFault::kNone;
      });
      if (!rewriting) {
        (void)co_await open_at(nullptr);
        co_return;
      }
      node.disk().set_hook({});
      auto journal = (co_await open_at(nullptr)).value();
      node.disk().set_hook([](DiskOp op, const std::string&) {
        return op == DiskOp::kSyncDir ? DiskFault::kKill : DiskFault::kNone;
      });
      (void)co_await journal->rewrite([] {
        const std::string text = frame_text(0);
        return std::vector<Bytes>{Bytes(text.begin(), text.end())};
      });
    });
    EXPECT_FALSE(node.up());
    node.disk().set_hook({});
    node.restart();
    node.run([&]() -> io::Task<void> {
      auto journal = (co_await open_at(nullptr)).value();
      (co_await journal->commit(journal->append(as_bytes(frame_text(1))).value())).value();
    });
    node.lose_power();
    node.restart();
    Frames frames;
    node.run([&]() -> io::Task<void> { (void)(co_await open_at(&frames)).value(); });
    ASSERT_FALSE(frames.empty());
    EXPECT_EQ(frames.back(), frame_text(1));
  }
}

TEST(Journal, is_dead_after_a_failed_sync_until_it_is_opened_anew) {
  Simulator sim(4);
  Node& node = sim.add_node(quiet());
  Frames frames;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    const Position first = journal->append(as_bytes("one")).value();
    (co_await journal->commit(first)).value();
    const Position second = journal->append(as_bytes("two")).value();
    int failures = 1;
    node.disk().set_hook([&](DiskOp op, const std::string&) {
      return op == DiskOp::kSync && failures-- > 0 ? DiskFault::kError : DiskFault::kNone;
    });
    auto failed = co_await journal->commit(second);
    EXPECT_EQ(failed.error().code, Code::kIo);
    EXPECT_NE(failed.error().message.find(kPath), std::string::npos);
    EXPECT_TRUE(journal->dead());
    auto again = co_await journal->commit(second);
    EXPECT_FALSE(again.has_value());
    EXPECT_FALSE(journal->append(as_bytes("three")).has_value());
    node.disk().set_hook({});
    journal.reset();
    (void)(co_await open_at(&frames)).value();
  });
  // The pages of the failed sync count as clean but are not on the device: they must not come back.
  EXPECT_EQ(frames, Frames{"one"});
}

TEST(Journal, goes_on_after_the_disk_was_full) {
  Simulator sim(5);
  Node& node = sim.add_node(quiet());
  Frames frames;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    bool full = true;
    node.disk().set_hook([&](DiskOp op, const std::string&) {
      return op == DiskOp::kWrite && full ? DiskFault::kNoSpace : DiskFault::kNone;
    });
    EXPECT_EQ(journal->append(as_bytes("lost")).error().code, Code::kExhausted);
    full = false;
    const Position at = journal->append(as_bytes("kept")).value();
    (co_await journal->commit(at)).value();
    node.disk().set_hook({});
    (void)(co_await open_at(&frames)).value();
  });
  EXPECT_EQ(frames, Frames{"kept"});
}

TEST(Journal, refuses_damage_below_what_was_durable_and_cuts_a_torn_tail) {
  Simulator sim(6);
  Node& node = sim.add_node(quiet());
  std::uint64_t durable_end = 0;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    for (int i = 0; i < 3; ++i) {
      (co_await journal->commit(journal->append(as_bytes(frame_text(i))).value())).value();
    }
    durable_end = journal->size_bytes();
    // These three are written but not known to be durable by any frame.
    for (int i = 3; i < 6; ++i) (void)journal->append(as_bytes(frame_text(i))).value();
  });
  const Bytes whole = node.disk().peek(kPath).value();
  for (std::uint64_t at = 0; at < whole.size(); ++at) {
    node.run([&]() -> io::Task<void> {
      io::Disk& disk = io::Shard::current().disk();
      Bytes bytes = whole;
      bytes[at] ^= 0x20;
      (co_await io::replace_file(disk, kPath, bytes)).value();
      Frames frames;
      auto opened = co_await open_at(&frames);
      if (at < durable_end) {
        EXPECT_FALSE(opened.has_value()) << at;
        if (!opened) {
          EXPECT_TRUE(opened.error().code == Code::kCorrupt) << at;
          EXPECT_NE(opened.error().message.find(kPath), std::string::npos);
        }
      } else {
        EXPECT_TRUE(opened.has_value()) << at << ": " << opened.error().message;
        EXPECT_GE(frames.size(), 3u);
        EXPECT_LT(frames.size(), 6u);
        if (opened) {
          EXPECT_GT((*opened)->torn_bytes(), 0u);
          // What is appended now must not be followed by what was torn.
          (co_await (*opened)->commit((*opened)->append(as_bytes("new")).value())).value();
          (void)(co_await open_at(&frames)).value();
          EXPECT_EQ(frames.back(), "new");
        }
      }
    });
  }
}

TEST(Journal, refuses_a_newer_version_and_another_owner) {
  Simulator sim(7);
  Node& node = sim.add_node(quiet());
  node.run([&]() -> io::Task<void> {
    io::Disk& disk = io::Shard::current().disk();
    (void)(co_await open_at(nullptr)).value();
    Options other = options();
    other.owner.bytes[0] = 1;
    EXPECT_EQ((co_await open_at(nullptr, kPath, other)).error().code, Code::kInvalidArgument);
    Bytes bytes = node.disk().peek(kPath).value();
    bytes[8] = 2;
    store_le(&bytes[60], crc32c(ByteView(bytes).first(60)));
    (co_await io::replace_file(disk, kPath, bytes)).value();
    const Error error = (co_await open_at(nullptr)).error();
    EXPECT_EQ(error.code, Code::kUnsupported);
    EXPECT_NE(error.message.find(kPath), std::string::npos);
    EXPECT_NE(error.message.find("version 2"), std::string::npos);
  });
}

TEST(Journal, frames_appended_during_a_rewrite_are_kept) {
  Simulator sim(8);
  Node& node = sim.add_node(quiet());
  Frames frames;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    for (int i = 0; i < 50; ++i) (void)journal->append(as_bytes("old")).value();
    io::TaskGroup group;
    group.spawn([](Journal& j) -> io::Task<void> {
      (co_await j.rewrite([] {
        return std::vector<Bytes>{Bytes{'a'}};
      })).value();
    }(*journal));
    group.spawn([](Journal& j) -> io::Task<void> {
      co_await io::sleep_for(std::chrono::microseconds(900));
      (co_await j.commit(j.append(as_bytes("b")).value())).value();
    }(*journal));
    co_await group.join();
    EXPECT_LT(journal->size_bytes(), 200u);
    (co_await journal->commit(journal->append(as_bytes("c")).value())).value();
  });
  node.lose_power();
  node.restart();
  node.run([&]() -> io::Task<void> { (void)(co_await open_at(&frames)).value(); });
  EXPECT_TRUE(frames == (Frames{"a", "b", "c"}) || frames == (Frames{"a", "c"}));
  EXPECT_EQ(frames.back(), "c");
}

TEST(Journal, acknowledges_nothing_that_the_file_under_the_new_name_lacks) {
  Simulator sim(10);
  Node& node = sim.add_node(quiet());
  Frames frames;
  bool acknowledged = false;
  node.run([&]() -> io::Task<void> {
    auto journal = (co_await open_at(nullptr)).value();
    (void)journal->append(as_bytes("old")).value();
    bool renamed = false;
    int writes = 0;
    node.disk().set_hook([&](DiskOp op, const std::string&) {
      if (op == DiskOp::kSyncDir) {
        renamed = true;
        // The directory takes long, so that a commit fits in between.
        node.disk().options().latency_min = node.disk().options().latency_max = 50ms;
      }
      // The frame fits into the old file and not into the new one.
      return op == DiskOp::kWrite && renamed && ++writes == 2 ? DiskFault::kNoSpace
                                                              : DiskFault::kNone;
    });
    io::TaskGroup group;
    group.spawn([](Journal& j) -> io::Task<void> {
      EXPECT_FALSE(co_await j.rewrite([] { return std::vector<Bytes>{Bytes{'a'}}; }));
    }(*journal));
    while (!renamed) co_await io::sleep_for(10us);
    node.disk().options().latency_min = node.disk().options().latency_max = 10us;
    if (const auto at = journal->append(as_bytes("late"))) {
      acknowledged = (co_await journal->commit(*at)).has_value();
    }
    co_await group.join();
    EXPECT_TRUE(journal->dead());
    node.disk().set_hook({});
  });
  node.kill();
  node.restart();
  node.run([&]() -> io::Task<void> { (void)(co_await open_at(&frames)).value(); });
  EXPECT_FALSE(acknowledged && frames.back() != "late") << "acknowledged and lost";
}

TEST(Journal, bounds_its_frames) {
  Simulator sim(9);
  Node& node = sim.add_node(quiet());
  node.run([&]() -> io::Task<void> {
    Options o = options();
    o.max_frame_bytes = 10;
    auto journal = (co_await open_at(nullptr, kPath, o)).value();
    EXPECT_EQ(journal->append(Bytes(11)).error().code, Code::kTooLarge);
    EXPECT_TRUE(journal->append(Bytes(10)).has_value());
  });
}

TEST(JournalFormat, reads_what_it_writes_and_nothing_else) {
  rc::check([](const std::vector<std::vector<std::uint8_t>>& payloads, std::uint32_t seed) {
    Bytes file(kFileHeaderBytes, 0);
    std::vector<std::uint64_t> starts;
    for (const Bytes& payload : payloads) {
      Bytes header;
      starts.push_back(file.size());
      encode_frame_header(header, payload, file.size(), file.size(), seed);
      file.insert(file.end(), header.begin(), header.end());
      file.insert(file.end(), payload.begin(), payload.end());
    }
    for (std::size_t i = 0; i < starts.size(); ++i) {
      const auto frame = read_frame(file, starts[i], seed, 1u << 20);
      RC_ASSERT(frame.has_value());
      RC_ASSERT(Bytes(frame->payload.begin(), frame->payload.end()) == payloads[i]);
      RC_ASSERT(!read_frame(file, starts[i] + 1, seed, 1u << 20).has_value());
      RC_ASSERT(!read_frame(file, starts[i], seed + 1, 1u << 20).has_value());
    }
  });
}

}  // namespace
}  // namespace pyralog::journal
