#include <charconv>

#include "base/json.h"
#include "cli/handlers.h"
#include "cli/with_client.h"
#include "io/disk.h"
#include "io/shard.h"
#include "obelisk/ceiling_file.h"
#include "obelisk/scarab.h"
#include "obelisk/scarab_generator.h"
#include "obelisk/sequencer.h"

namespace pyralog::cli {

namespace {

struct IdPlan {
  std::string file;
  bool counter = false;
  obelisk::Mode mode = obelisk::Mode::kLease;
  std::uint16_t machine = 0;
  std::uint64_t count = 1;
};

Result<IdPlan> plan_of(const Args& args) {
  IdPlan plan;
  plan.file = args.text("file");
  plan.counter = args.flag("counter");
  PYRALOG_ASSIGN(plan.mode, obelisk::parse_mode(args.text("mode", "lease")));
  PYRALOG_ASSIGN(const auto machine, args.number("machine", 0, 0, obelisk::kScarabMachines - 1));
  plan.machine = static_cast<std::uint16_t>(machine);
  PYRALOG_ASSIGN(const auto count, args.number("count", 1, 1, 1'000'000'000));
  plan.count = static_cast<std::uint64_t>(count);
  return plan;
}

/// Writes ids as they come: one a line, or the elements of a JSON array.
class IdPrinter {
 public:
  IdPrinter(Console& console, bool as_json) : console_(console), as_json_(as_json) {}
  void add(std::uint64_t id) {
    if (as_json_) {
      text_ += first_ ? "[" : ",";
      first_ = false;
    }
    // In quotes, because many JSON readers round what is beyond 2^53.
    const std::string quote = as_json_ ? "\"" : "";
    text_ += quote + std::to_string(id) + quote;
    if (!as_json_) text_ += '\n';
    if (text_.size() > kFlushAt) flush();
  }
  void finish() {
    if (as_json_) text_ += first_ ? "[]\n" : "]\n";
    flush();
  }

 private:
  static constexpr std::size_t kFlushAt = 64u << 10;
  void flush() {
    print(console_.out, text_);
    text_.clear();
  }
  Console& console_;
  bool as_json_;
  bool first_ = true;
  std::string text_;
};

io::Task<Result<void>> counter_ids(IdPlan plan, IdPrinter& printer) {
  obelisk::Header header;
  header.mode = plan.mode;
  obelisk::SequencerOptions options;
  options.renew_early = false;
  options.lease = plan.count;
  PYRALOG_CO_ASSIGN(auto sequencer,
                    co_await obelisk::ObeliskSequencer::open_or_create(plan.file, header, options));
  const auto first = co_await sequencer->take(plan.count);
  co_await sequencer->close();
  if (!first) co_return fail(first.error());
  for (std::uint64_t i = 0; i < plan.count; ++i) printer.add(*first + i);
  co_return Result<void>();
}

io::Task<Result<void>> scarab_ids(IdPlan plan, IdPrinter& printer) {
  PYRALOG_CO_ASSIGN(auto generator,
                    co_await obelisk::ScarabGenerator::open_or_create(plan.file, plan.machine));
  Result<void> result;
  for (std::uint64_t left = plan.count; left > 0 && result;) {
    const std::uint64_t step = std::min(left, obelisk::kScarabMaxBatch);
    const auto range = co_await generator->next(step);
    if (!range) {
      result = fail(range.error());
      break;
    }
    for (std::uint64_t i = 0; i < range->size(); ++i) printer.add((*range)[i].value);
    left -= step;
  }
  co_await generator->close();
  co_return result;
}

Outcome issue(const Args& args, Console& console) {
  const auto plan = plan_of(args);
  if (!plan) return usage(plan.error().message);
  IdPrinter printer(console, args.flag("json"));
  PYRALOG_TRY([&]() -> Result<void> {
    auto outcome = with_runtime(
        [&] { return plan->counter ? counter_ids(*plan, printer) : scarab_ids(*plan, printer); });
    if (!outcome) return fail(outcome.error().error);
    return {};
  }());
  printer.finish();
  return {};
}

std::string inspection_text(const std::string& file, const obelisk::Inspection& seen,
                            bool as_json) {
  if (as_json) {
    JsonWriter json;
    json.object()
        .field("file", file)
        .field("mode", obelisk::name(seen.header.mode))
        .field("granule", seen.header.granule)
        .field("base", seen.header.base)
        .field("ceiling", seen.ceiling)
        .field("machine", seen.header.machine_id)
        .field("namespace", seen.header.name_space)
        .field("generation", seen.header.generation)
        .field("cluster", to_string(seen.header.cluster))
        .field("bytes", seen.file_bytes)
        .end();
    return json.take() + "\n";
  }
  return file + "  mode " + obelisk::name(seen.header.mode) + "  base " +
         std::to_string(seen.header.base) + "  nothing issued at or above " +
         std::to_string(seen.ceiling) + "  machine " + std::to_string(seen.header.machine_id) +
         "  generation " + std::to_string(seen.header.generation) + "\n";
}

std::string id_text(std::uint64_t id, bool as_json) {
  const auto parts = obelisk::scarab_parts(obelisk::ScarabId(id));
  const auto unix_ms = static_cast<std::int64_t>(parts.ms) + obelisk::kScarabEpochMs;
  if (as_json) {
    JsonWriter json;
    json.object()
        .field("id", std::to_string(id))
        .field("unix_ms", unix_ms)
        .field("machine", parts.machine)
        .field("sequence", parts.sequence)
        .end();
    return json.take() + "\n";
  }
  return "id " + std::to_string(id) + "  issued at " + std::to_string(unix_ms) + " ms since 1970" +
         "  machine " + std::to_string(parts.machine) + "  sequence " +
         std::to_string(parts.sequence) + "\n";
}

}  // namespace

Outcome id_next(const Args& args, Console& console) {
  return issue(args, console);
}

Outcome id_batch(const Args& args, Console& console) {
  return issue(args, console);
}

Outcome id_inspect(const Args& args, Console& console) {
  if (!args.has("file") && !args.has("ID")) {
    return usage("id inspect: names nothing; give --file FILE or an ID");
  }
  if (args.has("ID")) {
    const std::string text = args.text("ID");
    std::uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) {
      return usage("id \"" + text + "\": is no whole number");
    }
    print(console.out, id_text(id, args.flag("json")));
  }
  if (!args.has("file")) return {};
  return with_runtime([&]() -> io::Task<Result<void>> {
    PYRALOG_CO_ASSIGN(const auto seen,
                      co_await obelisk::inspect(io::Shard::current().disk(), args.text("file")));
    print(console.out, inspection_text(args.text("file"), seen, args.flag("json")));
    co_return Result<void>();
  });
}

}  // namespace pyralog::cli
