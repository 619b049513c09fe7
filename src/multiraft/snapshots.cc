// Snapshots of the groups' machines: to other members, and into a new journal.
#include <algorithm>
#include <utility>

#include "base/plant.h"
#include "multiraft/multiraft.h"
#include "multiraft/stored.h"
#include "observe/log.h"

namespace pyralog::multiraft {

void MultiRaft::begin_snapshot(Group& from, raft::Message message) {
  Transfer& transfer =
      from.transfers.try_emplace(message.to, options_.snapshot_pause).first->second;
  transfer.asked = message.term;
  // One that an earlier lead has begun may be under way: two would take each other's place there.
  // Its end sets the core going again.
  const bool under_way = std::exchange(transfer.under_way, true);
  if (under_way && !PYRALOG_PLANT("multiraft.two_transfers_at_once")) return;
  tasks_.spawn(bring_snapshot(from.id, std::move(message)));
}

io::Task<void> MultiRaft::bring_snapshot(GroupId id, raft::Message message) {
  Group& from = group(id);
  const NodeId to = message.to;
  const raft::Term term = message.term;
  Transfer& transfer = from.transfers.at(to);
  const auto leads = [&from](raft::Term in) {
    return from.raft->role() == raft::Role::kLeader && from.raft->term() == in;
  };
  co_await io::yield();  // not within a turn
  bool arrived = false;
  if (!stopping_ && !dead_ && leads(term)) {
    const auto whole = encoded(from, message.snapshot->index);
    message.snapshot = whole->mark;
    ++stats_.snapshots_sent;
    const auto brought =
        co_await transport_->send_snapshot({id, std::move(message)}, whole->content);
    arrived = brought.has_value();
    if (arrived) {
      transfer.backoff.reset();
    } else if (!stopping_ && !dead_) {
      observe::log_warn(
          "raft.snapshot_not_sent",
          {{"group", id.value}, {"to", to.value}, {"reason", brought.error().message}});
    }
  }
  if (!arrived && !stopping_ && !dead_ && !PYRALOG_PLANT("multiraft.send_again_at_once")) {
    io::Shard& shard = io::Shard::current();
    co_await halted_.wait(shard.now() + transfer.backoff.next_delay(shard.rng()));
  }
  transfer.under_way = false;
  if (stopping_ || dead_) co_return;
  // Who has asked is told, and of its own one only that it has arrived.
  if (leads(transfer.asked)) from.raft->snapshot_ended(to, arrived && transfer.asked == term);
  wake();
}

/// As of now, or what others are being sent already, if that has all up to `least`.
std::shared_ptr<const MultiRaft::Encoded> MultiRaft::encoded(Group& from, raft::Index least) {
  if (auto sent = from.encoded.lock(); sent && sent->mark.index >= least) return sent;
  ++stats_.snapshots_encoded;
  auto made = std::make_shared<const Encoded>(
      Encoded{from.raft->mark(), SharedBytes(from.machine->snapshot())});
  from.encoded = made;
  return made;
}

std::vector<Bytes> MultiRaft::snapshots() {
  std::vector<Bytes> out;
  for (auto& [id, each] : groups_) {
    StoredGroup now;
    const raft::EntryLog& log = each.raft->log();
    now.raft.snapshot = each.raft->mark();
    now.raft.hard = each.raft->hard();
    if (log.last() > now.raft.snapshot.index) {
      now.raft.entries =
          log.slice(raft::Index(now.raft.snapshot.index.value + 1), log.last(), SIZE_MAX);
    }
    const auto sent = each.encoded.lock();
    now.content = sent && sent->mark.index == now.raft.snapshot.index
                      ? sent->content
                      : SharedBytes(each.machine->snapshot());
    each.rewritten = now.raft.snapshot;
    out.push_back(snapshot_frame(id, now));
  }
  return out;
}

io::Task<void> MultiRaft::rewrite() {
  co_await io::yield();
  if (!stopping_ && !dead_) {
    auto rewritten = co_await journal_->rewrite([this]() -> std::optional<std::vector<Bytes>> {
      catch_up();
      turn();  // the core then has nothing that was not handed out to be stored
      // A machine that was stopped within what it was given is as of no entry that the core knows.
      if (dead_ && !PYRALOG_PLANT("multiraft.rewrite_when_dead")) return std::nullopt;
      // What waits for room would be written behind the snapshot that has it already, and entries
      // that it had replaced would come back.
      if (!frames_.empty() && !PYRALOG_PLANT("multiraft.rewrite_past_what_waits"))
        return std::nullopt;
      return snapshots();
    });
    // What is itself large is not rewritten all the time, nor is a failure tried at every frame.
    rewrite_at_ = journal_->size_bytes() + options_.rewrite_bytes;
    if (!rewritten && journal_->dead()) {
      die(rewritten.error());
    } else if (rewritten) {
      ++stats_.rewrites;
      rewrite_at_ = std::max(options_.rewrite_bytes, 2 * journal_->size_bytes());
      for (auto& [id, each] : groups_) {
        if (PYRALOG_PLANT("multiraft.keep_everything")) continue;
        each.raft->compact(each.rewritten, options_.keep);
      }
    }
  }
  rewriting_ = false;
}

}  // namespace pyralog::multiraft
