// Two nodes that talk: what links and services promise while the network does its part.
#include "peer/links.h"

#include <gtest/gtest.h>

#include "peer/testing.h"
#include "wire/peer/gen/read_range.h"

namespace pyralog::peer::testing {
namespace {

struct Two : Nodes {
  explicit Two(NodeSpec first = {.id = 1}, NodeSpec second = {.id = 2}, std::uint64_t seed = 1)
      : Nodes(seed), a(add(std::move(first))), b(add(std::move(second))) {
    connect(a, 1, 2);
    EXPECT_TRUE(until([this] { return a.up(2); })) << a.links().why_down(NodeId(2));
  }
  Machine& a;
  Machine& b;
};

TEST(PeerLinks, ask_and_are_answered) {
  Two two;
  EXPECT_EQ(two.a.ask(2, "question").value(), "question");
  const Peer* peer = two.a.links().connected(NodeId(2));
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(peer->identity, (Identity{NodeId(2), uuid_of(2), 1, uuid_of(9)}));
  EXPECT_EQ(peer->version, 1);
  ASSERT_EQ(two.a.changes.size(), 1U);
  EXPECT_TRUE(two.a.changes[0].up);
  EXPECT_EQ(two.b.ask(1, "?").error().code, Code::kUnavailable)
      << "a connection carries one side's requests";
  two.a.stop();
  two.b.stop();
  EXPECT_EQ(two.b.acceptor().connections(), 0U);
}

TEST(PeerLinks, whoever_answers_is_looked_at_as_well) {
  Nodes nodes;
  Machine& a = nodes.add({.id = 1});
  nodes.add({.id = 2});
  bool admitted = false;
  a.links().set_admit([&](const Peer& peer) -> Result<void> {
    EXPECT_EQ(peer.identity.node, NodeId(2));
    if (admitted) return {};
    return fail(Code::kFenced, "node 2: its data directory is not the one registered");
  });
  nodes.connect(a, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return a.links().stats().failed_dials >= 2; }));
  EXPECT_FALSE(a.up(2));
  EXPECT_NE(a.links().why_down(NodeId(2)).find("not the one registered"), std::string::npos);
  admitted = true;
  EXPECT_TRUE(nodes.until([&] { return a.up(2); }));
}

TEST(PeerLinks, casts_arrive_in_order_and_what_is_queued_in_one_turn_leaves_in_one_write) {
  Two two;
  const auto writes = two.a.links().channel_stats(NodeId(2)).writes;
  two.a.node().run([&]() -> io::Task<void> {
    for (int i = 0; i < 500; ++i) {
      EXPECT_TRUE(two.a.links().cast(NodeId(2), packed(Kind::kRaftMessages, std::to_string(i))));
    }
    co_return;
  });
  ASSERT_TRUE(two.until([&] { return two.b.casts.size() == 500; }));
  for (int i = 0; i < 500; ++i)
    EXPECT_EQ(two.b.casts[static_cast<std::size_t>(i)], std::to_string(i));
  EXPECT_EQ(two.a.links().channel_stats(NodeId(2)).writes, writes + 1);
  EXPECT_FALSE(two.a.cast(7, "nobody")) << "no such peer";
}

TEST(PeerLinks, replies_may_come_late_and_out_of_order) {
  Two two;
  std::vector<Responder> held;
  std::vector<std::string> answers;
  two.b.service().on(Kind::kSeal, [&](Request request) {
    held.push_back(std::move(request.respond));
    if (held.size() < 3) return;
    for (const int i : {2, 0, 1}) {
      held[static_cast<std::size_t>(i)].reply(packed(Kind::kSeal, std::to_string(i)));
    }
  });
  for (int i = 0; i < 3; ++i) {
    two.a.node().spawn([&two, &answers, i]() -> io::Task<void> {
      auto reply =
          co_await two.a.links().call(NodeId(2), packed(Kind::kSeal, std::string(1, char('a' + i))),
                                      io::Shard::current().now() + 5s);
      answers.push_back(char('a' + i) + std::string(as_text(reply.value().body.view())));
    });
  }
  ASSERT_TRUE(two.until([&] { return answers.size() == 3; }));
  EXPECT_EQ(answers, (std::vector<std::string>{"c2", "a0", "b1"}));
}

TEST(PeerLinks, errors_of_the_other_node_come_back_as_errors) {
  Two two;
  two.b.service().on(Kind::kSeal, [](Request request) {
    request.respond.refuse({Code::kFenced, "epoch 3 has been promised", 0});
  });
  two.b.service().on(Kind::kReadRange, [](Request) {});
  const auto call = [&](Kind kind) {
    return two.a.node().run([&]() -> io::Task<Result<Reply>> {
      return two.a.links().call(NodeId(2), packed(kind, "x"), io::Shard::current().now() + 5s);
    });
  };
  EXPECT_EQ(call(Kind::kSeal).error().code, Code::kFenced);
  EXPECT_NE(
      call(Kind::kSeal).error().message.find("node 2 at 10.0.0.2:9093: epoch 3 has been promised"),
      std::string::npos);
  EXPECT_EQ(call(Kind::kReadRange).error().code, Code::kUnavailable) << "dropped";
  EXPECT_EQ(call(static_cast<Kind>(77)).error().code, Code::kUnsupported) << "of a newer node";
  EXPECT_TRUE(two.a.up(2));
  EXPECT_EQ(two.b.service().stats().unknown, 1U);
}

TEST(PeerLinks, messages_travel_as_such_with_their_records) {
  Two two;
  two.b.service().on(Kind::kReadRange, [](Request request) {
    const auto asked = read<wire::peer::ReadRangeRequest>(request);
    if (!asked) return request.respond.refuse(asked.error());
    wire::peer::ReadRangeResponse response;
    response.end = asked->to;
    const SharedBytes records(Bytes(static_cast<std::size_t>(asked->max_bytes), 7));
    response.records = wire::peer::Records::external(0, records.size());
    answer(request, response, {records});
  });
  const auto reply =
      two.a.node().run([&]() -> io::Task<Result<Answer<wire::peer::ReadRangeResponse>>> {
        wire::peer::ReadRangeRequest request;
        request.to = 77;
        request.max_bytes = 500'000;
        return two.a.links().ask<wire::peer::ReadRangeResponse>(NodeId(2), request,
                                                                io::Shard::current().now() + 5s);
      });
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply->message.end, 77);
  EXPECT_EQ(reply->message.records.view.size(), 500'000U);
  EXPECT_GE(reply->message.records.view.data(), reply->body.data()) << "a view";
}

TEST(PeerLinks, handlers_may_wait_and_are_joined) {
  Two two;
  bool ended = false;
  two.b.service().on_task(Kind::kSeal, [&](Request request) -> io::Task<void> {
    co_await io::sleep_for(3s);
    request.respond.reply(packed(Kind::kSeal, "slept"));
    ended = true;
  });
  two.a.node().spawn([&]() -> io::Task<void> {
    auto late = co_await two.a.links().call(NodeId(2), packed(Kind::kSeal, "x"),
                                            io::Shard::current().now() + 1s);
    EXPECT_EQ(late.error().code, Code::kTimedOut);
    EXPECT_NE(late.error().message.find("10.0.0.2:9093"), std::string::npos);
  });
  two.sim.run_for(2s);
  EXPECT_FALSE(ended);
  two.b.stop();
  EXPECT_TRUE(ended) << "stop waits for what it has begun";
}

TEST(PeerLinks, a_reply_after_the_deadline_is_nobodys) {
  Two two;
  two.b.service().on_task(Kind::kSeal, [](Request request) -> io::Task<void> {
    co_await io::sleep_for(300ms);
    request.respond.reply(packed(Kind::kSeal, "late"));
  });
  const auto late = two.a.node().run([&]() -> io::Task<Result<Reply>> {
    return two.a.links().call(NodeId(2), packed(Kind::kSeal, "x"),
                              io::Shard::current().now() + 100ms);
  });
  EXPECT_EQ(late.error().code, Code::kTimedOut);
  two.sim.run_for(1s);
  EXPECT_EQ(two.a.links().stats().late_replies, 1U);
  EXPECT_EQ(two.a.ask(2, "and now").value(), "and now");
}

TEST(PeerLinks, a_connection_goes_to_the_shard_of_its_lane) {
  NodeSpec first{.id = 1, .shards = 3};
  NodeSpec second{.id = 2, .shards = 2};
  Two two(first, second);
  ASSERT_TRUE(two.until([&] { return two.a.up(2, 1) && two.a.up(2, 2); }));
  for (unsigned lane = 0; lane < 3; ++lane) {
    for (unsigned shard = 0; shard < 2; ++shard) {
      two.b.service(shard).on(Kind::kSeal, [shard](Request request) {
        EXPECT_EQ(io::Shard::current().index(), shard);
        request.respond.reply(packed(Kind::kSeal, std::to_string(shard)));
      });
    }
    const auto reply = two.a.node().run(
        [&]() -> io::Task<Result<Reply>> {
          return two.a.links(lane).call(NodeId(2), packed(Kind::kSeal, "x"),
                                        io::Shard::current().now() + 5s);
        },
        lane);
    EXPECT_EQ(as_text(reply.value().body.view()), std::to_string(lane % 2));
  }
  two.a.stop();
  two.b.stop();
}

TEST(PeerLinks, a_call_fails_at_once_without_a_connection_or_waits_if_told_to) {
  Two two;
  two.sim.net().isolate(two.b.node());
  ASSERT_TRUE(two.until([&] { return !two.a.up(2); }));
  const Instant before = two.sim.now();
  const auto refused = two.a.ask(2, "x", 5s);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_NE(refused.error().message.find("node 2 at 10.0.0.2:9093"), std::string::npos);
  EXPECT_LT(two.sim.now() - before, 1ms);
  EXPECT_FALSE(two.a.cast(2, "x"));
  EXPECT_EQ(two.a.ask(2, "x", 100ms, WhenDown::kWait).error().code, Code::kTimedOut);
  two.sim.net().heal_all();
  EXPECT_EQ(two.a.ask(2, "waited", 10s, WhenDown::kWait).value(), "waited");
}

TEST(PeerLinks, a_peer_that_is_cut_off_is_noticed_in_time_by_both_sides) {
  for (const int way : {0, 1, 2}) {
    Two two;
    two.sim.run_for(3s);
    ASSERT_EQ(two.a.changes.size(), 1U) << "silence alone ends nothing";
    const Instant cut = two.sim.now();
    if (way != 1) two.sim.net().block(two.a.node(), two.b.node());
    if (way != 0) two.sim.net().block(two.b.node(), two.a.node());
    ASSERT_TRUE(two.until([&] { return !two.a.changes.back().up; }, 1200ms)) << way;
    EXPECT_GE(two.sim.now() - cut, 400ms);
    EXPECT_FALSE(two.a.changes.back().up);
    EXPECT_NE(two.a.changes.back().why.find("node 2 at"), std::string::npos);
    two.sim.run_for(2s);
    EXPECT_EQ(two.b.acceptor().connections(), 0U) << way;
    two.sim.net().heal_all();
    ASSERT_TRUE(two.until([&] { return two.a.up(2); }, 3s)) << way;
    EXPECT_EQ(two.a.ask(2, "again").value(), "again");
    EXPECT_EQ(two.b.service().connections(), 1U);
  }
}

TEST(PeerLinks, a_peer_without_power_is_noticed_though_it_says_nothing) {
  Two two;
  std::optional<Result<Reply>> answer;
  two.b.service().on_task(Kind::kSeal, [](Request request) -> io::Task<void> {
    co_await io::sleep_for(60s);
    request.respond.reply(packed(Kind::kSeal, "x"));
  });
  two.a.node().spawn([&]() -> io::Task<void> {
    answer = co_await two.a.links().call(NodeId(2), packed(Kind::kSeal, "x"),
                                         io::Shard::current().now() + 30s);
  });
  two.sim.run_for(100ms);
  two.b.node().lose_power();
  const Instant lost = two.sim.now();
  ASSERT_TRUE(two.until([&] { return answer.has_value(); }, 2s));
  EXPECT_LE(two.sim.now() - lost, 1s);
  EXPECT_EQ(answer->error().code, Code::kUnavailable);
}

TEST(PeerLinks, a_peer_that_restarts_is_found_again) {
  Two two;
  std::optional<Result<Reply>> answer;
  two.b.service().on_task(Kind::kSeal, [](Request request) -> io::Task<void> {
    co_await io::sleep_for(60s);
    request.respond.refuse({});
  });
  two.a.node().spawn([&]() -> io::Task<void> {
    answer = co_await two.a.links().call(NodeId(2), packed(Kind::kSeal, "x"),
                                         io::Shard::current().now() + 30s);
  });
  two.sim.run_for(100ms);
  two.b.node().kill();
  ASSERT_TRUE(two.until([&] { return !two.a.up(2); }, 1s));
  two.sim.run_for(1ms);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->error().code, Code::kUnavailable);
  EXPECT_NE(answer->error().message.find("may have been done"), std::string::npos);
  two.sim.run_for(5s);
  two.restart(1);
  ASSERT_TRUE(two.until([&] { return two.a.up(2); }, 3s));
  EXPECT_EQ(two.a.links().connected(NodeId(2))->identity.boot_counter, 2);
  EXPECT_EQ(two.a.ask(2, "again").value(), "again");
  two.a.node().kill();
  Machine& a = two.restart(0);
  two.connect(a, 1, 2);
  ASSERT_TRUE(two.until([&] { return a.up(2); }, 3s));
  EXPECT_EQ(a.ask(2, "from the start").value(), "from the start");
}

TEST(PeerLinks, whether_a_process_has_ended_is_known_at_once) {
  Two two;
  two.sim.run_for(5s);
  two.b.node().kill();
  ASSERT_TRUE(two.until([&] { return !two.a.up(2); }, 1s));
  ASSERT_TRUE(two.until([&] { return two.a.links().has_ended(NodeId(2)); }, 5ms));
  EXPECT_EQ(two.a.changes.size(), 3U) << "up, down, ended";
  two.restart(1);
  ASSERT_TRUE(two.until([&] { return two.a.up(2); }, 3s));
  EXPECT_FALSE(two.a.links().has_ended(NodeId(2)));
  // Whoever is cut off may be well.
  two.sim.net().isolate(two.b.node());
  ASSERT_TRUE(two.until([&] { return !two.a.up(2); }, 3s));
  two.sim.run_for(10s);
  EXPECT_FALSE(two.a.links().has_ended(NodeId(2)));
}

TEST(PeerLinks, who_is_left_out_or_has_moved_is_let_go) {
  Two two;
  Machine& c = two.add(3);
  two.a.dial(
      {{NodeId(2), two.address(1)}, {NodeId(3), two.address(2)}, {NodeId(1), two.address(0)}});
  ASSERT_TRUE(two.until([&] { return two.a.up(3); }));
  EXPECT_EQ(two.a.changes.size(), 2U) << "who stays keeps its connection, and nobody dials himself";
  two.a.dial({{NodeId(3), two.address(2)}});
  EXPECT_EQ(two.a.ask(2, "x").error().code, Code::kUnavailable);
  ASSERT_TRUE(two.until([&] { return two.b.acceptor().connections() == 0; }));
  two.a.dial({{NodeId(3), two.address(1)}});
  two.sim.run_for(1s);
  EXPECT_FALSE(two.a.up(3));
  EXPECT_EQ(c.acceptor().connections(), 0U);
  EXPECT_NE(two.a.links().why_down(NodeId(3)).find("looks for node 3 where node 2 is"),
            std::string::npos)
      << two.a.links().why_down(NodeId(3));
  EXPECT_NE(two.b.acceptor().stats().last_refusal.find("looks for node 3 where node 2 is"),
            std::string::npos)
      << two.b.acceptor().stats().last_refusal;
}

}  // namespace
}  // namespace pyralog::peer::testing
