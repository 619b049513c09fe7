// Raft's messages and snapshots between two nodes: what is taken, refused and bounded.
#include "cluster/raft_transport.h"

#include <gtest/gtest.h>

#include "cluster/catalog_machine.h"
#include "peer/testing.h"

namespace pyralog::cluster {
namespace {

using namespace std::chrono_literals;
namespace wp = wire::peer;

const multiraft::GroupId kGroup(0);
constexpr std::size_t kPiece = 1'000;

/// What it is given as a snapshot is its state.
class Blob final : public multiraft::StateMachine {
 public:
  Result<void> apply(raft::Index, const SharedBytes&) override { return {}; }
  [[nodiscard]] Bytes snapshot() const override { return state; }
  [[nodiscard]] Result<void> restore(ByteView content) override {
    state.assign(content.begin(), content.end());
    return {};
  }
  [[nodiscard]] Result<void> check(ByteView content) const override {
    if (content.size() == 13) return fail(Code::kUnsupported, "too new");
    return {};
  }
  Bytes state;
};

/// Node 1 asks node 2, on which a group of the nodes 1, 2 and 3 runs.
struct Two : peer::testing::Nodes {
  explicit Two(RaftTransport::Options options = small()) : a(add(1)), b(add(2)) {
    sending = std::make_unique<RaftTransport>(a.links(), options);
    taking = std::make_unique<RaftTransport>(b.links(), options);
    b.node().spawn([this]() -> io::Task<void> {
      multiraft::Options raft_options;
      raft_options.path = "/raft.log";
      raft_options.self = NodeId(2);
      raft::Config config;
      config.voters = {NodeId(1), NodeId(2), NodeId(3)};
      auto opened = co_await multiraft::MultiRaft::open(io::Shard::current().disk(), raft_options,
                                                        {{kGroup, config, &blob}});
      const auto owned = std::move(opened.value());
      raft = owned.get();
      raft->start(*taking);
      taking->serve(b.service(), *raft);
      io::WaitList forever;
      co_await forever.wait(Instant::never());
    });
    connect(a, 1, 2);
    EXPECT_TRUE(until([this] { return a.up(2) && raft != nullptr; }));
  }
  /// What runs ends before what it uses.
  ~Two() {
    for (const auto& each : machines) each->node().kill();
  }
  static RaftTransport::Options small() {
    RaftTransport::Options options;
    options.chunk_bytes = kPiece;
    options.max_snapshot_bytes = 10 * kPiece;
    options.max_arriving_bytes = 15 * kPiece;
    return options;
  }
  static multiraft::GroupMessage snapshot(std::uint64_t index, std::uint64_t term = 5) {
    raft::Message m;
    m.kind = raft::MessageKind::kSnapshot;
    m.from = NodeId(1);
    m.to = NodeId(2);
    m.term = raft::Term(term);
    m.snapshot = raft::SnapshotMark{raft::Index(index), raft::Term(1), {}};
    m.snapshot->config.voters = {NodeId(1), NodeId(2), NodeId(3)};
    return {kGroup, std::move(m)};
  }
  Result<void> send(multiraft::GroupMessage message, Bytes content) {
    return a.node().run([&]() -> io::Task<Result<void>> {
      co_return co_await sending->send_snapshot(std::move(message),
                                                SharedBytes(std::move(content)));
    });
  }
  /// The first piece of one of so many bytes, by whoever node 1 says it is; what is answered.
  std::optional<Code> piece(std::int64_t total, std::int64_t at = 0, std::int64_t term = 5,
                            std::int16_t group = 0) {
    wp::RaftSnapshotRequest chunk;
    chunk.group = group;
    chunk.from_term = term;
    chunk.index = 100;
    chunk.term = 1;
    chunk.total = total;
    chunk.at = at;
    chunk.chunk = wp::Records::external(0, kPiece);
    return a.node().run([&]() -> io::Task<std::optional<Code>> {
      auto answer = co_await a.links().ask<wp::RaftSnapshotResponse>(
          NodeId(2), chunk, io::Shard::current().now() + 5s, {SharedBytes(Bytes(kPiece, 1))});
      if (!answer) co_return answer.error().code;
      if (answer->message.error_code == 0) co_return std::nullopt;
      co_return wp::code_of(answer->message.error_code);
    });
  }

  peer::testing::Machine& a;
  peer::testing::Machine& b;
  Blob blob;
  std::unique_ptr<RaftTransport> sending;
  std::unique_ptr<RaftTransport> taking;
  multiraft::MultiRaft* raft = nullptr;
};

TEST(RaftTransportTest, brings_a_snapshot_in_pieces_and_says_what_became_of_it) {
  Two two;
  Bytes content(4 * kPiece + 17);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::uint8_t>(i);
  ASSERT_TRUE(two.send(Two::snapshot(50), content));
  EXPECT_EQ(two.blob.state, content);
  EXPECT_EQ(two.raft->status(kGroup).applied, raft::Index(50));
  EXPECT_EQ(two.taking->arriving_bytes(), 0u);
  const auto refused = two.send(Two::snapshot(60), Bytes(13, 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnsupported) << "the machine does not understand it";
  EXPECT_EQ(two.taking->arriving_bytes(), 0u);
  const auto large = two.send(Two::snapshot(60), Bytes(10 * kPiece + 1, 1));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, Code::kInvalidArgument);
  EXPECT_TRUE(two.send(Two::snapshot(60), {})) << "an empty one is one, too";
}

TEST(RaftTransportTest, pieces_of_unknown_groups_and_older_terms_are_not_kept) {
  Two two;
  EXPECT_EQ(two.piece(5'000, 0, 5, 7), Code::kNotFound);
  ASSERT_TRUE(two.send(Two::snapshot(50, 5), Bytes(10, 1)));
  EXPECT_EQ(two.piece(5'000, 0, 4), Code::kFenced);
  EXPECT_EQ(two.piece(5'000, 1'000), Code::kCancelled) << "not begun";
  EXPECT_EQ(two.piece(-1), Code::kInvalidArgument);
  EXPECT_EQ(two.piece(500), Code::kInvalidArgument) << "less than the piece";
  EXPECT_EQ(two.taking->arriving_bytes(), 0u);
}

TEST(RaftTransportTest, a_newcomer_is_refused_and_what_is_on_its_way_goes_on) {
  Two two;
  two.add(3);
  auto& third = *two.machines[2];
  two.connect(third, 1, 2);
  ASSERT_TRUE(two.until([&] { return third.up(2); }));
  ASSERT_EQ(two.piece(9'000), std::nullopt);
  RaftTransport other(third.links(), Two::small());
  const auto send = [&](std::size_t bytes) {
    return third.node().run([&]() -> io::Task<Result<void>> {
      multiraft::GroupMessage message = Two::snapshot(60);
      message.message.from = NodeId(3);
      co_return co_await other.send_snapshot(std::move(message), SharedBytes(Bytes(bytes, 1)));
    });
  };
  const auto refused = send(9'000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kExhausted);
  EXPECT_TRUE(send(4'000)) << "there is room for it";
  EXPECT_EQ(two.piece(9'000, 1'000), std::nullopt) << "the next piece";
  EXPECT_EQ(two.taking->arriving_bytes(), 9'000u);
  EXPECT_EQ(two.piece(8'000), std::nullopt) << "begun anew by the same node";
  EXPECT_EQ(two.taking->arriving_bytes(), 8'000u);
}

TEST(RaftTransportTest, what_has_been_silent_for_long_is_dropped) {
  Two two;
  ASSERT_EQ(two.piece(9'000), std::nullopt);
  two.sim.run_for(25s);
  ASSERT_EQ(two.piece(9'000, 1'000), std::nullopt);
  two.sim.run_for(25s);
  EXPECT_EQ(two.piece(9'000, 2'000), std::nullopt);
  two.sim.run_for(31s);
  // Any message is occasion to look.
  two.a.node().run([&]() -> io::Task<void> {
    EXPECT_TRUE(two.sending->send(NodeId(2), {}));
    raft::Message m;
    m.from = NodeId(1);
    m.to = NodeId(2);
    EXPECT_TRUE(two.sending->send(NodeId(2), {{kGroup, m}}));
    co_return;
  });
  ASSERT_TRUE(two.until([&] { return two.taking->arriving_bytes() == 0; }, 1s));
  EXPECT_EQ(two.piece(9'000, 3'000), Code::kCancelled);
}

TEST(RaftTransportTest, says_what_does_not_leave) {
  Two two;
  two.a.node().run([&]() -> io::Task<void> {
    raft::Message m;
    m.to = NodeId(2);
    EXPECT_TRUE(two.sending->send(NodeId(2), {{kGroup, m}}));
    EXPECT_FALSE(two.sending->send(NodeId(9), {{kGroup, m}})) << "no such peer";
    co_return;
  });
}

TEST(RaftTransportTest, a_stop_ends_what_waits_for_a_node_that_does_not_answer) {
  Two two;
  std::vector<peer::Responder> held;
  two.b.service().on(wp::Kind::kRaftSnapshot,
                     [&](peer::Request request) { held.push_back(std::move(request.respond)); });
  std::optional<Result<void>> said;
  two.a.node().spawn([&]() -> io::Task<void> {
    said =
        co_await two.sending->send_snapshot(Two::snapshot(50), SharedBytes(Bytes(5 * kPiece, 1)));
  });
  ASSERT_TRUE(two.until([&] { return held.size() == 1; }));
  two.a.node().run([&]() -> io::Task<void> {
    two.sending->stop();
    co_return;
  });
  ASSERT_TRUE(two.until([&] { return said.has_value(); }, 100ms));
  EXPECT_EQ(said->error().code, Code::kCancelled);
  two.a.stop();
  two.a.node().run([&]() -> io::Task<void> { co_await two.sending->join(); });
  two.b.node().run([&]() -> io::Task<void> {
    held.clear();
    co_return;
  });
  two.sim.run_for(1s);  // what it has answered is gone, and the connection
}

TEST(CatalogMachine, becomes_what_it_has_checked_and_nothing_else) {
  CatalogMachine source;
  const Bytes empty = source.snapshot();
  CatalogMachine machine;
  ASSERT_TRUE(machine.check(empty));
  const Bytes bad(20, 0xff);
  EXPECT_FALSE(machine.restore(bad)) << "not the bytes that were checked";
  EXPECT_FALSE(machine.check(bad));
  EXPECT_FALSE(machine.restore(bad));
  ASSERT_TRUE(machine.check(empty));
  ASSERT_TRUE(machine.restore(empty));
  ASSERT_TRUE(machine.restore(empty)) << "once more, without a check";
  EXPECT_EQ(*machine.catalog(), *source.catalog());
}

}  // namespace
}  // namespace pyralog::cluster
