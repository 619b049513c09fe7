#include <unistd.h>

#include <csignal>
#include <memory>
#include <utility>
#include <vector>

#include "base/json.h"
#include "cli/handlers.h"
#include "cli/settings_from.h"
#include "io/pools.h"
#include "io/posix/runtime.h"
#include "observe/log.h"
#include "server/node.h"

namespace pyralog::cli {

namespace {

constexpr int kEndedBySignal = 130;

std::vector<int> our_signals() { return {SIGINT, SIGTERM, SIGHUP}; }

io::posix::Options runtime_options(const server::ServerOptions& options) {
  io::posix::Options out;
  out.shards = options.shards == 0 ? options.machine.cores : static_cast<unsigned>(options.shards);
  out.sync_threads = static_cast<unsigned>(options.sync_threads);
  out.disk_threads = static_cast<unsigned>(options.disk_threads);
  out.work_threads = static_cast<unsigned>(options.work_threads);
  out.follow_readers = options.follow_readers;
  return out;
}

observe::LogOptions log_options(const server::ServerOptions& options) {
  observe::LogOptions out;
  out.json = options.log_format == "json";
  out.level = server::level_of(options);
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
struct Asked {
  bool end = false;
  bool reload = false;
  server::Node* node = nullptr;  ///< while it is there
  io::WaitList changed;
};

/// The first signal to end asks for an end in order, the second one ends the process where it stands.
io::Task<void> watch_signals(std::shared_ptr<Asked> asked) {
  while (const auto signal = co_await io::posix::next_signal(our_signals())) {
    if (*signal == SIGHUP) {
      asked->reload = true;
    } else {
      if (asked->end) ::_exit(kEndedBySignal);
      asked->end = true;
      if (asked->node != nullptr) asked->node->give_up_start();
    }
    asked->changed.wake_all();
  }
}

/// Reads the settings again; if something is wrong with them, all stays as it is.
io::Task<void> reload(server::Node& node, server::SettingSources sources) {
  auto loaded = co_await io::run_in(io::Pool::kDisk, [&sources]() -> Result<server::LoadedSettings> {
    PYRALOG_ASSIGN(auto read, server::load_settings(sources));
    PYRALOG_TRY(server::plan_listeners(read.options));
    return read;
  });
  Result<void> done;
  if (!loaded) {
    done = fail(std::move(loaded.error()));
  } else {
    done = co_await node.reload(std::move(loaded->options));
  }
  if (!done) observe::log_error("server.reload_failed", {{"reason", done.error()}});
}

io::Task<Result<void>> run_node(io::Shards shards, server::ServerOptions options,
                                server::SettingSources sources, bool as_json, Console& console) {
  auto asked = std::make_shared<Asked>();
  io::spawn_on(io::Shard::current(), [asked] { return watch_signals(asked); });
  server::Node node(std::move(shards), std::move(options));
  asked->node = &node;
  const auto started = co_await node.start();
  asked->node = nullptr;
  if (!started) {
    auto stopped = co_await node.stop();
    if (asked->end && started.error().code == Code::kCancelled) co_return stopped;
    co_return fail(started.error());
  }
  print(console.out, ready_line(node, as_json));
  std::fflush(console.out);
  while (!asked->end) {
    if (std::exchange(asked->reload, false)) {
      co_await reload(node, sources);
    } else {
      co_await asked->changed.wait(Instant::never());
    }
  }
  co_return co_await node.stop();
}

}  // namespace

Outcome serve(const Args& args, Console& console) {
  const server::SettingSources sources = sources_from(args);
  const auto loaded = server::load_settings(sources);
  if (!loaded) return std::unexpected<Failure>(Failure(loaded.error(), 2));
  if (const auto plan = server::plan_listeners(loaded->options); !plan) {
    return std::unexpected<Failure>(Failure(plan.error(), 2));
  }
  if (const auto fine = check_secret(loaded->options); !fine) {
    return std::unexpected<Failure>(Failure(fine.error(), 2));
  }
  io::posix::block_signals(our_signals());
  PYRALOG_TRY(io::posix::raise_open_file_limit());
  observe::start_logging(log_options(loaded->options));
  io::posix::Runtime runtime(runtime_options(loaded->options));
  if (auto started = runtime.start(); !started) {
    observe::stop_logging();
    return std::unexpected<Failure>(started.error());
  }
  const auto ended = runtime.run([&runtime, &loaded, &sources, &args, &console] {
    return run_node(runtime.shards(), loaded->options, sources, args.flag("json"), console);
  });
  runtime.stop();
  observe::stop_logging();
  PYRALOG_TRY(ended);
  return {};
}

}  // namespace pyralog::cli
