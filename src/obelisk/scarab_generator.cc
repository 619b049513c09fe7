#include "obelisk/scarab_generator.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include "base/plant.h"

namespace pyralog::obelisk {
namespace {

constexpr Duration kPatience = std::chrono::seconds(30);
constexpr std::uint64_t kLeaseMs = 1000;

}  // namespace

/// Shared with the renewal that is under way, which may outlive the generator.
struct ScarabGenerator::State : std::enable_shared_from_this<State> {
  State(io::Shard& shard, CeilingFile opened)
      : owner(shard),
        path(opened.path()),
        machine(opened.header().machine_id),
        clock(opened.ceiling(), shard.wall(), shard.now()),
        file(std::move(opened)) {}

  io::Shard& owner;
  std::string path;
  std::uint16_t machine;
  ScarabClock clock;
  std::optional<CeilingFile> file;  ///< empty once closed
  std::atomic<bool> renewing{false};
  std::atomic<bool> closed{false};
  std::optional<Error> stopped;
  io::WaitList changed;

  std::expected<std::uint64_t, ScarabClock::Wait> take(std::uint64_t count) {
    if (closed.load(std::memory_order_relaxed)) return std::unexpected(ScarabClock::Wait::kCeiling);
    const auto first = clock.take(count, owner.wall(), owner.now());
    if (clock.last_ms() + kLeaseMs / 2 > clock.ceiling_ms()) request_renewal();
    return first;
  }

  void request_renewal() {
    if (renewing.load(std::memory_order_relaxed) || renewing.exchange(true)) return;
    io::spawn_on(owner, [self = shared_from_this()] { return run_renewal(self); });
  }

  static io::Task<void> run_renewal(std::shared_ptr<State> self) {
    if (!self->stopped && self->file) {
      const std::uint64_t time = self->clock.time_ms(self->owner.wall(), self->owner.now());
      // Room for the largest batch beyond what may have been borrowed already.
      const std::uint64_t target =
          std::max(time, self->clock.last_ms()) + kLeaseMs + 2 * kScarabBorrowMs;
      if (PYRALOG_PLANT("obelisk.issue_before_sync")) self->clock.raise_ceiling(target);
      const auto raised = co_await self->file->raise(target);
      if (raised) {
        self->clock.raise_ceiling(self->file->ceiling());
      } else {
        self->stopped = raised.error();
      }
    }
    self->renewing.store(false);
    self->changed.wake_all();
  }
};

namespace {

Result<void> check_count(std::uint64_t count) {
  if (count >= 1 && count <= kScarabMaxBatch) return {};
  return fail(Code::kInvalidArgument, "asked for " + std::to_string(count) +
                                          " ids at once; ask for 1 to " +
                                          std::to_string(kScarabMaxBatch));
}

Error reason(ScarabClock::Wait wait) {
  switch (wait) {
    case ScarabClock::Wait::kCeiling:
      return {Code::kUnavailable, "the next second of ids is being made durable; wait for it"};
    case ScarabClock::Wait::kTime:
      return {Code::kUnavailable, "ids have run 10 ms ahead of the clock; wait for it"};
    case ScarabClock::Wait::kEnd:
      return {Code::kExhausted, "Scarab ids end in 2094; check the clock"};
  }
  return {Code::kUnavailable, "no id now"};
}

}  // namespace

io::Task<Result<std::unique_ptr<ScarabGenerator>>> ScarabGenerator::open(std::string path) {
  io::Shard& shard = io::Shard::current();
  PYRALOG_CO_ASSIGN(CeilingFile file, co_await CeilingFile::open(shard.disk(), path));
  if (file.header().mode == Mode::kStrict || file.header().granule != 1) {
    co_return fail(Code::kInvalidArgument, path + ": is a counter, not a Scarab generator");
  }
  co_return std::unique_ptr<ScarabGenerator>(
      new ScarabGenerator(std::make_shared<State>(shard, std::move(file))));
}

io::Task<Result<std::unique_ptr<ScarabGenerator>>> ScarabGenerator::open_or_create(
    std::string path, std::uint16_t machine, Uuid cluster, std::uint16_t name_space) {
  io::Shard& shard = io::Shard::current();
  Header header;
  const std::int64_t wall = std::max<std::int64_t>(shard.wall().ms - kScarabEpochMs, 0);
  header.base = static_cast<std::uint64_t>(wall);
  header.machine_id = machine;
  header.name_space = name_space;
  header.cluster = cluster;
  auto created = co_await CeilingFile::create(shard.disk(), path, header);
  if (!created && created.error().code != Code::kAlreadyExists) {
    co_return fail(std::move(created.error()));
  }
  PYRALOG_CO_ASSIGN(auto generator, co_await open(path));
  if (generator->machine() != machine) {
    co_return fail(Code::kInvalidArgument, path + ": belongs to machine " +
                                               std::to_string(generator->machine()) + ", not " +
                                               std::to_string(machine));
  }
  co_return std::move(generator);
}

Result<ScarabRange> ScarabGenerator::try_next(std::uint64_t count) {
  PYRALOG_TRY(check_count(count));
  const auto first = state_->take(count);
  if (first) return ScarabRange(*first, count, state_->machine);
  if (first.error() == ScarabClock::Wait::kCeiling) state_->request_renewal();
  return fail(reason(first.error()));
}

io::Task<Result<ScarabRange>> ScarabGenerator::next(std::uint64_t count) {
  PYRALOG_CO_TRY(check_count(count));
  const std::shared_ptr<State> state = state_;
  const Instant deadline = state->owner.now() + kPatience;
  while (true) {
    const auto first = state->take(count);
    if (first) co_return ScarabRange(*first, count, state->machine);
    if (first.error() == ScarabClock::Wait::kEnd) co_return fail(reason(first.error()));
    if (state->owner.now() >= deadline) {
      co_return fail(Code::kTimedOut, state->path + ": no id within 30 s");
    }
    if (first.error() == ScarabClock::Wait::kTime) {
      co_await io::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    if (state->stopped) co_return fail(*state->stopped);
    state->request_renewal();
    co_await state->changed.wait(deadline);
  }
}

io::Task<void> ScarabGenerator::close() {
  const std::shared_ptr<State> state = state_;
  state->closed.store(true);
  while (state->renewing.load()) {
    co_await state->changed.wait(state->owner.now() + kPatience);
  }
  state->stopped = Error{Code::kUnavailable, state->path + ": closed"};
  state->file.reset();
  state->changed.wake_all();
}

std::uint16_t ScarabGenerator::machine() const {
  return state_->machine;
}

}  // namespace pyralog::obelisk
