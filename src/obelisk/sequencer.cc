#include "obelisk/sequencer.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>

#include "base/plant.h"

namespace pyralog::obelisk {
namespace {

constexpr Duration kPatience = std::chrono::seconds(30);
constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 40;

Result<void> check_count(std::uint64_t count) {
  if (count >= 1 && count <= kMaxCount) return {};
  return fail(Code::kInvalidArgument,
              "asked for " + std::to_string(count) + " ids at once; ask for 1 to 2^40");
}

}  // namespace

/// Shared with the renewal that is under way, which may outlive the sequencer.
struct ObeliskSequencer::State : std::enable_shared_from_this<State> {
  State(io::Shard& shard, CeilingFile opened, SequencerOptions o)
      : owner(shard),
        options(o),
        path(opened.path()),
        strict(opened.header().mode == Mode::kStrict),
        file(std::move(opened)) {
    next.store(file->ceiling());
    limit.store(file->ceiling());
  }

  io::Shard& owner;
  SequencerOptions options;
  std::string path;
  bool strict;
  std::optional<CeilingFile> file;      ///< empty once closed
  std::atomic<std::uint64_t> next{0};   ///< the next value to issue
  std::atomic<std::uint64_t> limit{0};  ///< values below it may be issued; never above the ceiling
  std::atomic<bool> renewing{false};
  std::uint64_t wanted = 0;  ///< somebody waits for the limit to come so far; owner shard
  std::optional<Error> stopped;
  io::WaitList changed;

  /// Takes `count` values below the limit. A compare-and-swap rather than a fetch_add: nothing is
  /// taken that cannot be issued.
  std::optional<std::uint64_t> grab(std::uint64_t count) {
    std::uint64_t first = next.load(std::memory_order_relaxed);
    while (true) {
      const std::uint64_t end = limit.load(std::memory_order_acquire);
      if (first > end || count > end - first) return std::nullopt;
      if (next.compare_exchange_weak(first, first + count, std::memory_order_acq_rel)) {
        if (options.renew_early && end - first - count < options.lease / 2) request_renewal(end);
        return first;
      }
    }
  }

  /// `seen` is the limit that is too close. Who was held up between seeing it and asking must not have
  /// a lease made that nobody needs: a crash would skip that one, too.
  void request_renewal(std::uint64_t seen) {
    if (renewing.load(std::memory_order_relaxed) || renewing.exchange(true)) return;
    io::spawn_on(owner, [self = shared_from_this(), seen] { return run_renewal(self, seen); });
  }

  static io::Task<void> run_renewal(std::shared_ptr<State> self, std::uint64_t seen) {
    const std::uint64_t limit = self->limit.load();
    const bool needed = self->strict || limit == seen || self->wanted > limit;
    if (needed && !self->stopped && self->file) {
      const auto done = co_await (self->strict ? commit(self) : extend(self));
      if (!done) self->stopped = done.error();
    }
    self->renewing.store(false);
    self->changed.wake_all();
  }

  /// Lease: the next one becomes durable before a value of it is issued.
  static io::Task<Result<void>> extend(std::shared_ptr<State> self) {
    const std::uint64_t from = self->limit.load();
    const std::uint64_t room = std::numeric_limits<std::uint64_t>::max() - from;
    const std::uint64_t target = std::max(from + std::min(room, self->options.lease), self->wanted);
    if (PYRALOG_PLANT("obelisk.issue_before_sync")) self->limit.store(target);
    PYRALOG_CO_TRY(co_await self->file->raise(target));
    self->limit.store(target);
    co_return Result<void>{};
  }

  /// Strict: one sync for everything that was asked for until it began.
  static io::Task<Result<void>> commit(std::shared_ptr<State> self) {
    while (self->limit.load() < self->next.load()) {
      const std::uint64_t target = self->next.load();
      if (PYRALOG_PLANT("obelisk.issue_before_sync")) {
        self->limit.store(target);
        self->changed.wake_all();
      }
      PYRALOG_CO_TRY(co_await self->file->raise(target));
      self->limit.store(target);
      self->changed.wake_all();
    }
    co_return Result<void>{};
  }

  [[nodiscard]] std::unexpected<Error> refusal() const {
    if (stopped) return fail(*stopped);
    return fail(Code::kTimedOut, path + ": the disk did not answer within 30 s");
  }
};

io::Task<Result<std::unique_ptr<ObeliskSequencer>>> ObeliskSequencer::open(
    std::string path, SequencerOptions options) {
  io::Shard& shard = io::Shard::current();
  options.lease = std::max<std::uint64_t>(options.lease, 1);
  PYRALOG_CO_ASSIGN(CeilingFile file, co_await CeilingFile::open(shard.disk(), std::move(path)));
  auto state = std::make_shared<State>(shard, std::move(file), options);
  co_return std::unique_ptr<ObeliskSequencer>(new ObeliskSequencer(std::move(state)));
}

io::Task<Result<std::unique_ptr<ObeliskSequencer>>> ObeliskSequencer::open_or_create(
    std::string path, Header header, SequencerOptions options) {
  auto created = co_await CeilingFile::create(io::Shard::current().disk(), path, header);
  if (!created && created.error().code != Code::kAlreadyExists) {
    co_return fail(std::move(created.error()));
  }
  co_return co_await open(std::move(path), options);
}

Result<std::uint64_t> ObeliskSequencer::try_take(std::uint64_t count) {
  PYRALOG_TRY(check_count(count));
  if (state_->strict) {
    return fail(Code::kUnavailable, "a strict Obelisk issues after a sync only; wait for it");
  }
  const std::uint64_t seen = state_->limit.load();
  if (const auto first = state_->grab(count)) return *first;
  state_->request_renewal(seen);
  return fail(Code::kUnavailable, "the lease is used up; the next one is being made durable");
}

io::Task<Result<std::uint64_t>> ObeliskSequencer::take(std::uint64_t count) {
  PYRALOG_CO_TRY(check_count(count));
  const std::shared_ptr<State> state = state_;
  const Instant deadline = state->owner.now() + kPatience;
  if (state->strict) {
    if (state->stopped) co_return state->refusal();
    const std::uint64_t first = state->next.fetch_add(count);
    while (state->limit.load() < first + count) {
      state->request_renewal(state->limit.load());
      const bool woken = co_await state->changed.wait(deadline);
      if (state->limit.load() >= first + count) break;
      if (!woken || state->stopped) co_return state->refusal();
    }
    co_return first;
  }
  while (true) {
    if (const auto first = state->grab(count)) co_return *first;
    if (state->stopped) co_return state->refusal();
    state->wanted = std::max(state->wanted, state->next.load() + count);
    state->request_renewal(state->limit.load());
    if (!co_await state->changed.wait(deadline)) co_return state->refusal();
  }
}

io::Task<Result<void>> ObeliskSequencer::resume() {
  const std::shared_ptr<State> state = state_;
  if (!state->stopped || !state->file) co_return Result<void>{};
  PYRALOG_CO_TRY(co_await state->file->renew());
  state->next.store(state->file->ceiling());
  state->limit.store(state->file->ceiling());
  state->stopped.reset();
  co_return Result<void>{};
}

io::Task<void> ObeliskSequencer::close() {
  const std::shared_ptr<State> state = state_;
  while (state->renewing.load()) {
    co_await state->changed.wait(state->owner.now() + kPatience);
  }
  state->stopped = Error{Code::kUnavailable, state->path + ": closed"};
  // Above the limit: other threads take nothing any more.
  state->limit.store(0);
  state->next.store(1);
  state->file.reset();
  state->changed.wake_all();
}

const Header& ObeliskSequencer::header() const {
  PYRALOG_ASSERT(state_->file);
  return state_->file->header();
}
std::uint64_t ObeliskSequencer::ceiling() const {
  PYRALOG_ASSERT(state_->file);
  return state_->file->ceiling();
}

}  // namespace pyralog::obelisk
