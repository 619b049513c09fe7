// A replica as one of several: what its participant asks of it.

#include <algorithm>

#include "base/plant.h"
#include "observe/log.h"
#include "replica/replica.h"

namespace pyralog::replica {

class Replica::Seat final : public Participant::Host {
 public:
  explicit Seat(Replica& replica) : of_(replica) {}

  std::shared_ptr<log::PartitionLog> log() override { return of_.log_; }
  io::Task<Result<Offset>> sync() override { return of_.logs_.sync(of_.log_); }
  void taken(const BatchHeader& header) override {
    of_.producers_.apply(header, Offset(header.base_offset), of_.time_run());
    // One in memory has let its oldest go.
    const Offset start = of_.log_->start_offset();
    if (start > of_.participant_->following().log().start()) of_.participant_->trimmed(start);
  }
  io::Task<Result<void>> cut(Offset to, bool restart) override { return of_.cut(to, restart); }
  io::Task<Result<void>> store(Promise promise) override { return of_.membership_.store(promise); }
  void trim(Offset log_start) override {
    of_.tasks_.spawn([](Replica& replica, Offset below) -> io::Task<void> {
      // As on the leader; what fails goes with the next one.
      if (below > replica.high_watermark_) co_return;
      const auto gone = co_await replica.delete_records_below(below);
      if (!gone) {
        observe::log_warn("replica.not_trimmed",
                          {{"partition", replica.options_.name}, {"reason", gone.error().message}});
      }
    }(of_, log_start));
  }
  void committed(Offset high_watermark) override { of_.committed_to(high_watermark); }
  void leads(Epoch) override {
    of_.next_term_.wake_all();
    if (of_.membership_.role_changed) of_.membership_.role_changed(true);
  }
  void follows() override {
    // Who waits for what this node has taken as the leader is told that it does not lead any more.
    of_.committed_.wake_all();
    of_.wake_watchers();
    if (of_.membership_.role_changed) of_.membership_.role_changed(false);
  }
  void tenure_ended() override {
    of_.committed_.wake_all();
    of_.next_term_.wake_all();
    of_.wake_watchers();
  }
  io::Task<Result<void>> activate(catalog::EpochActivation activation,
                                  std::optional<Recovery::Loss> loss) override {
    return of_.membership_.activate(std::move(activation), std::move(loss));
  }
  bool may_take() override { return !of_.membership_.may_take || of_.membership_.may_take(); }
  void cut_off() override {
    observe::log_info("replica.cut_off", {{"partition", of_.options_.name}});
    of_.committed_.wake_all();
    of_.next_term_.wake_all();
    of_.wake_watchers();
  }
  void failed(Error why) override {
    observe::log_error("replica.offline",
                       {{"partition", of_.options_.name}, {"reason", why.message}});
    of_.committed_.wake_all();
    of_.wake_watchers();
    if (of_.membership_.failed) of_.membership_.failed();
  }

 private:
  Replica& of_;
};

Replica::~Replica() = default;

Result<void> Replica::join(Membership membership) {
  PYRALOG_ASSERT(participant_ == nullptr && epoch_.value == 0);
  PYRALOG_ASSIGN(History history,
                 History::make(log_->start_offset(), log_->end_offset(), log_->epochs()));
  membership_ = std::move(membership);
  // What is committed the others will say: at a start this log knows only what it holds.
  high_watermark_ = log_->start_offset();
  Following::Opened opened;
  opened.self = membership_.self;
  opened.promise = membership_.promise;
  opened.log = std::move(history);
  opened.stable = log_->end_offset();  // recovery syncs before it trusts
  opened.in_doubt = membership_.in_doubt;
  Participant::Options options;
  options.name = options_.name;
  options.durability = options_.log.durability;
  options.leading = membership_.leading;
  options.recovery = membership_.recovery;
  options.recovery.leading = membership_.leading;
  seat_ = std::make_unique<Seat>(*this);
  participant_ = std::make_unique<Participant>(*membership_.wire, *seat_, id_, std::move(opened),
                                               std::move(options));
  participant_->start();
  return {};
}

bool Replica::between_terms() const {
  return participant_ != nullptr && participant_->between_terms() &&
         stopped_ == KafkaError::kNone && !PYRALOG_PLANT("replica.refuse_between_terms");
}

io::Task<void> Replica::next_term(Instant until) {
  // A producer that is refused one batch and not the one behind it takes what it had sent before
  // for lost and sends it again under another number.
  while (between_terms() && !cut_off()) {
    if (!co_await next_term_.wait(until)) break;
  }
}

bool Replica::stands(Epoch epoch) const {
  if (this->epoch() == epoch) return true;
  if (participant_ == nullptr || PYRALOG_PLANT("replica.give_up_with_the_epoch")) return false;
  const Epoch first = participant_->tenure();
  return first.value != 0 && first <= epoch;
}

std::optional<AppendOutcome> Replica::may_lead(std::optional<Epoch> only_in) const {
  if (only_in && *only_in != epoch()) {
    return refused(KafkaError::kNotLeaderOrFollower, "is led in another epoch by now");
  }
  if (participant_ == nullptr) {
    if (epoch_.value != 0) return std::nullopt;
    return refused(KafkaError::kLeaderNotAvailable, "has no leader yet");
  }
  if (offline()) return storage_error(*offline());
  if (!participant_->leads()) {
    return refused(KafkaError::kNotLeaderOrFollower, "is led by another node, or by none now");
  }
  if (participant_->may_accept() || PYRALOG_PLANT("replica.append_without_quorum"))
    return std::nullopt;
  return refused(KafkaError::kNotEnoughReplicas,
                 "too few of its replicas can be reached; see `pyralog partition list`");
}

io::Task<Result<void>> Replica::cut(Offset to, bool restart) {
  high_watermark_ = std::min(high_watermark_, to);
  Result<void> done;
  if (membership_.cutting) done = co_await membership_.cutting(to);
  if (done) done = co_await cut_log(to, restart);
  if (membership_.cut_ended) membership_.cut_ended();
  co_return done;
}

io::Task<Result<void>> Replica::cut_log(Offset to, bool restart) {
  if (restart) {
    const log::LogConfig config = options_.log;
    PYRALOG_CO_TRY(co_await logs_.delete_log(id_));
    PYRALOG_CO_ASSIGN(log_, co_await logs_.open_log(id_, config, to));
  } else {
    const auto log = log_;
    PYRALOG_CO_TRY(co_await log->truncate_to(to));
  }
  if (!restart && producers_.truncate_from(to)) co_return Result<void>{};
  producers_ = producer::ProducerTable(options_.producers);
  co_return co_await rebuild_producers(std::nullopt, {});
}

}  // namespace pyralog::replica
