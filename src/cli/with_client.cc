#include "cli/with_client.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "io/posix/runtime.h"

namespace pyralog::cli {

namespace {

std::string bootstrap_of(const Args& args) {
  const char* environment = std::getenv("PYRALOG_BOOTSTRAP");
  const std::string otherwise =
      environment != nullptr && *environment != '\0' ? environment : "127.0.0.1:9092";
  return args.text(args.has("server") ? "server" : "bootstrap", otherwise);
}

io::Task<Result<void>> run_body(client::ClusterOptions options, Duration timeout,
                                const ClientBody& body) {
  client::Cluster cluster(std::move(options));
  auto result = co_await body(cluster, io::Shard::current().now() + timeout);
  co_await cluster.close();
  co_return result;
}

}  // namespace

io::Task<void> on_interrupt(std::function<void()> first) {
  if (!co_await io::posix::next_signal({SIGINT, SIGTERM})) co_return;
  first();
  if (co_await io::posix::next_signal({SIGINT, SIGTERM})) ::_exit(130);
}

Outcome with_runtime(LocalBody body) {
  io::posix::Options options;
  options.sync_threads = 1;
  options.disk_threads = 1;
  options.work_threads = 1;
  io::posix::Runtime runtime(options);
  PYRALOG_TRY(runtime.start());
  auto result = runtime.run([&body] { return body(); });
  runtime.stop();
  PYRALOG_TRY(std::move(result));
  return {};
}

Outcome with_client(const Args& args, ClientBody body, Duration otherwise) {
  client::ClusterOptions options;
  auto bootstrap = client::parse_bootstrap(bootstrap_of(args));
  if (!bootstrap) return usage("bootstrap: " + bootstrap.error().message);
  options.bootstrap = std::move(*bootstrap);
  options.connection.client_id = "pyralog-cli";
  const auto timeout = args.duration("timeout", otherwise);
  if (!timeout) return usage(timeout.error().message);
  return with_runtime([&] { return run_body(options, *timeout, body); });
}

}  // namespace pyralog::cli
