#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>

#include "base/json.h"
#include "cli/handlers.h"
#include "cli/with_client.h"
#include "client/producer.h"
#include "io/pools.h"
#include "io/posix/runtime.h"

namespace pyralog::cli {

namespace {

constexpr std::size_t kReadBytes = 256u << 10;
constexpr std::size_t kMaxLine = 100u << 20;
constexpr int kPollMs = 200;

struct Plan {
  client::ProducerOptions producer;
  std::string topic;
  std::optional<std::int32_t> partition;
  std::string separator;
  std::optional<std::string> null_value;
  std::vector<std::pair<std::string, std::string>> headers;
  bool progress = false;
};

Result<Codec> parse_codec(const std::string& text) {
  for (const Codec codec :
       {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    if (text == name(codec)) return codec;
  }
  return fail(Code::kInvalidArgument, "option --codec: \"" + text + "\" is no codec");
}

Result<Plan> plan_of(const Args& args, const Console& console) {
  Plan plan;
  plan.topic = args.text("TOPIC");
  if (args.has("partition")) {
    PYRALOG_ASSIGN(const auto partition, args.number("partition", 0, 0, 1'000'000));
    plan.partition = static_cast<std::int32_t>(partition);
  }
  plan.separator = args.text("key-separator");
  if (args.has("null-value")) plan.null_value = args.text("null-value");
  PYRALOG_ASSIGN(plan.headers, args.pairs("header"));
  PYRALOG_ASSIGN(plan.producer.codec, parse_codec(args.text("codec", "none")));
  const std::string acks = args.text("acks", "all");
  plan.producer.acks = acks == "all" ? Acks::kAll : acks == "1" ? Acks::kLeader : Acks::kNone;
  PYRALOG_ASSIGN(const auto batch, args.number("batch-bytes", 262'144, 1, 100 << 20));
  plan.producer.batch_bytes = static_cast<std::size_t>(batch);
  PYRALOG_ASSIGN(plan.producer.linger, args.duration("linger", std::chrono::milliseconds(5)));
  PYRALOG_ASSIGN(plan.producer.delivery_timeout,
                 args.duration("timeout", std::chrono::seconds(30)));
  plan.progress = args.flag("progress") || (console.err_is_terminal && !args.flag("json"));
  return plan;
}

/// What has been read and sent so far; one shard's.
struct State {
  std::uint64_t sent = 0;
  std::uint64_t bytes = 0;
  std::optional<Error> error;
  bool interrupted = false;
  bool done = false;
  io::WaitList changed;
};

Bytes to_bytes(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

client::ProducerRecord record_of(const Plan& plan, std::string_view line) {
  client::ProducerRecord record;
  record.topic = plan.topic;
  record.partition = plan.partition;
  const std::size_t at =
      plan.separator.empty() ? std::string_view::npos : line.find(plan.separator);
  if (at != std::string_view::npos) {
    record.key = to_bytes(line.substr(0, at));
    line.remove_prefix(at + plan.separator.size());
  }
  if (!plan.null_value || *plan.null_value != line) record.value = to_bytes(line);
  for (const auto& [name, value] : plan.headers) record.headers.emplace_back(name, to_bytes(value));
  return record;
}

/// Some bytes of `fd`; empty at its end; nullopt if there are none yet.
Result<std::optional<std::string>> read_some(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  const int ready = ::poll(&waiting, 1, kPollMs);
  if (ready == 0 || (ready < 0 && errno == EINTR)) return std::nullopt;
  std::string chunk(kReadBytes, '\0');
  const ssize_t got = ::read(fd, chunk.data(), chunk.size());
  if (got < 0 && errno == EINTR) return std::nullopt;
  if (got < 0) {
    return fail(Code::kIo, std::string("input: cannot be read: ") + std::strerror(errno), errno);
  }
  chunk.resize(static_cast<std::size_t>(got));
  return chunk;
}

io::Task<Result<void>> send_line(client::Producer& producer, const Plan& plan,
                                 std::shared_ptr<State> state, std::string line) {
  ++state->sent;
  state->bytes += line.size();
  co_return co_await producer.send(record_of(plan, line),
                                   [state](const Result<client::Delivery>& result) {
                                     if (!result && !state->error) state->error = result.error();
                                   });
}

io::Task<Result<void>> send_lines(client::Producer& producer, const Plan& plan,
                                  std::shared_ptr<State> state, int fd) {
  std::string rest;
  while (!state->interrupted && !state->error) {
    auto chunk = co_await io::run_in(io::Pool::kWork, [fd] { return read_some(fd); });
    if (!chunk) co_return fail(chunk.error());
    if (!*chunk) continue;
    if ((*chunk)->empty()) break;
    rest += **chunk;
    std::size_t begin = 0;
    for (std::size_t end = rest.find('\n'); end != std::string::npos && !state->error;
         end = rest.find('\n', begin)) {
      PYRALOG_CO_TRY(co_await send_line(producer, plan, state, rest.substr(begin, end - begin)));
      begin = end + 1;
    }
    rest.erase(0, begin);
    if (rest.size() > kMaxLine) {
      co_return fail(Code::kTooLarge, "input: a line is longer than 100 MiB; split it");
    }
  }
  if (!rest.empty() && !state->interrupted && !state->error) {
    PYRALOG_CO_TRY(co_await send_line(producer, plan, state, rest));
  }
  co_return Result<void>();
}

std::string progress_line(const client::Producer& producer, const State& state, double seconds) {
  char text[160];
  const double rate = seconds > 0 ? static_cast<double>(producer.acknowledged()) / seconds : 0;
  std::snprintf(text, sizeof text, "%llu read, %llu acknowledged, %.1f MB, %.0f records/s",
                static_cast<unsigned long long>(state.sent),
                static_cast<unsigned long long>(producer.acknowledged()),
                static_cast<double>(state.bytes) / 1e6, rate);
  return text;
}

double seconds_since(Instant start) {
  return std::chrono::duration<double>(io::Shard::current().now() - start).count();
}

io::Task<void> show_progress(client::Producer& producer, std::shared_ptr<State> state,
                             Console& console) {
  const Instant start = io::Shard::current().now();
  const char* end = console.err_is_terminal ? "\r" : "\n";
  while (!state->done) {
    if (co_await state->changed.wait(io::Shard::current().now() + 1s)) continue;
    print(console.err, progress_line(producer, *state, seconds_since(start)) + end);
    std::fflush(console.err);
  }
}

io::Task<Result<void>> produce_all(client::Cluster& cluster, const Plan& plan, int fd, bool as_json,
                                   Console& console) {
  auto state = std::make_shared<State>();
  io::spawn_on(io::Shard::current(),
               [state] { return on_interrupt([state] { state->interrupted = true; }); });
  client::Producer producer(cluster, plan.producer);
  io::TaskGroup tasks;
  if (plan.progress) tasks.spawn(show_progress(producer, state, console));
  const Instant start = io::Shard::current().now();
  auto sent = co_await send_lines(producer, plan, state, fd);
  const auto flushed = co_await producer.flush();
  const double seconds = seconds_since(start);
  co_await producer.close();
  state->done = true;
  state->changed.wake_all();
  co_await tasks.join();
  if (plan.progress) {
    print(console.err, progress_line(producer, *state, seconds) + "        \n");
  }
  if (as_json) {
    JsonWriter json;
    json.object()
        .field("topic", plan.topic)
        .field("records", state->sent)
        .field("acknowledged", producer.acknowledged())
        .field("failed", producer.failed())
        .field("bytes", state->bytes)
        .field("seconds", seconds)
        .end();
    print(console.out, json.text() + "\n");
  }
  PYRALOG_CO_TRY(std::move(sent));
  if (!flushed) {
    co_return fail(flushed.error().code,
                   flushed.error().message + " (" + std::to_string(producer.acknowledged()) +
                       " of " + std::to_string(state->sent) + " records were acknowledged)");
  }
  if (state->interrupted) co_return fail(Code::kCancelled, "produce: interrupted");
  co_return Result<void>();
}

}  // namespace

Outcome produce(const Args& args, Console& console) {
  const auto plan = plan_of(args, console);
  if (!plan) return usage(plan.error().message);
  std::FILE* file = console.in;
  if (args.has("file")) {
    file = std::fopen(args.text("file").c_str(), "rbe");
    if (file == nullptr) {
      return std::unexpected<Failure>(Error{
          Code::kIo, args.text("file") + ": cannot be opened: " + std::strerror(errno), errno});
    }
  }
  io::posix::block_signals({SIGINT, SIGTERM});
  auto outcome = with_client(args, [&](client::Cluster& cluster, Instant) {
    return produce_all(cluster, *plan, ::fileno(file), args.flag("json"), console);
  });
  if (file != console.in) std::fclose(file);
  return outcome;
}

}  // namespace pyralog::cli
