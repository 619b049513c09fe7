#pragma once

#include <sched.h>

#include <array>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "io/posix/follow_readers.h"
#include "io/posix/mailbox.h"
#include "io/posix/posix_disk.h"
#include "io/posix/posix_net.h"
#include "io/posix/send_pipe.h"
#include "io/posix/thread_pools.h"
#include "io/posix/timers.h"
#include "io/rng.h"
#include "io/shard.h"

namespace pyralog::io::posix {

/// One thread with one event loop. It sleeps in epoll and is woken through an eventfd, which a
/// sender writes only if the shard has said that it sleeps.
class PosixShard final : public Shard {
 public:
  /// `group` names the runtime, `count` its number of shards.
  PosixShard(const void* group, unsigned index, unsigned count, ThreadPools& pools,
             std::uint64_t seed);
  ~PosixShard() override;

  unsigned index() const override { return index_; }
  void post(Job job) override;
  TimerId call_at(Instant at, Job job) override;
  void cancel_timer(TimerId id) override;
  Instant now() const override;
  WallMs wall() const override;
  Disk& disk() override { return disk_; }
  Net& net() override { return net_; }
  Rng& rng() override { return rng_; }
  Pools& pools() override { return pools_; }

  [[nodiscard]] boost::asio::io_context& context() { return context_; }
  /// This shard's thread only.
  [[nodiscard]] SendPipe& send_pipe() { return send_pipe_; }
  /// So many bytes of a file were sent to a reader on this machine whose packets `processor` handles; a
  /// shard that does little else follows its readers there. This shard's thread only.
  void sent_file(int processor, std::uint64_t bytes);
  /// False if the system gives no event descriptor.
  [[nodiscard]] bool open_wake();
  /// Bound to `processor`, or, with −1, where the system puts it or, if it `follows`, its readers are.
  void start(int processor, bool follows);
  /// Asks the loop to end; any thread.
  void request_stop();
  void join();
  /// Destroys what is left; after all shards and pools have been joined.
  void tear_down();

 private:
  static constexpr std::size_t kBatch = 64;

  void run();
  bool run_jobs();
  bool run_mailbox(Mailbox& mailbox);
  bool run_local();
  bool run_timers();
  void sleep();
  [[nodiscard]] bool mail_waiting() const;
  void wake();
  void watch_wake();
  void begin_period();
  void end_period();
  void stay_on(std::optional<int> processor);

  const void* group_;
  unsigned index_;
  boost::asio::io_context context_;
  boost::asio::posix::stream_descriptor wake_fd_;
  std::uint64_t wake_count_ = 0;
  std::vector<std::unique_ptr<Mailbox>> mailboxes_;  ///< by the sender's index; own one unused
  Inbox inbox_;
  std::deque<Job> local_;
  Timers timers_;
  PosixDisk disk_;
  PosixNet net_;
  SendPipe send_pipe_;
  FollowReaders readers_;
  bool follows_ = true;
  bool in_period_ = false;
  Instant period_began_;
  Duration period_used_{};       ///< the thread's processor time when it began
  std::optional<int> staying_;   ///< where the thread was told to stay,
  cpu_set_t elsewhere_{};        ///< and where it may run otherwise
  SeededRng rng_;
  ThreadPools& pools_;
  std::thread thread_;
  alignas(64) std::atomic<bool> sleeping_{false};
  std::atomic<bool> stopping_{false};
};

}  // namespace pyralog::io::posix
