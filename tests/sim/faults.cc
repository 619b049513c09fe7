// What goes wrong, and when: all of it follows from the seed.
#include <algorithm>

#include "world.h"

namespace pyralog::simtest {

using io::sim::DiskFault;
using io::sim::DiskOp;
using namespace std::chrono_literals;

DiskFault World::on_disk(DiskOp op, const std::string& path) {
  if (crash_in_ > 0 && --crash_in_ == 0) {
    trace.add("FAULT {} at a call on {}", crash_is_power_ ? "power loss" : "kill", path);
    count(crash_is_power_ ? "fault.power_loss_at_a_call" : "fault.kill_at_a_call");
    return crash_is_power_ ? DiskFault::kPowerLoss : DiskFault::kKill;
  }
  if (disk_full_ && op == DiskOp::kWrite && rng_.chance(0.7)) {
    disk_failed_ = true;
    count("fault.disk_full");
    if (path.find(".cleaned") != std::string::npos) count("fault.disk_full_in_compaction");
    return DiskFault::kNoSpace;
  }
  for (auto shot = shots_.begin(); shot != shots_.end(); ++shot) {
    if (shot->op != op || path.find(shot->path_part) == std::string::npos) continue;
    trace.add("FAULT {} on {}", shot->what, path);
    count(shot->what);
    disk_failed_ = true;
    if (op == DiskOp::kSync) sync_failed_ = true;
    shots_.erase(shot);
    return DiskFault::kError;
  }
  return in_storm(op, path);
}

namespace {
/// Whether a call can fail so.
bool fits(DiskFault fault, DiskOp op) {
  switch (fault) {
    case DiskFault::kNoSpace:
    case DiskFault::kNoQuota:
      return op == DiskOp::kWrite || op == DiskOp::kSync || op == DiskOp::kOpen ||
             op == DiskOp::kRename || op == DiskOp::kMakeDirs || op == DiskOp::kLock;
    case DiskFault::kNoDescriptors:
      return op == DiskOp::kOpen || op == DiskOp::kList || op == DiskOp::kSyncDir ||
             op == DiskOp::kMakeDirs || op == DiskOp::kLock;
    default:
      return true;
  }
}
}  // namespace

DiskFault World::in_storm(DiskOp op, const std::string& path) {
  const DiskFault fault = storm_.fault;
  if (fault == DiskFault::kNone || (storm_.op && *storm_.op != op) || !fits(fault, op)) {
    return DiskFault::kNone;
  }
  if (!rng_.chance(storm_.rate)) return DiskFault::kNone;
  // What is there already needs no room.
  const bool room = fault == DiskFault::kNoSpace || fault == DiskFault::kNoQuota;
  if (room && op == DiskOp::kOpen && server_->disk().has(path)) return DiskFault::kNone;
  trace.add("FAULT in a storm, call {} on {}", static_cast<int>(op), path);
  disk_failed_ = true;
  if (op == DiskOp::kSync) sync_failed_ = true;
  if (op == DiskOp::kSend) count("fault.send_failed");
  if (room && op == DiskOp::kSync) count("fault.no_room_at_a_sync");
  return fault;
}

Storm World::some_storm() {
  const DiskFault faults[] = {DiskFault::kError,   DiskFault::kError,   DiskFault::kError,
                              DiskFault::kNoSpace, DiskFault::kNoQuota, DiskFault::kNoDescriptors};
  const double rates[] = {0.02, 0.1, 0.5, 1.0};
  Storm storm;
  storm.fault = faults[rng_.below(std::size(faults))];
  storm.rate = rates[rng_.below(std::size(rates))];
  if (rng_.chance(0.6)) {
    do {
      storm.op = static_cast<DiskOp>(rng_.below(static_cast<std::uint64_t>(DiskOp::kSend) + 1));
    } while (!fits(storm.fault, *storm.op));
  }
  return storm;
}

/// Comes and goes a few times.
void World::plan_storm(Duration at, Duration span) {
  const Storm storm = some_storm();
  for (std::uint64_t turns = 1 + rng_.below(3); turns > 0; --turns) {
    later(at, [this, storm] {
      trace.add("FAULT storm {} on {} at {}", static_cast<int>(storm.fault),
                storm.op ? static_cast<int>(*storm.op) : -1, storm.rate);
      count("fault.storm");
      storm_ = storm;
    });
    at += span / 8;
    later(at, [this] { storm_ = {}; });
    at += span / 8;
  }
}

void World::crash_at_call(std::uint64_t calls, bool power) {
  crash_in_ = calls;
  crash_is_power_ = power;
}

void World::later(Duration delay, io::Shard::Job job) {
  sim.schedule(delay, [this, round = fault_round_, job = std::move(job)]() mutable {
    if (round == fault_round_) job();
  });
}

void World::plan_network_fault(Duration at, Duration span) {
  const auto ms = [this](std::uint64_t bound) {
    return std::chrono::milliseconds(1 + rng_.below(bound));
  };
  switch (rng_.below(4)) {
    case 0:
      later(at, [this] {
        trace.add("FAULT connections reset");
        count("fault.connections_reset");
        sim.net().reset_all(*server_);
      });
      break;
    case 1:
      later(at, [this] {
        trace.add("FAULT isolated");
        count("fault.isolated");
        sim.net().isolate(*server_);
      });
      later(at + ms(400), [this] { sim.net().heal_all(); });
      break;
    case 2:
      later(at, [this] {
        count("fault.resetting_network");
        sim.net().options().reset = 0.02;
        sim.net().options().refuse = 0.2;
      });
      later(at + span / 2, [this] {
        sim.net().options().reset = 0;
        sim.net().options().refuse = 0;
      });
      break;
    default: {
      // Answers come late, so that clients give up and send again.
      const Duration extra = ms(200);
      later(at, [this, extra] {
        trace.add("FAULT slow answers");
        count("fault.slow_network");
        sim.net().slow(*server_, *clients_, extra);
      });
      later(at + span / 3, [this] { sim.net().slow(*server_, *clients_, 0ms); });
    }
  }
}

void World::plan_disk_fault(Duration at, Duration span) {
  const auto fail_once = [&](DiskOp op, const char* part, const char* what) {
    later(at, [this, op, part, what] { shots_.push_back({op, part, what}); });
  };
  switch (rng_.below(9)) {
    case 0:
      return fail_once(DiskOp::kSync, ".log", "fault.log_sync_failed");
    case 1:
      return fail_once(DiskOp::kSync, "metadata.log", "fault.metadata_sync_failed");
    case 2:
      return fail_once(DiskOp::kSync, ".synced", "fault.synced_journal_sync_failed");
    case 3:
      return fail_once(DiskOp::kWrite, ".log", "fault.log_write_failed");
    case 4:
      return fail_once(DiskOp::kOpen, ".log", "fault.open_failed");
    case 5:
      return fail_once(DiskOp::kSyncDir, "", "fault.sync_dir_failed");
    case 6:
      later(at, [this] {
        trace.add("FAULT disk full");
        disk_full_ = true;
      });
      later(at + span / 3, [this] { disk_full_ = false; });
      return;
    case 7: {
      // Sometimes so slow that the server itself gives up waiting.
      const auto by = std::chrono::milliseconds(1 + rng_.below(rng_.chance(0.4) ? 600 : 120));
      later(at, [this, by] {
        trace.add("FAULT slow disk");
        count("fault.slow_disk");
        server_->disk().options().slow = 0.2;
        server_->disk().options().slow_by = by;
      });
      later(at + span / 2, [this] { server_->disk().options().slow = 0; });
      return;
    }
    default:
      later(at, [this] {
        trace.add("FAULT read errors");
        disk_failed_ = true;
        server_->disk().options().read_error = 0.1;
      });
      later(at + span / 3, [this] { server_->disk().options().read_error = 0; });
  }
}

void World::plan_faults(Duration span) {
  const auto some_time = [&] {
    return Duration(
        static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(span.count()))));
  };
  for (std::uint64_t n = rng_.below(3); n > 0; --n) plan_network_fault(some_time(), span);
  if (rng_.chance(0.4)) plan_disk_fault(some_time(), span);
  if (rng_.chance(0.3)) plan_storm(some_time(), span);
  if (rng_.chance(0.3)) {
    auto offset = std::chrono::milliseconds(rng_.below(600'000)) - 300s;
    if (rng_.chance(0.3)) {
      count("fault.clock_jump_of_a_day");
      offset += rng_.chance(0.5) ? 24h : -24h;
    }
    later(some_time(), [this, offset] {
      trace.add("FAULT the clock jumps to {} s", offset.count() / 1000);
      count("fault.clock_jump");
      if (offset > server_->wall_offset()) oracle.clock_went_ahead();
      server_->set_wall_offset(offset);
    });
  }
  if (rng_.chance(0.4)) crash_at_call(1 + rng_.below(600), rng_.chance(0.6));
}

void World::end_faults() {
  ++fault_round_;
  sim.net().heal_all();
  sim.net().options().reset = 0;
  sim.net().options().refuse = 0;
  sim.net().slow(*server_, *clients_, 0ms);
  server_->disk().options().slow = 0;
  server_->disk().options().read_error = 0;
  shots_.clear();
  disk_full_ = false;
  storm_ = {};
  crash_in_ = 0;
}

}  // namespace pyralog::simtest
