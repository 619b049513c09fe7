#include <unistd.h>

#include <csignal>
#include <memory>

#include "base/json.h"
#include "cli/handlers.h"
#include "cli/settings_from.h"
#include "io/posix/runtime.h"
#include "observe/log.h"
#include "server/node.h"

namespace pyralog::cli {

namespace {

constexpr int kEndedBySignal = 130;

io::posix::Options runtime_options(const server::ServerOptions& options) {
  io::posix::Options out;
  out.shards = options.shards == 0 ? options.machine.cores : static_cast<unsigned>(options.shards);
  out.sync_threads = static_cast<unsigned>(options.sync_threads);
  out.disk_threads = static_cast<unsigned>(options.disk_threads);
  out.work_threads = static_cast<unsigned>(options.work_threads);
  return out;
}

observe::LogOptions log_options(const server::ServerOptions& options) {
  observe::LogOptions out;
  out.json = options.log_format == "json";
  if (options.log_level == "debug") out.level = observe::Level::kDebug;
  if (options.log_level == "warn") out.level = observe::Level::kWarn;
  if (options.log_level == "error") out.level = observe::Level::kError;
  return out;
}

std::string ready_line(const server::Node& node, bool as_json) {
  if (as_json) {
    JsonWriter json;
    json.object().field("ready", true);
    if (node.kafka()) json.field("kafka", io::to_string(*node.kafka()));
    if (node.http()) json.field("http", io::to_string(*node.http()));
    return json.end().take() + "\n";
  }
  std::string line = "ready";
  if (node.kafka()) line += " kafka=" + io::to_string(*node.kafka());
  if (node.http()) line += " http=" + io::to_string(*node.http());
  return line + "\n";
}

/// What the signals have asked for; shared with the coroutine that waits for them.
struct Ending {
  bool asked = false;
  io::WaitList changed;
};

/// The first signal asks for an end in order, the second one ends the process where it stands.
io::Task<void> watch_signals(std::shared_ptr<Ending> ending) {
  while (co_await io::posix::next_signal({SIGINT, SIGTERM})) {
    if (ending->asked) ::_exit(kEndedBySignal);
    ending->asked = true;
    ending->changed.wake_all();
  }
}

io::Task<Result<void>> run_node(io::Shards shards, server::ServerOptions options, bool as_json,
                                Console& console) {
  auto ending = std::make_shared<Ending>();
  io::spawn_on(io::Shard::current(), [ending] { return watch_signals(ending); });
  server::Node node(std::move(shards), std::move(options));
  const auto started = co_await node.start();
  if (!started) {
    (void)co_await node.stop();
    co_return fail(started.error());
  }
  print(console.out, ready_line(node, as_json));
  std::fflush(console.out);
  while (!ending->asked) co_await ending->changed.wait(Instant::never());
  co_return co_await node.stop();
}

}  // namespace

Outcome serve(const Args& args, Console& console) {
  const auto loaded = server::load_settings(sources_from(args));
  if (!loaded) return std::unexpected<Failure>(Failure(loaded.error(), 2));
  if (const auto plan = server::plan_listeners(loaded->options); !plan) {
    return std::unexpected<Failure>(Failure(plan.error(), 2));
  }
  io::posix::block_signals({SIGINT, SIGTERM});
  PYRALOG_TRY(io::posix::raise_open_file_limit());
  observe::start_logging(log_options(loaded->options));
  io::posix::Runtime runtime(runtime_options(loaded->options));
  if (auto started = runtime.start(); !started) {
    observe::stop_logging();
    return std::unexpected<Failure>(started.error());
  }
  const auto ended = runtime.run([&runtime, &loaded, &args, &console] {
    return run_node(runtime.shards(), loaded->options, args.flag("json"), console);
  });
  runtime.stop();
  observe::stop_logging();
  PYRALOG_TRY(ended);
  return {};
}

}  // namespace pyralog::cli
