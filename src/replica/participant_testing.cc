#include "replica/participant_testing.h"

#include "catalog/topic_config.h"
#include "io/rng.h"

namespace pyralog::replica::testing {

namespace {

Uuid uuid_of(std::uint8_t number) {
  Uuid uuid;
  uuid.bytes.fill(number);
  return uuid;
}

std::string name_of(std::size_t i) {
  return "n" + std::to_string(i + 1);
}

}  // namespace

/// The process.
struct Replicas::One {
  explicit One(Replicas& replicas, std::size_t at) : all(replicas), index(at) {}

  io::Task<Result<void>> activate(catalog::EpochActivation activation) {
    co_await io::sleep_for(std::chrono::microseconds(200 + io::Shard::current().rng().below(3000)));
    Result<void> done;
    const auto fate = io::Shard::current().rng().below(20);
    if (fate == 0) co_return fail(Code::kTimedOut, "the metadata log did not answer");
    done = all.state_.apply(catalog::EpochsActivated{{activation}}, all.state_.position() + 1);
    if (done) all.tell_all();
    if (fate == 1) co_return fail(Code::kTimedOut, "the answer was lost");
    if (participant != nullptr) participant->catalog(all.partition(), false);
    co_return done;
  }
  [[nodiscard]] Replica::Options options() const {
    Replica::Options out;
    out.name = "t-0 on " + name_of(index);
    out.log.name = out.name;
    out.log.durability = all.options_.durability;
    out.log.segment_bytes = 4096;
    return out;
  }
  [[nodiscard]] Membership membership(Wire& wire, Life self, Promises& promises) {
    Membership out;
    out.wire = &wire;
    out.self = self;
    out.promise = promises.of(all.id_);
    out.store = [this, &promises](Promise promise) { return promises.store(all.id_, promise); };
    out.activate = [this](catalog::EpochActivation activation,
                          const std::optional<Recovery::Loss>&) {
      return activate(std::move(activation));
    };
    out.role_changed = [this](bool now) { leads = now; };
    return out;
  }

  Replicas& all;
  std::size_t index;
  Replica* replica = nullptr;
  Participant* participant = nullptr;
  bool leads = false;
};

Replicas::Replicas(std::uint64_t seed, Options options) : options_(options), sim_(seed) {
  id_.topic.uuid = uuid_of(77);
  id_.partition = PartitionIndex(0);
  const auto apply = [this](const catalog::Entry& entry) {
    PYRALOG_ASSERT(state_.apply(entry, state_.position() + 1));
  };
  apply(catalog::ClusterCreated{uuid_of(9), 16, WallMs{1}});
  catalog::TopicCreated topic;
  topic.id = id_.topic;
  topic.name = "t";
  topic.partitions.resize(1);
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    const NodeId node(static_cast<std::int32_t>(i) + 1);
    catalog::NodeRegistered made;
    made.node = node;
    made.incarnation = uuid_of(static_cast<std::uint8_t>(i + 1));
    made.boot_counter = 1;
    made.host = name_of(i);
    made.port = 9092;
    apply(made);
    topic.partitions[0].push_back(node);
  }
  apply(topic);
  catalog::EpochActivation first;
  first.partition = id_;
  first.epoch = Epoch(1);
  first.leader = NodeId(1);
  first.replicas = disks();
  first.write_quorum = options_.write_quorum;
  apply(catalog::EpochsActivated{{first}});
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    sim_.add_node({.name = name_of(i)});
    nodes_.push_back(std::make_unique<One>(*this, i));
    boots_.push_back(0);
  }
  for (std::size_t i = 0; i < options_.nodes; ++i) start(i);
}

Replicas::~Replicas() {
  for (std::size_t i = 0; i < options_.nodes; ++i) machine(i).kill();
}

std::vector<catalog::Replica> Replicas::disks() const {
  std::vector<catalog::Replica> out;
  for (const auto& [id, node] : state_.nodes()) out.push_back({id, node.incarnation});
  return out;
}

void Replicas::start(std::size_t i) {
  ++boots_[i];
  machine(i).spawn([this, i] { return live(i); });
}

io::Task<void> Replicas::live(std::size_t i) {
  One& one = *nodes_[i];
  io::Shard& shard = io::Shard::current();
  io::Disk& disk = shard.disk();
  const NodeId self(static_cast<std::int32_t>(i) + 1);
  const bool first_start = boots_[i] == 1;
  PYRALOG_ASSERT(co_await disk.make_dirs("/data"));
  const peer::Local local{{self, uuid_of(static_cast<std::uint8_t>(i + 1)),
                           static_cast<std::int64_t>(boots_[i]), uuid_of(9)},
                          {},
                          peer::Secret::from(as_bytes("a secret of all nodes"), "test").value()};
  auto bound = co_await shard.net().listen({"0.0.0.0", 9093});
  peer::Service service{peer::Service::Options{}};
  peer::Links links(peer::Links::Options{local, 0, {}, {}});
  peer::Acceptor acceptor(std::move(*bound), {&shard}, {&service}, peer::Acceptor::Options{local});
  log::Options log_options;
  log_options.data_dir = "/data";
  auto evidence = co_await log::Evidence::load(disk, "/data", log::EvidenceAccess::kMend, {});
  auto logs = co_await log::ShardLogs::open(disk, log_options, *evidence);
  PYRALOG_ASSERT(logs);
  auto promises =
      co_await Promises::open(disk, "/data", {.owner = uuid_of(static_cast<std::uint8_t>(i + 1))});
  PYRALOG_ASSERT(promises);
  PeerWire wire({&shard}, [](const PartitionId&) { return 0U; }, links);
  wire.serve(service, {&wire});
  auto replica = co_await Replica::open(**logs, id_, one.options(), Offset(0), std::nullopt);
  PYRALOG_ASSERT(replica);
  const Life life{{self, uuid_of(static_cast<std::uint8_t>(i + 1))}, boots_[i]};
  PYRALOG_ASSERT((*replica)->join(one.membership(wire, life, **promises)));
  Participant& participant = *(*replica)->participant();
  wire.add(id_, participant);
  links.on_change([&wire](NodeId node, bool, const std::string&) { wire.link_changed(node); });
  std::map<NodeId, io::Address> peers;
  for (std::size_t k = 0; k < options_.nodes; ++k) {
    if (k != i) peers[NodeId(static_cast<std::int32_t>(k) + 1)] = {name_of(k), 9093};
  }
  links.set_peers(peers);
  io::TaskGroup accepting;
  accepting.spawn(acceptor.run());
  accepting.spawn(wire.run());
  const std::unique_ptr<One, void (*)(One*)> known(&one, [](One* gone) {
    gone->participant = nullptr;
    gone->replica = nullptr;
  });
  one.replica = replica->get();
  one.participant = &participant;
  participant.catalog(partition(), first_start);
  io::WaitList forever;
  co_await forever.wait(Instant::never());
}

void Replicas::tell_all() {
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    const auto news = static_cast<std::uint64_t>(options_.news.count());
    sim_.schedule(Duration(sim_.rng().below(news)), [this, i] {
      if (!machine(i).up() || nodes_[i]->participant == nullptr) return;
      machine(i).shard().post([this, i] {
        if (nodes_[i]->participant != nullptr) nodes_[i]->participant->catalog(partition(), false);
      });
    });
  }
}

void Replicas::cut(std::size_t i) {
  sim_.net().isolate(machine(i));
}

Participant* Replicas::at(std::size_t i) {
  return machine(i).up() ? nodes_[i]->participant : nullptr;
}

int Replicas::leader() {
  int found = -1;
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    if (at(i) == nullptr || !at(i)->leads()) continue;
    if (found < 0 || at(i)->epoch() > at(static_cast<std::size_t>(found))->epoch())
      found = static_cast<int>(i);
  }
  return found;
}

void Replicas::campaign(std::size_t i, bool unclean) {
  const NodeId node(static_cast<std::int32_t>(i) + 1);
  const Epoch epoch(partition().highest_proposed.value + 1);
  PYRALOG_ASSERT(state_.apply(catalog::EpochProposed{id_, epoch, node}, state_.position() + 1));
  tell_all();
  if (at(i) == nullptr) return;
  machine(i).shard().post([this, i, epoch, unclean] {
    Participant* participant = nodes_[i]->participant;
    if (participant == nullptr || partition().highest_proposed != epoch) return;
    participant->campaign(epoch, partition(), disks(), options_.write_quorum, unclean);
  });
}

bool Replicas::take_over(std::size_t i, Duration limit) {
  const Instant until = sim_.now() + limit;
  while (sim_.now() < until) {
    sim_.run_until([&] { return at(i) != nullptr; }, 1s);
    campaign(i);
    const Epoch wanted = partition().highest_proposed;
    const auto leads = [&] {
      return at(i) != nullptr && at(i)->leads() && at(i)->epoch() >= wanted;
    };
    if (sim_.run_until(leads, 2s) && leader() == static_cast<int>(i)) return true;
  }
  return false;
}

std::optional<Offset> Replicas::append(std::size_t i, const std::string& value) {
  std::optional<Offset> base;
  const auto done = machine(i).try_run([&, this]() -> io::Task<bool> {
    One& one = *nodes_[i];
    const std::string kept = value;
    if (one.replica == nullptr) co_return false;
    BatchBuilder builder;
    NewRecord record;
    record.timestamp = 1;
    record.value = as_bytes(kept);
    builder.add(record);
    auto bytes = std::make_shared<Bytes>(builder.build().value());
    NewBatch batch;
    batch.header = parse_batch_header(*bytes).value();
    batch.bytes = MutableBytes(*bytes);
    batch.owner = std::move(bytes);
    const AppendOutcome out = co_await one.replica->append(std::move(batch));
    refused = out.message;
    if (out.error == KafkaError::kNone) base = out.base;
    co_return out.error == KafkaError::kNone;
  });
  return done.value_or(false) ? base : std::nullopt;
}

void Replicas::wait(std::size_t i, Offset end, std::optional<KafkaError>& told) {
  machine(i).spawn([this, i, end, &told]() -> io::Task<void> {
    told = co_await nodes_[i]->replica->wait_committed(end, io::Shard::current().now() + 60s);
  });
}

KafkaError Replicas::wait_in(std::size_t i, Offset end, Epoch epoch) {
  const auto waited = machine(i).try_run([&, this]() -> io::Task<KafkaError> {
    co_return co_await nodes_[i]->replica->wait_committed(end, epoch,
                                                          io::Shard::current().now() + 5s);
  });
  return waited.value_or(KafkaError::kKafkaStorageError);
}

KafkaError Replicas::produce(std::size_t i, const std::string& value) {
  const auto at_offset = append(i, value);
  if (!at_offset) return KafkaError::kNotLeaderOrFollower;
  const auto waited = machine(i).try_run([&, this]() -> io::Task<KafkaError> {
    co_return co_await nodes_[i]->replica->wait_committed(Offset(at_offset->value + 1),
                                                          io::Shard::current().now() + 5s);
  });
  return waited.value_or(KafkaError::kKafkaStorageError);
}

bool Replicas::committed(std::size_t i, Offset end, Duration limit) {
  return sim_.run_until([&] { return at(i) != nullptr && at(i)->high_watermark() >= end; },
                        limit) &&
         at(i) != nullptr && at(i)->high_watermark() >= end;
}

Bytes Replicas::bytes(std::size_t i) {
  Bytes all;
  machine(i).run([&, this]() -> io::Task<void> {
    One& one = *nodes_[i];
    Offset from = one.replica->log_start();
    EXPECT_EQ(one.replica->high_watermark(), one.participant->high_watermark());
    while (from < one.replica->high_watermark()) {
      auto read = co_await one.replica->read(from, 1u << 20, true);
      PYRALOG_ASSERT(read);
      for (const io::Piece& piece : read->pieces) {
        const auto* range = std::get_if<io::FileRange>(&piece);
        PYRALOG_ASSERT(range != nullptr);
        Bytes part(range->count);
        PYRALOG_ASSERT(co_await range->file->read_at(range->position, part));
        all.insert(all.end(), part.begin(), part.end());
      }
      from = read->next;
    }
  });
  return all;
}

std::vector<std::string> Replicas::values(std::size_t i) {
  std::vector<std::string> out;
  const Bytes all = bytes(i);
  ByteView left = all;
  while (!left.empty()) {
    const BatchHeader header = parse_batch_header(left).value();
    auto reader = RecordReader::open(left.first(header.total_bytes()), 1u << 20).value();
    while (true) {
      const auto record = reader.next().value();
      if (!record) break;
      out.emplace_back(as_text(*record->value));
    }
    left = left.subspan(header.total_bytes());
  }
  return out;
}

bool Replicas::all_have(Offset end, Duration limit) {
  return sim_.run_until(
      [&] {
        for (std::size_t i = 0; i < options_.nodes; ++i) {
          if (at(i) == nullptr || at(i)->high_watermark() < end) return false;
        }
        return true;
      },
      limit);
}

bool Replicas::well(Duration limit) {
  return sim_.run_until(
      [&] {
        const int leads = leader();
        if (leads < 0) return false;
        const Offset end = at(static_cast<std::size_t>(leads))->following().log().end();
        for (std::size_t i = 0; i < options_.nodes; ++i) {
          if (at(i) == nullptr || at(i)->high_watermark() != end ||
              at(i)->following().log().end() != end)
            return false;
        }
        return true;
      },
      limit);
}

}  // namespace pyralog::replica::testing
