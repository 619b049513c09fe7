#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"
#include "link.h"
#include "oracle.h"
#include "sim_server.h"
#include "trace.h"

namespace pyralog::simtest {

/// A topic that lives through the whole run.
struct DataTopic {
  std::string name;
  Durability durability = Durability::kFsync;
  std::vector<std::pair<std::string, std::string>> settings;
  std::vector<std::uint32_t> partitions;  ///< the oracle's indices, by partition
};

/// A time in which calls to the disk fail again and again.
struct Storm {
  io::sim::DiskFault fault = io::sim::DiskFault::kNone;  ///< of each call that fails; kNone = calm
  double rate = 0;                                       ///< how many of the calls
  std::optional<io::sim::DiskOp> op;                     ///< which calls; all that can fail so if none
};

/// One run: a node with several lives, and its clients on another node that never fails. The run's
/// driver stands outside of both; it opens and closes the gate that clients pass before each step.
class World {
 public:
  World(std::uint64_t seed, bool print);
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World();

  /// Runs to the end or to the first violation.
  void run();
  [[nodiscard]] const std::vector<std::string>& violations() const { return oracle.violations(); }

  // For the clients.
  /// A client that works counts as busy between `enter` and the guard's end.
  class [[nodiscard]] Busy {
   public:
    explicit Busy(World* world) : world_(world) {
      if (world_ != nullptr) ++world_->busy_;
    }
    Busy(Busy&& other) noexcept : world_(std::exchange(other.world_, nullptr)) {}
    Busy& operator=(Busy&&) = delete;
    ~Busy() {
      if (world_ != nullptr) --world_->busy_;
    }
    explicit operator bool() const { return world_ != nullptr; }

   private:
    World* world_;
  };
  /// Thinks for up to `think`, then waits for the gate; false when the run is over.
  [[nodiscard]] io::Task<Busy> enter(io::Rng& rng, Duration think);
  /// A connection to the server, or false after a while.
  [[nodiscard]] io::Task<bool> connect(Link& link);
  /// Counts the lives of the server, for those who must know whether it was restarted.
  [[nodiscard]] std::uint64_t life() const { return life_number_; }
  [[nodiscard]] const std::vector<DataTopic>& topics() const { return topics_; }
  void count(std::string_view what, std::uint64_t n = 1) { sim.stats().add(what, n); }

  io::sim::Simulator sim;
  Trace trace;
  Oracle oracle;

 private:
  void plan_topics();
  void plan_compacted_topic();
  void plan_forgetting_topic();
  void plan_server();
  /// Starts the server, through as many crashes in recovery and starts on a failing disk as the seed
  /// wants; false if it refuses on a sound one.
  bool start_server();
  /// A start whose disk fails, up to the end of that life: it may refuse, and leave partitions out.
  [[nodiscard]] bool weather_a_start();
  void begin_life();
  [[nodiscard]] io::Task<void> inspect(SimServer& server);
  bool create_topics();
  void start_clients();
  /// Reads everything and compares.
  void audit();
  [[nodiscard]] io::Task<bool> audit_all();
  [[nodiscard]] io::Task<bool> audit_partition(Link& link, std::uint32_t p, std::int32_t epoch);
  void work();
  void end_life();
  [[nodiscard]] bool stop_server();
  void take_down(bool power);
  void quiesce();
  void open_gate(bool open);

  // faults.cc
  /// Every call to the disk passes here.
  [[nodiscard]] io::sim::DiskFault on_disk(io::sim::DiskOp op, const std::string& path);
  void plan_faults(Duration span);
  void plan_network_fault(Duration at, Duration span);
  void plan_disk_fault(Duration at, Duration span);
  void plan_storm(Duration at, Duration span);
  [[nodiscard]] Storm some_storm();
  [[nodiscard]] io::sim::DiskFault in_storm(io::sim::DiskOp op, const std::string& path);
  /// Runs `job` after `delay`, unless the faults have ended by then.
  void later(Duration delay, io::Shard::Job job);
  void end_faults();
  /// The process or the machine ends at the n-th call from now.
  void crash_at_call(std::uint64_t calls, bool power);

  std::uint64_t seed_;
  io::sim::Node* server_ = nullptr;
  io::sim::Node* clients_ = nullptr;
  io::SeededRng rng_;
  SimServer::Options options_;
  unsigned lives_ = 0;
  std::vector<DataTopic> topics_;
  std::shared_ptr<Life> life_;
  std::uint64_t life_number_ = 0;
  bool open_ = false;
  bool over_ = false;
  Strength survives_ = Strength::kProcess;         ///< what the ends since the last audit may cost
  std::map<std::string, std::int64_t> inspected_;  ///< high watermarks of this life
  bool first_look_ = false;

  // Faults under way.
  struct Shot {
    io::sim::DiskOp op;
    std::string path_part;
    const char* what;
  };
  std::uint64_t fault_round_ = 0;
  std::vector<Shot> shots_;  ///< calls that fail once
  bool disk_full_ = false;
  Storm storm_;
  bool weathering_ = false;         ///< the disk has failed since this start began
  std::set<std::string> went_off_;  ///< partitions that were offline since the last sound start
  bool disk_failed_ = false;    ///< some call has failed in this life
  bool sync_failed_ = false;    ///< a sync has: what was only written may be gone
  std::uint64_t crash_in_ = 0;  ///< calls until the crash; 0 = none
  bool crash_is_power_ = false;
  std::size_t busy_ = 0;
  io::WaitList gate_;
};

// The clients; each is a root coroutine of the clients' node.
struct ProducerPlan {
  unsigned number = 0;
  std::string topic;
  std::int32_t index = 0;
  std::uint32_t partition = 0;
  Acks acks = Acks::kAll;
  bool idempotent = false;
  std::size_t window = 1;
  Duration think{};
};
[[nodiscard]] io::Task<void> run_producer(World& world, ProducerPlan plan, std::uint64_t seed);
[[nodiscard]] io::Task<void> run_consumer(World& world, const DataTopic& topic, std::uint64_t seed);
[[nodiscard]] io::Task<void> run_searcher(World& world, std::uint64_t seed);
[[nodiscard]] io::Task<void> run_committer(World& world, unsigned number, bool member,
                                           std::uint64_t seed);
/// Deletes records of the topics that forget from the front.
[[nodiscard]] io::Task<void> run_forgetter(World& world, std::uint64_t seed);
[[nodiscard]] io::Task<void> run_admin(World& world, unsigned number, std::uint64_t seed);

}  // namespace pyralog::simtest
