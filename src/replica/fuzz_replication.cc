// A follower and a leader that are sent anything: never a crash, no promise broken, nothing that is
// known to be committed cut.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>

#include "base/assert.h"
#include "replica/following.h"
#include "replica/leading.h"
#include "replica/promise.h"

namespace {

using namespace pyralog;

/// Small numbers, so that they meet; now and then any.
std::int64_t number(Reader& in) {
  const auto byte = in.le<std::uint8_t>();
  return byte == 255 ? in.le<std::int64_t>() : byte % 32;
}
Epoch epoch(Reader& in) {
  return Epoch(static_cast<std::uint32_t>(number(in)));
}

replica::Append append(Reader& in) {
  replica::Append a;
  a.epoch = epoch(in);
  a.start = Offset(number(in));
  a.leader = NodeId(1);
  a.to_boot = static_cast<std::uint64_t>(number(in) % 3);
  a.previous = epoch(in);
  a.base = Offset(number(in));
  a.end = Offset(number(in));
  for (std::int64_t runs = number(in) % 4; runs > 0; --runs) {
    a.runs.push_back({epoch(in), Offset(number(in))});
  }
  a.high_watermark = Offset(number(in));
  a.log_start = Offset(number(in));
  const auto flags = in.le<std::uint8_t>();
  if ((flags & 1) != 0) a.lossy = epoch(in);
  a.active = (flags & 2) != 0;
  return a;
}

void follow(Reader& in) {
  replica::Following f({{{NodeId(2), {}}, 1}, {}, replica::History(), Offset(0), false});
  std::deque<replica::Promise> storing;
  bool cutting = false;
  while (in.ok() && in.left() > 0 && !f.broken()) {
    const replica::Promise before = f.promise();
    const Offset committed = f.high_watermark();
    replica::Following::Effects out;
    bool lossy = false;
    switch (in.le<std::uint8_t>() % 5) {
      case 0: {
        const replica::Append a = append(in);
        out = f.append(a);
        lossy = a.lossy.value != 0;
        if (out.take) PYRALOG_ASSERT(a.epoch == f.promise().promised && a.end == f.log().end());
        break;
      }
      case 1:
        out = f.seal({epoch(in), NodeId(3)});
        break;
      case 2:
        if (storing.empty()) break;
        out = f.stored(storing.front());
        storing.pop_front();
        break;
      case 3:
        if (!cutting) break;
        cutting = false;
        lossy = true;  // it was allowed when it was asked for
        out = f.cut_done();
        break;
      default:
        out = f.stable(f.log().end());
        break;
    }
    if (out.store) storing.push_back(*out.store);
    if (out.cut) {
      PYRALOG_ASSERT(!cutting && (lossy || out.cut->to >= committed));
      cutting = true;
    }
    PYRALOG_ASSERT(f.promise().promised >= before.promised);
    PYRALOG_ASSERT(f.promise().joined <= f.promise().promised);
    PYRALOG_ASSERT(lossy || f.high_watermark() >= committed);
    PYRALOG_ASSERT(f.high_watermark() <= f.log().end() && f.stable_end() <= f.log().end());
    if (out.sealed && out.sealed->promised == out.sealed->epoch) PYRALOG_ASSERT(storing.empty());
  }
}

void lead(Reader& in) {
  replica::Leading::Term term;
  term.epoch = Epoch(4);
  for (std::int32_t i = 1; i <= 3; ++i) term.replicas.push_back({NodeId(i), {}});
  term.write_quorum = 2;
  term.self = {term.replicas.front(), 1};
  replica::Leading leading(term, replica::History(), {}, Instant{});
  leading.activated(Instant{});
  Instant now;
  while (in.ok() && in.left() > 0) {
    now = now + std::chrono::milliseconds(number(in) & 255);
    const NodeId node(static_cast<std::int32_t>(number(in) % 5));
    const Offset before = leading.high_watermark();
    switch (in.le<std::uint8_t>() % 5) {
      case 0: {
        replica::AppendReply r;
        r.kind = static_cast<replica::AppendReply::Kind>(in.le<std::uint8_t>() % 4);
        r.epoch = epoch(in);
        r.from = {{node, {}}, static_cast<std::uint64_t>(number(in))};
        r.log_start = Offset(number(in));
        r.log_end = Offset(number(in));
        r.stable_end = Offset(number(in));
        r.joined = epoch(in);
        r.tail = {epoch(in), Offset(number(in))};
        if (!leading.heard_again(r, now)) leading.received(r, now);
        break;
      }
      case 1: {
        auto next = leading.next(node, now);
        if (!next) break;
        replica::Append& a = next->message;
        if (next->max_bytes > 0) a.end = std::min(Offset(a.base.value + 3), leading.log().end());
        a.runs = leading.log().runs(a.base, a.end);
        leading.sent(node, a, 100, now);
        break;
      }
      case 2:
        if (leading.may_accept(now)) leading.appended(Offset(leading.log().end().value + 2), now);
        break;
      case 3:
        leading.stable(leading.log().end());
        break;
      default:
        leading.link_down(node);
        leading.link_up(node, now);
        (void)leading.heartbeats();
        break;
    }
    PYRALOG_ASSERT(leading.high_watermark() >= before);
    PYRALOG_ASSERT(leading.high_watermark() <= leading.log().end());
    PYRALOG_ASSERT(leading.holders() <= 3);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView bytes(data, size);
  const auto frame = replica::decode_promise(bytes);
  if (frame) PYRALOG_ASSERT(replica::decode_promise(replica::encode(*frame)) == *frame);
  Reader in(bytes);
  if (in.le<std::uint8_t>() % 2 == 0) {
    follow(in);
  } else {
    lead(in);
  }
  return 0;
}
