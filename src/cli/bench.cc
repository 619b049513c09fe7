// `pyralog bench`: how fast a server is, by the client that the other commands use.
#include <algorithm>
#include <csignal>
#include <memory>

#include "cli/bench_report.h"
#include "cli/handlers.h"
#include "cli/with_client.h"
#include "client/consumer.h"
#include "client/offsets.h"
#include "client/producer.h"
#include "io/posix/runtime.h"

namespace pyralog::cli {

namespace {

constexpr std::size_t kStampBytes = 16;  ///< of a value: when it was due, and the run's number
constexpr std::uint64_t kTurn = 64;      ///< records between two looks at the event loop
constexpr Duration kPatience = 10s;      ///< for the last records to arrive

struct Plan {
  std::string topic;
  std::size_t bytes = 100;
  std::uint64_t records = UINT64_MAX;
  Duration span{};  ///< 0 = until all records are moved
  double rate = 0;  ///< records a second; 0 = as fast as it goes
  std::uint64_t in_flight = UINT64_MAX;  ///< records that may wait for their acknowledgement
  client::ProducerOptions producer;
  bool from_end = false;
  bool progress = false;
  bool as_json = false;
};

Result<void> plan_load(Plan& plan, const Args& args, std::int64_t least_bytes) {
  PYRALOG_ASSIGN(const auto bytes, args.number("size", 100, least_bytes, 64 << 20));
  plan.bytes = static_cast<std::size_t>(bytes);
  const std::string acks = args.text("acks", "all");
  plan.producer.acks = acks == "all" ? Acks::kAll : acks == "1" ? Acks::kLeader : Acks::kNone;
  PYRALOG_ASSIGN(const auto batch, args.number("batch-bytes", 262'144, 1, 100 << 20));
  plan.producer.batch_bytes = static_cast<std::size_t>(batch);
  PYRALOG_ASSIGN(plan.producer.linger, args.duration("linger", 0ms));
  PYRALOG_ASSIGN(const auto buffer, args.number("buffer-bytes", 8 << 20, 1 << 10, 1 << 30));
  plan.producer.buffer_bytes = static_cast<std::size_t>(buffer);
  for (const Codec codec : {Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd}) {
    if (args.text("codec", "none") == name(codec)) plan.producer.codec = codec;
  }
  return {};
}

Result<Plan> plan_of(const Args& args, const Console& console) {
  Plan plan;
  plan.topic = args.text("TOPIC");
  if (args.has("records")) {
    PYRALOG_ASSIGN(const auto records, args.number("records", 0, 1, INT64_MAX));
    plan.records = static_cast<std::uint64_t>(records);
  }
  PYRALOG_ASSIGN(plan.span, args.duration("for", args.has("records") ? Duration{} : 10s));
  if (args.has("for") && plan.span == Duration{}) {
    return fail(Code::kInvalidArgument, "option --for: must be longer than 0");
  }
  PYRALOG_ASSIGN(const auto rate, args.number("rate", 0, 1, 100'000'000));
  plan.rate = static_cast<double>(rate);
  plan.as_json = args.flag("json");
  plan.progress = args.flag("progress") || (console.err_is_terminal && !plan.as_json);
  return plan;
}

/// One run; one shard's. Callbacks of the producer hold on to it.
struct Run {
  Instant start;
  std::uint64_t sent = 0;
  Moved moved;  ///< acknowledged, or read
  observe::HistogramData acknowledged;
  observe::HistogramData arrived;
  std::uint64_t received = 0;
  std::optional<Error> error;
  bool interrupted = false;
  bool done = false;
  client::Producer* producer = nullptr;  ///< while there is one
  io::WaitList changed;                  ///< something has arrived, or it is over
  std::uint64_t answered = 0;            ///< of those sent, whatever the answer
  io::WaitList answer;
  io::WaitList over;

  [[nodiscard]] bool goes_on(const Plan& plan, Instant now) const {
    return !interrupted && !error && sent < plan.records &&
           (plan.span == Duration{} || now - start < plan.span);
  }
  [[nodiscard]] Moved moved_by(Instant now) const {
    Moved all = moved;
    all.seconds = static_cast<double>((now - start).count()) / 1e9;
    return all;
  }
};

/// Before anything is asked of a server, so that an interrupt ends the run from its first moment on.
std::shared_ptr<Run> new_run() {
  auto run = std::make_shared<Run>();
  io::spawn_on(io::Shard::current(), [run] {
    return on_interrupt([run] {
      // A second one ends the process.
      run->interrupted = true;
      if (run->producer != nullptr) run->producer->abandon();
      run->changed.wake_all();
      run->answer.wake_all();
    });
  });
  return run;
}

io::Task<void> show_progress(const Plan& plan, std::shared_ptr<Run> run, Console& console) {
  const char* end = console.err_is_terminal ? "        \r" : "\n";
  while (plan.progress && !run->done) {
    (void)co_await run->over.wait(io::Shard::current().now() + 1s);
    if (run->done) break;
    print(console.err, moved_text(run->moved_by(io::Shard::current().now())) + end);
    std::fflush(console.err);
  }
}

io::Task<void> finish(std::shared_ptr<Run> run, io::TaskGroup& tasks) {
  run->done = true;
  run->producer = nullptr;
  run->changed.wake_all();
  run->over.wake_all();
  co_await tasks.join();
}

/// Sends as the plan says. Without a rate a record is due when it is sent.
io::Task<Result<void>> send_records(client::Producer& producer, const Plan& plan,
                                    std::shared_ptr<Run> run, std::uint64_t stamp) {
  io::Shard& shard = io::Shard::current();
  const std::vector<Bytes> values = bench_values(plan.bytes, shard.rng().next());
  const Schedule schedule(run->start, plan.rate > 0 ? plan.rate : 1);
  // On a schedule all that is due within the time is sent, however late: else a stall at the end, or a
  // full buffer, would take the slowest records out of the figures.
  std::uint64_t records = plan.records;
  if (plan.rate > 0 && plan.span > Duration{}) {
    records = std::min(records, schedule.due_by(run->start + plan.span - Duration(1)));
  }
  while (!run->interrupted && !run->error && run->sent < records) {
    if (run->sent - run->answered >= plan.in_flight) {
      (void)co_await run->answer.wait(Instant::never());
      continue;
    }
    Instant due = shard.now();
    if (plan.rate > 0) {
      due = schedule.due(run->sent);
      if (due > shard.now()) {
        (void)co_await run->over.wait(due);
        continue;
      }
    } else if (!run->goes_on(plan, due)) {
      break;
    }
    client::ProducerRecord record;
    record.topic = plan.topic;
    record.value = values[run->sent % values.size()];
    if (plan.bytes >= kStampBytes) {
      store_be(record.value->data(), due.ns);
      store_be(record.value->data() + 8, stamp);
    }
    ++run->sent;
    PYRALOG_CO_TRY(co_await producer.send(
        std::move(record), [run, due, bytes = plan.bytes](const Result<client::Delivery>& result) {
          ++run->answered;
          run->answer.wake_all();
          if (!result) {
            if (!run->error) run->error = result.error();
            return;
          }
          ++run->moved.records;
          run->moved.bytes += bytes;
          run->acknowledged.record(
              static_cast<std::uint64_t>((io::Shard::current().now() - due).count()));
        }));
    if (run->sent % kTurn == 0) co_await io::yield();
  }
  co_return Result<void>{};
}

void note_error(Run& run, const Result<void>& result) {
  if (!result && !run.error) run.error = result.error();
}

Result<void> report(const Plan& plan, const Run& run, bool arrivals, Console& console) {
  const bool latencies = run.acknowledged.count() > 0;
  if (plan.as_json) {
    JsonWriter json;
    json.object().field("topic", plan.topic);
    add_moved(json, run.moved);
    if (latencies) add_latency(json, "acknowledged_ms", run.acknowledged);
    if (arrivals) add_latency(json, "arrived_ms", run.arrived);
    json.end();
    print(console.out, json.text() + "\n");
  } else {
    print(console.out, moved_text(run.moved) + "\n");
    if (latencies) print(console.out, "acknowledged after " + latency_text(run.acknowledged) + "\n");
    if (arrivals) print(console.out, "arrived after      " + latency_text(run.arrived) + "\n");
  }
  if (run.interrupted) return fail(Code::kCancelled, "bench: interrupted");
  if (run.error) return fail(*run.error);
  return {};
}

io::Task<Result<void>> produce_load(client::Cluster& cluster, const Plan& plan, Instant deadline,
                                    Console& console) {
  const auto run = new_run();
  // Not a part of what is measured.
  PYRALOG_CO_TRY(co_await cluster.topic(plan.topic, true, deadline));
  client::Producer producer(cluster, plan.producer);
  run->producer = &producer;
  run->start = io::Shard::current().now();
  io::TaskGroup tasks;
  tasks.spawn(show_progress(plan, run, console));
  auto sent = co_await send_records(producer, plan, run, 0);
  const auto flushed = co_await producer.flush();
  run->moved = run->moved_by(io::Shard::current().now());
  co_await finish(run, tasks);
  co_await producer.close();
  note_error(*run, sent);
  note_error(*run, flushed);
  co_return report(plan, *run, false, console);
}

io::Task<Result<client::Offsets>> offsets_at(client::Cluster& cluster, const Plan& plan, bool create,
                                             std::int64_t time, Instant deadline) {
  PYRALOG_CO_ASSIGN(const auto info, co_await cluster.topic(plan.topic, create, deadline));
  std::map<client::TopicPartition, std::int64_t> times;
  for (const auto& each : info.partitions) times[{plan.topic, each.index}] = time;
  PYRALOG_CO_ASSIGN(const auto found,
                    co_await client::list_offsets(cluster, std::move(times), true, deadline));
  client::Offsets offsets;
  for (const auto& [partition, at] : found) offsets[partition] = at.offset;
  co_return offsets;
}

bool reached(const client::Offsets& positions, const client::Offsets& ends) {
  return std::ranges::all_of(ends, [&](const auto& end) {
    const auto at = positions.find(end.first);
    return at != positions.end() && at->second >= end.second;
  });
}

io::Task<Result<void>> consume_load(client::Cluster& cluster, const Plan& plan, Instant deadline,
                                    Console& console) {
  const auto run = new_run();
  PYRALOG_CO_ASSIGN(auto starts, co_await offsets_at(cluster, plan, false, client::kEarliestTime, deadline));
  PYRALOG_CO_ASSIGN(const auto ends, co_await offsets_at(cluster, plan, false, client::kLatestTime, deadline));
  client::ConsumerOptions options;
  options.reset = client::OffsetReset::kEarliest;  // the beginning may move meanwhile
  client::Consumer consumer(cluster, options);
  consumer.assign(plan.from_end ? ends : starts);
  run->start = io::Shard::current().now();
  io::TaskGroup tasks;
  tasks.spawn(show_progress(plan, run, console));
  while (run->goes_on(plan, io::Shard::current().now())) {
    if (!plan.from_end && plan.span == Duration{} && reached(consumer.positions(), ends)) break;
    const Instant now = io::Shard::current().now();
    const Instant until = plan.span == Duration{} ? now + 1s : std::min(now + 1s, run->start + plan.span);
    auto batches = co_await consumer.poll(until);
    if (!batches) {
      run->error = batches.error();
      break;
    }
    for (const auto& batch : *batches) {
      // Their checksums have been compared; records are not taken apart.
      run->moved.records += static_cast<std::uint64_t>(batch.header.count);
      run->moved.bytes += batch.bytes.view().size();
    }
    run->sent = run->moved.records;
  }
  run->moved = run->moved_by(io::Shard::current().now());
  co_await finish(run, tasks);
  note_error(*run, co_await consumer.close(io::Shard::current().now() + kPatience));
  co_return report(plan, *run, false, console);
}

/// Takes the records of this run as they arrive, until the sender has ended and all are there.
io::Task<void> receive(client::Consumer& consumer, std::shared_ptr<Run> run, std::uint64_t stamp) {
  while (!run->done && !run->error) {
    const auto batches = co_await consumer.poll(io::Shard::current().now() + 100ms);
    if (!batches) {
      run->error = batches.error();
      run->changed.wake_all();
      break;
    }
    const Instant now = io::Shard::current().now();
    for (const auto& batch : *batches) {
      const auto read = client::for_each_record(batch, [&](const RecordView& record) {
        if (!record.value || record.value->size() < kStampBytes) return;
        if (load_be<std::uint64_t>(record.value->data() + 8) != stamp) return;
        const Instant due{load_be<std::int64_t>(record.value->data())};
        run->arrived.record(static_cast<std::uint64_t>((now - due).count()));
        ++run->received;
      });
      if (!read) run->error = read.error();
    }
    run->changed.wake_all();
  }
}

/// Connects to all leaders. A poll does so, too, but gives up at its own end: where connecting takes longer
/// than that, on a busy machine or a long way, each would begin anew and none would come to read.
io::Task<Result<void>> connect_to_all(client::Cluster& readers, const client::Offsets& partitions,
                                      Instant deadline) {
  for (const auto& each : partitions) {
    PYRALOG_CO_TRY(co_await readers.leader(each.first, deadline));
  }
  co_return Result<void>();
}

io::Task<Result<void>> latency_load(client::Cluster& cluster, const Plan& plan, Instant deadline,
                                    Console& console) {
  const auto run = new_run();
  PYRALOG_CO_ASSIGN(auto ends, co_await offsets_at(cluster, plan, true, client::kLatestTime, deadline));
  // Answers of a connection come in order: one that waits for records would hold up acknowledgements.
  client::Cluster readers(cluster.options());
  auto connected = co_await connect_to_all(readers, ends, deadline);
  if (!connected) {
    co_await readers.close();
    co_return connected;
  }
  client::Consumer consumer(readers, {});
  consumer.assign(ends);
  // A first, empty poll, so that the first record does not pay for connecting.
  (void)co_await consumer.poll(io::Shard::current().now() + 50ms);
  const std::uint64_t stamp = io::Shard::current().rng().next();
  client::Producer producer(cluster, plan.producer);
  run->producer = &producer;
  run->start = io::Shard::current().now();
  io::TaskGroup tasks;
  tasks.spawn(show_progress(plan, run, console));
  tasks.spawn(receive(consumer, run, stamp));
  auto sent = co_await send_records(producer, plan, run, stamp);
  const auto flushed = co_await producer.flush();
  run->moved = run->moved_by(io::Shard::current().now());
  const Instant patience = io::Shard::current().now() + kPatience;
  while (run->received < run->moved.records && !run->error && !run->interrupted) {
    if (io::Shard::current().now() >= patience) break;
    (void)co_await run->changed.wait(patience);
  }
  co_await finish(run, tasks);
  co_await producer.close();
  note_error(*run, sent);
  note_error(*run, flushed);
  note_error(*run, co_await consumer.close(io::Shard::current().now() + kPatience));
  co_await readers.close();
  if (!run->error && !run->interrupted && run->received < run->moved.records) {
    run->error = Error{Code::kTimedOut, "topic \"" + plan.topic + "\": " + std::to_string(run->received) +
                                            " of " + std::to_string(run->moved.records) +
                                            " acknowledged records arrived within 10 s", 0};
  }
  co_return report(plan, *run, true, console);
}

Outcome run_bench(const Args& args, const Plan& plan, Console& console,
                  io::Task<Result<void>> (*load)(client::Cluster&, const Plan&, Instant, Console&)) {
  io::posix::block_signals({SIGINT, SIGTERM});
  return with_client(args, [&](client::Cluster& cluster, Instant deadline) {
    return load(cluster, plan, deadline, console);
  });
}

}  // namespace

Outcome bench_produce(const Args& args, Console& console) {
  auto plan = plan_of(args, console);
  if (!plan) return usage(plan.error().message);
  if (const auto load = plan_load(*plan, args, 0); !load) return usage(load.error().message);
  return run_bench(args, *plan, console, produce_load);
}

Outcome bench_consume(const Args& args, Console& console) {
  auto plan = plan_of(args, console);
  if (!plan) return usage(plan.error().message);
  plan->from_end = args.text("from", "beginning") == "end";
  // Without a bound it reads what there is.
  if (!args.has("for") && !plan->from_end) plan->span = Duration{};
  return run_bench(args, *plan, console, consume_load);
}

Outcome bench_latency(const Args& args, Console& console) {
  auto plan = plan_of(args, console);
  if (!plan) return usage(plan.error().message);
  if (args.has("in-flight")) {
    if (args.has("rate")) {
      return usage("options --rate and --in-flight: a record is sent on a schedule or on an answer; give one");
    }
    const auto most = args.number("in-flight", 1, 1, 1'000'000);
    if (!most) return usage(most.error().message);
    plan->in_flight = static_cast<std::uint64_t>(*most);
  } else if (!args.has("rate")) {
    plan->rate = 1000;
  }
  if (const auto load = plan_load(*plan, args, kStampBytes); !load) return usage(load.error().message);
  return run_bench(args, *plan, console, latency_load);
}

}  // namespace pyralog::cli
