// Ids and counters that servers issue.
#include <algorithm>

#include "base/json.h"
#include "cli/handlers.h"
#include "cli/with_client.h"
#include "client/ids.h"

namespace pyralog::cli {

namespace {

/// Numbers as they come: one a line, or the elements of a JSON array, in quotes because many JSON
/// readers round what is beyond 2^53.
class Numbers {
 public:
  Numbers(Console& console, bool as_json) : console_(console), as_json_(as_json) {}
  void add(std::uint64_t number) {
    const std::string text = std::to_string(number);
    if (as_json_) {
      text_ += (first_ ? "[\"" : ",\"") + text + "\"";
    } else {
      text_ += text + "\n";
    }
    first_ = false;
    if (text_.size() > kFlushAt) flush();
  }
  void flush() {
    print(console_.out, text_);
    std::fflush(console_.out);
    text_.clear();
  }
  void finish() {
    if (as_json_) text_ += first_ ? "[]\n" : "]\n";
    flush();
  }

 private:
  static constexpr std::size_t kFlushAt = 64u << 10;
  Console& console_;
  bool as_json_;
  bool first_ = true;
  std::string text_;
};

io::Task<Result<void>> issue_ids(client::Cluster& cluster, std::uint64_t count,
                                 std::uint64_t at_once, Duration patience, Numbers& out) {
  client::Ids ids(cluster);
  while (count > 0) {
    const Instant deadline = io::Shard::current().now() + patience;
    PYRALOG_CO_ASSIGN(const auto got, co_await ids.next_ids(std::min(count, at_once), deadline));
    for (std::uint64_t i = 0; i < got.size(); ++i) out.add(got[i].value);
    out.flush();
    count -= got.size();
  }
  out.finish();
  co_return Result<void>();
}

}  // namespace

Outcome ids_next(const Args& args, Console& console) {
  const auto count = args.number("count", 1, 1, 1'000'000'000);
  if (!count) return usage("ids next: " + count.error().message);
  const auto most = static_cast<std::int64_t>(obelisk::kScarabMaxBatch);
  const auto at_once = args.number("at-once", 1'000, 1, most);
  if (!at_once) return usage("ids next: " + at_once.error().message);
  const auto patience = args.duration("timeout", kInAMoment);
  if (!patience) return usage(patience.error().message);
  Numbers out(console, args.flag("json"));
  return with_client(args, [&](client::Cluster& cluster, Instant) {
    return issue_ids(cluster, static_cast<std::uint64_t>(*count),
                     static_cast<std::uint64_t>(*at_once), *patience, out);
  });
}

Outcome counter_next(const Args& args, Console& console) {
  const auto count = args.number("count", 1, 1, 1'000'000);
  if (!count) return usage("counter next: " + count.error().message);
  return with_client(
      args, [&](client::Cluster& cluster, Instant deadline) -> io::Task<Result<void>> {
        client::Ids ids(cluster);
        PYRALOG_CO_ASSIGN(
            const std::int64_t first,
            co_await ids.next_counter(args.text("NAME"), static_cast<std::int32_t>(*count),
                                      args.flag("strict"), deadline));
        Numbers out(console, args.flag("json"));
        for (std::int64_t i = 0; i < *count; ++i) out.add(static_cast<std::uint64_t>(first + i));
        out.finish();
        co_return Result<void>();
      });
}

}  // namespace pyralog::cli
