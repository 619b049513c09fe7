#include "replica/participant.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/plant.h"
#include "observe/log.h"

namespace pyralog::replica {

namespace {

constexpr int kSettleRounds = 64;

/// The bytes of what a log has read.
io::Task<Result<Wire::Records>> loaded(std::vector<io::Piece> pieces) {
  Wire::Records out;
  for (io::Piece& piece : pieces) {
    if (auto* memory = std::get_if<SharedBytes>(&piece)) {
      out.push_back(std::move(*memory));
      continue;
    }
    const auto& range = std::get<io::FileRange>(piece);
    Bytes bytes(range.count);
    std::size_t filled = 0;
    while (filled < bytes.size()) {
      PYRALOG_CO_ASSIGN(const std::size_t count,
                        co_await range.file->read_at(range.position + filled,
                                                     MutableBytes(bytes).subspan(filled)));
      if (count == 0) co_return fail(Code::kCorrupt, "the log is shorter than its index says");
      filled += count;
    }
    out.emplace_back(std::move(bytes));
  }
  co_return out;
}

/// What a log has read, as one piece that begins at `from`.
Result<SharedBytes> from_offset(const Wire::Records& records, Offset from) {
  Writer all;
  for (const SharedBytes& each : records) all.raw(each.view());
  PYRALOG_ASSIGN(Bytes bytes, beginning_at(all.take(), from));
  return SharedBytes(std::move(bytes));
}

std::uint64_t size_of(const Wire::Records& records) {
  std::uint64_t bytes = 0;
  for (const SharedBytes& each : records) bytes += each.size();
  return bytes;
}

}  // namespace

Participant::Participant(Wire& wire, Host& host, PartitionId id, Following::Opened opened,
                         Options options)
    : wire_(wire),
      host_(host),
      id_(id),
      options_(std::move(options)),
      following_(std::move(opened)) {}

void Participant::start() {
  apply(following_.start(), nullptr);
  settle();
}

io::Task<void> Participant::stop() {
  stopping_ = true;
  ++feeding_;
  ++recovering_;
  wake_feeders_.wake_all();
  wake_recovery_.wake_all();
  confirmed_.wake_all();
  for (Inbound& each : std::exchange(inbox_, {})) each.answer(std::nullopt);
  for (auto& [seal, answer] : std::exchange(seals_, {})) {
    answer(fail(Code::kUnavailable, "partition " + options_.name + ": is being closed"));
  }
  co_await tasks_.join();
  while (!confirmed_.empty()) co_await io::yield();
}

void Participant::break_down(Error why) {
  if (failed_) return;
  failed_ = std::move(why);
  ++feeding_;
  ++recovering_;
  recovery_.reset();
  if (leading_) stop_leading();
  end_tenure();
  wake_feeders_.wake_all();
  wake_recovery_.wake_all();
  for (auto& [seal, answer] : std::exchange(seals_, {})) answer(fail(*failed_));
  host_.failed(*failed_);
}

// ---- What others say ----

void Participant::take(Append message, SharedBytes records, Answer answer) {
  if (failed_ || stopping_ || !may_speak(message.leader, message.epoch))
    return answer(std::nullopt);
  if (!records.empty() && !host_.may_take()) return answer(std::nullopt);
  Inbound in{std::move(message), {}, std::move(records), std::move(answer)};
  if (!in.records.empty()) {
    auto batches = parse_batches(in.records.view());
    const bool as_said = batches && batches->base == in.message.base &&
                         batches->end == in.message.end && batches->runs == in.message.runs;
    if (!as_said) {
      observe::log_warn(
          "replica.bad_records",
          {{"partition", options_.name},
           {"leader", in.message.leader.value},
           {"reason", batches ? "they are not what their message says" : batches.error().message}});
      return in.answer(std::nullopt);
    }
    in.batches = std::move(*batches);
  } else if (in.message.end != in.message.base) {
    return in.answer(std::nullopt);
  }
  // While the log is being cut nothing is taken, and so needs no room.
  const bool ready = inbox_.empty() && !draining_ &&
                     (in.records.empty() || cutting_ ||
                      host_.log()->ready(in.records.size(), io::Shard::current().wall()));
  if (ready) return give(std::move(in));
  inbox_.push_back(std::move(in));
  if (draining_) return;
  draining_ = true;
  tasks_.spawn(drain());
}

io::Task<Result<void>> Participant::make_room(std::size_t bytes) {
  while (!cutting_ && !host_.log()->ready(bytes, io::Shard::current().wall())) {
    const auto guard = co_await log_turn_.lock();
    if (stopping_ || failed_) co_return fail(Code::kUnavailable, "it is being closed");
    if (cutting_) break;
    PYRALOG_CO_TRY(co_await host_.log()->prepare(bytes, io::Shard::current().wall()));
  }
  co_return Result<void>{};
}

io::Task<void> Participant::drain() {
  while (!inbox_.empty() && !failed_ && !stopping_) {
    const std::size_t bytes = inbox_.front().records.size();
    if (bytes > 0) {
      auto room = co_await make_room(bytes);
      if (stopping_ || failed_ || inbox_.empty()) break;
      if (!room && room.error().code == Code::kExhausted) {
        // Nothing was taken yet: it is as if it had not come, and comes again.
        inbox_.front().answer(std::nullopt);
        inbox_.pop_front();
        continue;
      }
      if (!room) {
        break_down(std::move(room.error()));
        break;
      }
    }
    Inbound next = std::move(inbox_.front());
    inbox_.pop_front();
    give(std::move(next));
  }
  for (Inbound& each : std::exchange(inbox_, {})) each.answer(std::nullopt);
  draining_ = false;
}

void Participant::give(Inbound in) {
  PYRALOG_ASSERT(!answer_);
  answer_ = std::move(in.answer);
  answer_to_ = in.message.leader;
  apply(following_.append(in.message), &in.batches);
  note_leader(in.message);
  settle();
  // What is answered later goes by itself.
  if (answer_) std::exchange(answer_, Answer())(std::nullopt);
}

bool Participant::may_speak(NodeId node, Epoch epoch) const {
  if (PYRALOG_PLANT("replica.take_any_leader")) return true;
  if (epoch > known_.highest) return false;
  if (epoch == known_.highest) return node == known_.candidate;
  // What is older is fenced, or is what is led now.
  return epoch != known_.current || node == known_.leader;
}

void Participant::flush_replies() {
  for (auto& [to, reply] : std::exchange(replies_, {})) {
    if (answer_ && to == answer_to_) {
      std::exchange(answer_, Answer())(reply);
    } else {
      wire_.progress(to, id_, reply);
    }
  }
}

void Participant::take(const AppendReply& progress) {
  if (failed_ || stopping_) return;
  const Instant now = io::Shard::current().now();
  if (recovery_) apply(recovery_->received(progress, now));
  if (leading_) leading_->received(progress, now);
  settle();
}

void Participant::take(ReadRange range, RangeAnswer answer) {
  if (stopping_) return answer(fail(Code::kUnavailable, "it is being closed"));
  tasks_.spawn(give_range(range, std::move(answer)));
}

io::Task<void> Participant::give_range(ReadRange range, RangeAnswer answer) {
  const auto guard = co_await read_turn_.lock();
  answer(co_await range_of(range));
}

io::Task<Result<Wire::Range>> Participant::range_of(ReadRange range) {
  if (failed_) co_return fail(*failed_);
  if (stopping_) co_return fail(Code::kUnavailable, "it is being closed");
  PYRALOG_CO_TRY(following_.may_read(range));
  log::ReadLimits limits;
  limits.max_bytes = std::min<std::uint64_t>(range.max_bytes, 4u << 20);
  limits.upto = range.to;
  const std::uint64_t cuts = cuts_;
  const std::shared_ptr<log::PartitionLog> log = host_.log();
  PYRALOG_CO_ASSIGN(log::ReadResult read, co_await log->read(range.from, limits));
  PYRALOG_CO_ASSIGN(const Wire::Records records, co_await loaded(std::move(read.pieces)));
  // It may have been cut meanwhile.
  if (cuts != cuts_ || stopping_ || failed_)
    co_return fail(Code::kUnavailable, "the log is another by now");
  PYRALOG_CO_TRY(following_.may_read(range));
  if (size_of(records) == 0) co_return Wire::Range{range.from, {}, {}};
  PYRALOG_CO_ASSIGN(SharedBytes bytes, from_offset(records, range.from));
  PYRALOG_CO_ASSIGN(Batches batches, parse_batches(bytes.view()));
  co_return Wire::Range{batches.end, std::move(batches.runs), std::move(bytes)};
}

// ---- The catalogue ----

void Participant::catalog(const catalog::Partition& partition, bool fresh) {
  if (failed_ || stopping_) return;
  const Instant now = io::Shard::current().now();
  const auto& current = partition.current;
  const Epoch heard_before = std::max(known_.highest, known_.current);
  known_.highest = partition.highest_proposed;
  known_.candidate = partition.candidate;
  known_.current = current ? current->epoch : Epoch(0);
  known_.leader = current ? current->leader : NodeId(0);
  take_early_seals(heard_before);
  if (between_terms() && !is_ours_next()) end_tenure();
  if (recovery_) apply(recovery_->catalog(partition, now));
  if (leading_ && current && current->epoch > leading_->term().epoch) {
    stop_leading();
    end_tenure();
  }
  const bool ours =
      current && current->leader == following_.self().disk.node && current->start == Offset(0);
  const bool on_this_disk = ours && std::ranges::find(current->replicas, following_.self().disk) !=
                                        current->replicas.end();
  if (fresh && on_this_disk && !leading_ && !recovery_ && following_.log().end() == Offset(0) &&
      following_.promise().promised <= current->epoch && known_.highest <= current->epoch) {
    Leading::Term term{current->epoch,        Offset(0),         current->replicas,
                       current->write_quorum, following_.self(), Epoch(0)};
    leading_.emplace(std::move(term), following_.log(), options_.leading, now);
    leading_->activated(now);
    own_offer_ = Append{};
    own_offer_->epoch = current->epoch;
    own_offer_->leader = following_.self().disk.node;
    own_offer_->to_boot = following_.self().boot;
    own_offer_->active = true;
    begin_feeding(*leading_);
    apply(following_.append(*own_offer_), nullptr);
  }
  settle();
}

void Participant::campaign(Epoch epoch, const catalog::Partition& partition,
                           std::vector<catalog::Replica> replicas, std::uint16_t write_quorum,
                           bool unclean) {
  if (failed_ || stopping_) return;
  // Never twice: what an earlier try has brought about counts for that try.
  if (epoch <= campaigned_ || (leading_ && epoch <= leading_->term().epoch)) return;
  campaigned_ = epoch;
  if (leading_) stop_leading();
  Recovery::Plan plan;
  plan.partition = id_;
  plan.epoch = epoch;
  plan.self = following_.self();
  plan.replicas = std::move(replicas);
  plan.write_quorum = write_quorum;
  plan.unclean = unclean;
  ++feeding_;
  recovery_.emplace(std::move(plan), partition, options_.recovery, io::Shard::current().now());
  tasks_.spawn(recover(++recovering_));
  settle();
}

io::Task<void> Participant::recover(std::uint64_t generation) {
  bool fed = false;
  while (recovering_ == generation && recovery_ && !stopping_ && !failed_) {
    apply(recovery_->tick(io::Shard::current().now()));
    settle();
    if (recovering_ != generation || !recovery_) break;
    const Recovery::Phase phase = recovery_->phase();
    if (phase == Recovery::Phase::kAborted) {
      observe::log_info("replica.recovery_ended",
                        {{"partition", options_.name}, {"reason", recovery_->why()}});
      const bool asked_again = is_ours_next() && known_.highest > recovery_->plan().epoch;
      recovery_.reset();
      if (!asked_again) end_tenure();
      break;
    }
    if (!fed && (phase == Recovery::Phase::kHolding || phase == Recovery::Phase::kCommitting)) {
      fed = true;
      begin_feeding(recovery_->leading());
    }
    co_await wake_recovery_.wait(io::Shard::current().now() + options_.tick);
  }
}

// ---- Effects ----

void Participant::apply(Following::Effects effects, const Batches* batches) {
  if (effects.take) {
    PYRALOG_ASSERT(batches != nullptr && !batches->views.empty());
    const auto appended = host_.log()->append(batches->views, io::Shard::current().wall());
    if (!appended) return break_down(appended.error());
    for (const BatchHeader& header : batches->headers) host_.taken(header);
  }
  if (effects.store) {
    storing_.push_back(*effects.store);
    if (!storing_now_) {
      storing_now_ = true;
      tasks_.spawn(store_all());
    }
  }
  if (effects.cut) {
    cutting_ = true;
    level_ = {};
    tasks_.spawn(cut(*effects.cut));
  }
  if (effects.trim) host_.trim(*effects.trim);
  if (effects.reply) {
    if (effects.reply_to == following_.self().disk.node) {
      answer_self(*effects.reply);
    } else {
      std::erase_if(replies_, [&](const auto& each) { return each.first == effects.reply_to; });
      replies_.emplace_back(effects.reply_to, *effects.reply);
    }
  }
  if (effects.sealed) {
    if (effects.sealed_to == following_.self().disk.node) {
      if (recovery_) apply(recovery_->answered(*effects.sealed, io::Shard::current().now()));
    } else {
      const auto asked = std::ranges::find_if(seals_, [&](const auto& each) {
        return each.first.candidate == effects.sealed_to &&
               each.first.epoch == effects.sealed->epoch;
      });
      if (asked != seals_.end()) {
        SealedAnswer answer = std::move(asked->second);
        seals_.erase(asked);
        answer(std::move(*effects.sealed));
      }
    }
  }
  if (following_.broken()) return break_down(*following_.broken());
  end_old_seals();
  // While the log is being cut there is nothing to sync: what stays is asked for when that is done.
  if (!cutting_ && (effects.sync || following_.stable_end() < following_.log().end()))
    make_stable();
}

void Participant::answer_self(const AppendReply& reply) {
  if (recovery_) apply(recovery_->offered(reply, io::Shard::current().now()));
  if (!leading_ || reply.epoch != leading_->term().epoch || reply.from != leading_->term().self)
    return;
  if (reply.kind == AppendReply::Kind::kHeld) {
    leading_->stable(std::min(reply.stable_end, leading_->log().end()));
    if (reply.joined == reply.epoch) {
      leading_->joined();
      own_offer_.reset();
    }
  } else if (own_offer_ && reply.kind == AppendReply::Kind::kApart) {
    const Append offer = *own_offer_;
    apply(following_.append(offer), nullptr);
  }
}

void Participant::apply(Recovery::Effects effects, const Batches* batches) {
  if (!recovery_) return;
  const NodeId self = following_.self().disk.node;
  const Epoch epoch = recovery_->plan().epoch;
  if (effects.commit && activating_ != epoch) {
    activating_ = epoch;
    tasks_.spawn(activate(std::move(*effects.commit)));
  }
  if (effects.read) tasks_.spawn(read_range(effects.read_from, *effects.read));
  bool seal_self = false;
  for (const NodeId to : effects.seal) {
    if (to == self) {
      seal_self = true;
    } else {
      tasks_.spawn(ask_seal(to, Seal{epoch, self}));
    }
  }
  if (effects.offer) apply(following_.append(*effects.offer), batches);
  // Last: what comes of it may be all that was missing.
  if (seal_self && recovery_) apply(following_.seal(Seal{epoch, self}), nullptr);
  if (recovery_ && recovery_->phase() == Recovery::Phase::kActive) {
    leading_.emplace(recovery_->take_leading());
    recovery_.reset();
    ++recovering_;
    wake_recovery_.wake_all();
    begin_feeding(*leading_);
  }
}

void Participant::settle() {
  // What it does may call it again.
  if (settling_ || failed_) return;
  settling_ = true;
  for (int round = 0; round < kSettleRounds; ++round) {
    if (leading_ &&
        (leading_->fenced() || following_.promise().promised > leading_->term().epoch)) {
      stop_leading();
      end_tenure();
    }
    const Offset before = following_.high_watermark();
    if (leading_ && leading_->active() && leads()) {
      apply(following_.committed(leading_->high_watermark()), nullptr);
    }
    if (failed_ || following_.high_watermark() == before) break;
  }
  settling_ = false;
  flush_replies();
  if (failed_) return;
  const Offset known =
      leading_ && leads() ? leading_->high_watermark() : following_.high_watermark();
  // What is being cut is known to Following until that is done.
  if (known > high_watermark_ && !cutting_) {
    high_watermark_ = known;
    host_.committed(known);
  }
  if (!recent_.empty()) drop_recent();
  // After what is committed: who serves from now on serves that.
  if (leads() && told_leads_ != leading_->term().epoch) {
    told_leads_ = leading_->term().epoch;
    last_term_ = *told_leads_;
    if (tenure_.value == 0) tenure_ = last_term_;
    host_.leads(*told_leads_);
  }
  wake_feeders_.wake_all();
  if (recovery_) wake_recovery_.wake_all();
}

bool Participant::leads() const {
  return leading_ && leading_->active() && !leading_->fenced() && !failed_ && !stopping_ &&
         following_.promise().promised == leading_->term().epoch &&
         following_.agreed() == leading_->term().epoch;
}

void Participant::stop_leading() {
  leading_.reset();
  cut_off_ = false;
  confirmed_.wake_all();
  own_offer_.reset();
  recent_.clear();
  recent_bytes_ = 0;
  ++feeding_;
  if (std::exchange(told_leads_, std::nullopt)) host_.follows();
}

bool Participant::is_ours_next() const {
  const NodeId next = known_.highest > known_.current ? known_.candidate : known_.leader;
  return next == following_.self().disk.node;
}

void Participant::end_tenure() {
  if (PYRALOG_PLANT("replica.never_end_a_tenure")) return;
  if (std::exchange(tenure_, Epoch(0)).value != 0) host_.tenure_ended();
}

void Participant::appended(SharedBytes batch, std::size_t pinned, Offset base, Offset end) {
  PYRALOG_ASSERT(leads());
  following_.led(leading_->term().epoch, end);
  leading_->appended(end, io::Shard::current().now());
  recent_bytes_ += pinned;
  recent_.push_back({base, end, std::move(batch), pinned});
  while (recent_bytes_ > options_.recent_bytes && recent_.size() > 1) {
    recent_bytes_ -= recent_.front().pinned;
    recent_.pop_front();
  }
  make_stable();
  settle();
}

void Participant::trimmed(Offset log_start) {
  following_.trimmed(log_start);
  if (Leading* to = feeding()) to->trimmed(log_start);
  wake_feeders_.wake_all();
}

void Participant::set_durability(Durability durability) {
  if (options_.durability == durability) return;
  options_.durability = durability;
  if (!failed_ && !stopping_ && !cutting_) make_stable();
}

void Participant::make_stable() {
  if (options_.durability != Durability::kFsync) {
    if (following_.stable_end() < following_.log().end()) {
      apply(following_.stable(following_.log().end()), nullptr);
    }
    return;
  }
  sync_wanted_ = true;
  if (syncing_) return;
  syncing_ = true;
  tasks_.spawn(sync_all());
}

io::Task<void> Participant::sync_all() {
  co_await io::yield();  // what comes in this turn of the loop shares it
  while (sync_wanted_ && !failed_ && !stopping_) {
    sync_wanted_ = false;
    const std::uint64_t cuts = cuts_;
    auto synced = co_await host_.sync();
    if (failed_ || stopping_) break;
    // A cut came in between: neither what it says nor what became of it is of this log.
    if (cuts != cuts_ || cutting_) continue;
    if (!synced) {
      break_down(std::move(synced.error()));
      break;
    }
    {
      apply(following_.stable(std::min(*synced, following_.log().end())), nullptr);
      settle();
    }
    if (following_.stable_end() < following_.log().end()) sync_wanted_ = true;
  }
  syncing_ = false;
}

io::Task<void> Participant::store_all() {
  while (!storing_.empty() && !failed_ && !stopping_) {
    const Promise promise = storing_.front();
    auto stored = co_await host_.store(promise);
    if (failed_ || stopping_) break;
    if (!stored) {
      break_down(std::move(stored.error()));
      break;
    }
    storing_.pop_front();
    apply(following_.stored(promise), nullptr);
    settle();
  }
  storing_now_ = false;
}

io::Task<void> Participant::cut(Following::Cut cut) {
  const auto guard = co_await log_turn_.lock();
  if (failed_ || stopping_) co_return;
  end_tenure();
  ++cuts_;  // a sync that is under way says nothing of what comes after
  if (cut.to < high_watermark_ && !PYRALOG_PLANT("replica.keep_watermark_above_cut"))
    high_watermark_ = cut.to;
  auto done = co_await host_.cut(cut.to, cut.restart);
  if (failed_ || stopping_) co_return;
  if (!done) {
    break_down(std::move(done.error()));
    co_return;
  }
  ++cuts_;
  cutting_ = false;
  apply(following_.cut_done(), nullptr);
  settle();
}

// ---- Where it leads, or is about to ----

Leading* Participant::feeding() {
  if (leading_) return &*leading_;
  if (!recovery_) return nullptr;
  const Recovery::Phase phase = recovery_->phase();
  if (phase != Recovery::Phase::kHolding && phase != Recovery::Phase::kCommitting) return nullptr;
  return &recovery_->leading();
}

void Participant::begin_feeding(Leading& leading) {
  const std::uint64_t generation = ++feeding_;
  wake_feeders_.wake_all();
  for (const Leading::Follower& follower : leading.followers()) {
    const NodeId node = follower.disk.node;
    if (!wire_.connected(node)) leading.link_down(node);
    tasks_.spawn(feed(node, generation));
  }
}

std::optional<Wire::Records> Participant::recent(Offset from, std::uint64_t max_bytes,
                                                 Offset& end) const {
  const auto first = std::ranges::lower_bound(recent_, from, {}, &Recent::base);
  if (first == recent_.end() || first->base != from) return std::nullopt;
  Wire::Records out;
  std::uint64_t bytes = 0;
  for (auto each = first; each != recent_.end(); ++each) {
    if (!out.empty() && bytes + each->bytes.size() > max_bytes) break;
    bytes += each->bytes.size();
    out.push_back(each->bytes);
    end = each->end;
  }
  return out;
}

void Participant::drop_recent() {
  if (!leading_) return;
  Offset all = leading_->high_watermark();
  for (const Leading::Follower& each : leading_->followers()) {
    if (each.contiguous && each.linked) all = std::min(all, each.log_end);
  }
  while (!recent_.empty() && recent_.front().end <= all) {
    recent_bytes_ -= recent_.front().pinned;
    recent_.pop_front();
  }
}

io::Task<void> Participant::feed(NodeId node, std::uint64_t generation) {
  const auto current = [&] { return feeding_ == generation && !stopping_ && !failed_; };
  co_await io::yield();
  while (current()) {
    Leading* to = feeding();
    if (to == nullptr) break;
    auto next = to->next(node, io::Shard::current().now());
    if (!next) {
      co_await wake_feeders_.wait(to->wake_at(node));
      continue;
    }
    Append& message = next->message;
    Wire::Records records;
    if (next->max_bytes > 0) {
      auto kept = recent(message.base, next->max_bytes, message.end);
      if (kept) {
        records = std::move(*kept);
      } else {
        log::ReadLimits limits;
        limits.max_bytes = next->max_bytes;
        limits.upto = to->log().end();
        const std::shared_ptr<log::PartitionLog> log = host_.log();
        auto read = co_await log->read(message.base, limits);
        if (!current()) break;
        if (!read) {
          observe::log_warn("replica.cannot_send",
                            {{"partition", options_.name}, {"reason", read.error().message}});
          co_await io::sleep_for(options_.leading.resend);
          continue;
        }
        message.end = read->next;
        const bool whole = read->first == message.base;
        auto loading = co_await loaded(std::move(read->pieces));
        if (!current()) break;
        if (loading && !whole) {
          // Compaction has put batches together here since that replica took them.
          auto cut = from_offset(*loading, message.base);
          loading = cut ? Result<Wire::Records>(Wire::Records{std::move(*cut)})
                        : fail(std::move(cut.error()));
        }
        if (!loading) {
          observe::log_warn("replica.cannot_send",
                            {{"partition", options_.name}, {"reason", loading.error().message}});
          co_await io::sleep_for(options_.leading.resend);
          continue;
        }
        records = std::move(*loading);
        to = feeding();
        if (to == nullptr) break;
        if (message.base < to->log().start() || message.end > to->log().end()) continue;
      }
      message.runs = to->log().runs(message.base, message.end);
    }
    to->sent(node, message, size_of(records), io::Shard::current().now());
    const std::uint64_t asked = records.empty() ? to->asked() : 0;
    tasks_.spawn(send(node, std::move(message), std::move(records), asked, generation));
    if (records.empty()) co_await io::yield();
  }
}

io::Task<void> Participant::send(NodeId node, Append message, Wire::Records records,
                                 std::uint64_t asked, std::uint64_t generation) {
  const Epoch epoch = message.epoch;
  auto reply = co_await wire_.append(node, id_, std::move(message), std::move(records));
  if (stopping_ || failed_) co_return;
  // An answer says itself of which epoch and life it is.
  if (reply && *reply) {
    const bool ours = (*reply)->kind != AppendReply::Kind::kFenced && (*reply)->epoch == epoch;
    if (ours && leading_ && leading_->term().epoch == epoch && generation == feeding_) {
      leading_->answered((*reply)->from.disk, asked);
      confirmed_.wake_all();
    }
    co_return take(**reply);
  }
  Leading* to = feeding();
  if (reply || to == nullptr || to->term().epoch != epoch) co_return;
  if (reply.error().code == Code::kTooLarge) {
    observe::log_error("replica.cannot_be_sent",
                       {{"partition", options_.name}, {"reason", reply.error().message}});
  }
  wire_.connected(node) ? to->lost(node, io::Shard::current().now())
                         : to->link_down(node);
  settle();
}

io::Task<void> Participant::read_range(NodeId from, ReadRange range) {
  auto given = co_await wire_.read(from, id_, range);
  const auto current = [&] {
    return recovery_ && recovery_->plan().epoch == range.epoch && !stopping_ && !failed_;
  };
  if (!current()) co_return;
  auto batches = given ? parse_batches(given->records.view()) : fail(given.error());
  const bool sound = batches && !batches->views.empty() && batches->base == range.from &&
                     batches->end == given->end && batches->runs == given->runs;
  if (sound) {
    auto room = co_await make_room(given->records.size());
    if (!current()) co_return;
    if (!room && room.error().code == Code::kExhausted) {
      co_await io::sleep_for(options_.recovery.resend);
      if (!current()) co_return;
      apply(recovery_->read_failed(io::Shard::current().now()));
      co_return settle();
    }
    if (!room) co_return break_down(std::move(room.error()));
  }
  const Instant now = io::Shard::current().now();
  if (!sound) {
    apply(recovery_->read_failed(now));
  } else {
    apply(recovery_->range_read(range, batches->end, batches->runs, now), &*batches);
  }
  settle();
}

io::Task<void> Participant::activate(catalog::EpochActivation activation) {
  const Epoch epoch = activation.epoch;
  auto done =
      co_await host_.activate(std::move(activation), recovery_ ? recovery_->loss() : std::nullopt);
  if (activating_ == epoch) activating_ = Epoch(0);
  if (!recovery_ || recovery_->plan().epoch != epoch || stopping_ || failed_) co_return;
  if (!done && done.error().code != Code::kUnavailable && done.error().code != Code::kTimedOut) {
    observe::log_info("replica.activation_refused",
                      {{"partition", options_.name}, {"reason", done.error().message}});
    recovery_.reset();
    end_tenure();
    ++recovering_;
    ++feeding_;
    wake_recovery_.wake_all();
  }
  settle();
}

}  // namespace pyralog::replica
