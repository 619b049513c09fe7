#include "io/posix/posix_shard.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <chrono>
#include <cstring>
#include <ctime>

#include "base/plant.h"

namespace pyralog::io::posix {

namespace {
// Of jobs, before sockets get their turn.
constexpr unsigned kRoundsOfJobs = 4;
// Set on the threads of shards only; teardown sets Shard::current() elsewhere.
thread_local PosixShard* this_shard = nullptr;

constexpr auto kLongestSleep = std::chrono::hours(1);

FollowedProcessors followed;  // by shards of this process

Duration used_by_this_thread() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return Duration(std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec);
}
}  // namespace

PosixShard::PosixShard(const void* group, unsigned index, unsigned count, ThreadPools& pools,
                       std::uint64_t seed)
    : group_(group),
      index_(index),
      // All of a context's objects are used by its own thread only: no locks inside.
      context_(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE),
      wake_fd_(context_),
      net_(*this),
      rng_(seed),
      pools_(pools) {
  for (unsigned i = 0; i < count; ++i) mailboxes_.push_back(std::make_unique<Mailbox>());
}

PosixShard::~PosixShard() = default;

bool PosixShard::open_wake() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return false;
  boost::system::error_code error;
  wake_fd_.assign(fd, error);
  if (!error) return true;
  ::close(fd);
  return false;
}

void PosixShard::post(Job job) {
  PosixShard* const sender = this_shard;
  if (sender == this) {
    local_.push_back(std::move(job));
    return;
  }
  if (stopping_.load(std::memory_order_acquire)) return;
  if (sender != nullptr && sender->group_ == group_) {
    mailboxes_[sender->index_]->push(std::move(job));
  } else {
    inbox_.push(std::move(job));
  }
  wake();
}

void PosixShard::wake() {
  if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false)) {
    const std::uint64_t one = 1;
    // Fails only if the counter is full, and then the shard is awake.
    [[maybe_unused]] const ssize_t wrote = ::write(wake_fd_.native_handle(), &one, sizeof one);
  }
}

void PosixShard::watch_wake() {
  wake_fd_.async_read_some(boost::asio::buffer(&wake_count_, sizeof wake_count_),
                           [this](const boost::system::error_code& error, std::size_t) {
                             if (!error) watch_wake();
                           });
}

Shard::TimerId PosixShard::call_at(Instant at, Job job) { return timers_.add(at, std::move(job)); }

void PosixShard::cancel_timer(TimerId id) { timers_.cancel(id); }

Instant PosixShard::now() const {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return {std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec};
}

WallMs PosixShard::wall() const {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return {std::int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1'000'000};
}

void PosixShard::start(int processor, bool follows) {
  follows_ = processor < 0 && (follows || PYRALOG_PLANT("io.always_follow_readers"));
  thread_ = std::thread([this, processor] {
    pthread_setname_np(pthread_self(), ("shard-" + std::to_string(index_)).c_str());
    if (processor >= 0) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(static_cast<std::size_t>(processor), &set);
      pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
    this_shard = this;
    Shard::set_current(this);
    run();
    stay_on(std::nullopt);
    Shard::set_current(nullptr);
    this_shard = nullptr;
  });
}

void PosixShard::sent_file(int processor, std::uint64_t bytes) {
  if (!follows_) return;
  readers_.sent(processor, bytes);
  if (!in_period_) begin_period();
}

void PosixShard::begin_period() {
  in_period_ = true;
  period_began_ = now();
  period_used_ = used_by_this_thread();
  call_at(period_began_ + FollowReaders::kPeriod, [this] { end_period(); });
}

void PosixShard::end_period() {
  stay_on(readers_.end_period(now() - period_began_, used_by_this_thread() - period_used_));
  in_period_ = false;
  if (!readers_.at_rest()) begin_period();
}

void PosixShard::stay_on(std::optional<int> processor) {
  if (processor == staying_) return;
  if (staying_) followed.leave(*staying_);
  if (staying_ && ::sched_setaffinity(0, sizeof elsewhere_, &elsewhere_) != 0) {
    // None of them is left to this process: wherever it may run now.
    cpu_set_t any;
    std::memset(&any, 0xff, sizeof any);
    ::sched_setaffinity(0, sizeof any, &any);
  }
  staying_.reset();
  if (!processor || ::sched_getaffinity(0, sizeof elsewhere_, &elsewhere_) != 0) return;
  const auto place = static_cast<std::size_t>(*processor);
  static_assert(FollowedProcessors::kMost == CPU_SETSIZE);
  if (place >= CPU_SETSIZE || !CPU_ISSET(place, &elsewhere_) || !followed.join(*processor)) return;
  cpu_set_t there;
  CPU_ZERO(&there);
  CPU_SET(place, &there);
  if (::sched_setaffinity(0, sizeof there, &there) == 0) {
    staying_ = processor;
  } else {
    followed.leave(*processor);
  }
}

void PosixShard::run() {
  const auto work = boost::asio::make_work_guard(context_);
  watch_wake();
  // Jobs mostly lead to jobs: sockets are asked for news when there are none, which says so for nothing,
  // or after a few rounds.
  unsigned rounds = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    const bool jobs = run_jobs();
    if (!run_timers() && !jobs) {
      sleep();
      rounds = 0;
    } else if (++rounds >= kRoundsOfJobs && !PYRALOG_PLANT("io.sockets_wait_for_jobs")) {
      context_.poll();
      rounds = 0;
    }
  }
}

void PosixShard::sleep() {
  sleeping_.store(true, std::memory_order_seq_cst);
  if (mail_waiting() || stopping_.load(std::memory_order_seq_cst)) {
    sleeping_.store(false, std::memory_order_relaxed);
    return;
  }
  const Instant next = timers_.next();
  if (next == Instant::never()) {
    context_.run_one_for(kLongestSleep);
  } else {
    const Duration wait = next - now();
    if (wait > Duration(0)) {
      context_.run_one_for(std::min<Duration>(wait, kLongestSleep));
    } else {
      context_.poll();
    }
  }
  sleeping_.store(false, std::memory_order_relaxed);
}

bool PosixShard::mail_waiting() const {
  for (const auto& mailbox : mailboxes_) {
    if (!mailbox->empty()) return true;
  }
  return !local_.empty() || !inbox_.empty();
}

bool PosixShard::run_jobs() {
  bool any = run_local();
  for (const auto& mailbox : mailboxes_) any = run_mailbox(*mailbox) || any;
  any = inbox_.take([](Job job) { job(); }) > 0 || any;
  return any;
}

bool PosixShard::run_local() {
  // What these post waits for the next round, so that sockets and timers get their turn.
  const std::size_t count = local_.size();
  for (std::size_t i = 0; i < count; ++i) {
    Job job = std::move(local_.front());
    local_.pop_front();
    job();
  }
  return count > 0;
}

bool PosixShard::run_mailbox(Mailbox& mailbox) {
  Job job;
  std::size_t count = 0;
  if (PYRALOG_PLANT("io.mailbox_reorders")) {
    Job second;
    while (count < kBatch && mailbox.pop(job)) {
      if (mailbox.pop(second)) second();
      job();
      ++count;
    }
    return count > 0;
  }
  while (count < kBatch && mailbox.pop(job)) {
    job();
    ++count;
  }
  return count > 0;
}

bool PosixShard::run_timers() {
  if (timers_.size() == 0) return false;
  const Instant time = now();
  bool any = false;
  for (std::size_t i = 0; i < kBatch; ++i) {
    Job job = timers_.take_due(time);
    if (!job) break;
    job();
    any = true;
  }
  return any;
}

void PosixShard::request_stop() {
  stopping_.store(true, std::memory_order_seq_cst);
  if (sleeping_.exchange(false)) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t wrote = ::write(wake_fd_.native_handle(), &one, sizeof one);
  }
}

void PosixShard::join() {
  if (thread_.joinable()) thread_.join();
}

void PosixShard::tear_down() {
  const detail::TeardownScope scope;
  Shard::set_current(this);
  stopping_.store(true, std::memory_order_seq_cst);
  local_.clear();
  for (const auto& mailbox : mailboxes_) {
    Job job;
    while (mailbox->pop(job)) job = nullptr;
  }
  inbox_.take([](Job) {});
  timers_.clear();
  roots().destroy_all();
  local_.clear();
  Shard::set_current(nullptr);
}

}  // namespace pyralog::io::posix
