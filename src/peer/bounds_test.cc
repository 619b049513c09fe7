// What is under way is bounded on both sides, and nothing within the bounds is lost.
#include <gtest/gtest.h>

#include "peer/links.h"
#include "peer/testing.h"

namespace pyralog::peer::testing {
namespace {

struct Pair : Nodes {
  Pair(NodeSpec first, NodeSpec second) : a(add(std::move(first))), b(add(std::move(second))) {
    connect(a, 1, 2);
    EXPECT_TRUE(until([this] { return a.up(2); })) << a.links().why_down(NodeId(2));
  }
  /// Asks, without waiting; notes how it ended.
  void ask_later(std::string text, Duration in) {
    a.node().spawn([this, text = std::move(text), in]() -> io::Task<void> {
      const std::string asked = text;
      auto reply = co_await a.links().call(NodeId(2), packed(Kind::kSeal, asked),
                                           io::Shard::current().now() + in);
      ended.push_back(asked.substr(0, 4) +
                      (reply ? " yes" : std::string(" ") + name(reply.error().code)));
    });
  }
  /// The other node answers only when it is told to.
  void hold_requests() {
    for (const Kind kind : {Kind::kSeal, Kind::kRaftMessages}) {
      b.service().on(kind, [this](Request request) {
        came.emplace_back(
            as_text(request.body.view().first(std::min<std::size_t>(4, request.body.size()))));
        held.push_back(std::move(request.respond));
      });
    }
  }
  void answer_first() {
    Responder first = std::move(held.front());
    held.erase(held.begin());
    first.reply(packed(Kind::kSeal, "yes"));
  }
  Machine& a;
  Machine& b;
  std::vector<std::string> ended;
  std::vector<std::string> came;
  std::vector<Responder> held;
};

TEST(PeerBounds, a_full_queue_of_casts_takes_no_more) {
  Pair two({.id = 1, .limits = {.max_casts = 8, .max_cast_bytes = 3000}}, {.id = 2});
  int taken = 0;
  int bytes_taken = 0;
  two.a.node().run([&]() -> io::Task<void> {
    for (int i = 0; i < 20; ++i)
      taken += two.a.links().cast(NodeId(2), packed(Kind::kRaftMessages, "x")) ? 1 : 0;
    co_return;
  });
  EXPECT_EQ(taken, 8);
  ASSERT_TRUE(two.until([&] { return two.b.casts.size() == 8; }));
  two.a.node().run([&]() -> io::Task<void> {
    const std::string kilobyte(1000, 'x');
    for (int i = 0; i < 20; ++i) {
      bytes_taken += two.a.links().cast(NodeId(2), packed(Kind::kRaftMessages, kilobyte)) ? 1 : 0;
    }
    co_return;
  });
  EXPECT_EQ(bytes_taken, 3);
  ASSERT_TRUE(two.until([&] { return two.b.casts.size() == 11; }));
  EXPECT_EQ(two.a.links().stats().casts_refused, 12U + 17U);
  EXPECT_TRUE(two.a.cast(2, std::string(10'000, 'x'))) << "one always fits where none is under way";
}

TEST(PeerBounds, calls_wait_for_room_first_come_first_served) {
  Pair two({.id = 1, .limits = {.max_calls = 3, .max_call_bytes = 10'000}}, {.id = 2});
  two.hold_requests();
  // The third is large: those after it would fit, and wait behind it.
  for (const char* who : {"c1  ", "c2  ", "big ", "c4  ", "c5  "}) {
    std::string text = who;
    if (text == "big ") text.resize(9'999, 'x');
    two.ask_later(text, 60s);
  }
  two.ask_later("late", 500ms);
  two.sim.run_for(1s);
  EXPECT_EQ(two.came, (std::vector<std::string>{"c1  ", "c2  "}));
  EXPECT_EQ(two.ended, (std::vector<std::string>{"late timed_out"}));
  two.answer_first();
  two.sim.run_for(100ms);
  EXPECT_EQ(two.came.size(), 2U) << "the large one still does not fit";
  two.answer_first();
  two.sim.run_for(100ms);
  EXPECT_EQ(two.came, (std::vector<std::string>{"c1  ", "c2  ", "big "}));
  two.answer_first();
  two.sim.run_for(100ms);
  EXPECT_EQ(two.came, (std::vector<std::string>{"c1  ", "c2  ", "big ", "c4  ", "c5  "}));
  two.answer_first();
  two.answer_first();
  two.sim.run_for(100ms);
  EXPECT_EQ(two.ended, (std::vector<std::string>{"late timed_out", "c1   yes", "c2   yes",
                                                 "big  yes", "c4   yes", "c5   yes"}));
}

TEST(PeerBounds, a_slow_handler_stops_the_reading_and_loses_nothing) {
  NodeSpec slow{.id = 2};
  slow.service.max_requests = 4;
  Pair two({.id = 1}, slow);
  two.hold_requests();
  // More than all buffers on the way take.
  for (int i = 0; i < 60; ++i) {
    std::string text = "c" + std::to_string(i);
    text.resize(64 * 1024, ' ');
    EXPECT_TRUE(two.a.cast(2, text));
  }
  two.sim.run_for(10s);
  EXPECT_EQ(two.held.size(), 4U);
  EXPECT_TRUE(two.a.up(2)) << "it is slow, not dead";
  EXPECT_EQ(two.a.changes.size(), 1U);
  EXPECT_GE(two.b.service().stats().paused, 1U);
  while (!two.held.empty()) {
    EXPECT_LE(two.held.size(), 4U);
    two.held.erase(two.held.begin());
    two.sim.run_for(20ms);
  }
  ASSERT_EQ(two.came.size(), 60U);
  for (int i = 0; i < 60; ++i) {
    EXPECT_EQ(two.came[static_cast<std::size_t>(i)].find("c" + std::to_string(i)), 0U);
  }
  EXPECT_EQ(two.a.changes.size(), 1U);
}

TEST(PeerBounds, bytes_under_way_stop_the_reading_too) {
  NodeSpec slow{.id = 2};
  slow.service.max_request_bytes = 100'000;
  Pair two({.id = 1}, slow);
  two.hold_requests();
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(two.a.cast(2, std::string(30'000, 'x')));
  two.sim.run_for(3s);
  EXPECT_EQ(two.held.size(), 4U) << "the one that goes over the bound is the last";
  while (!two.held.empty()) {
    two.held.erase(two.held.begin());
    two.sim.run_for(20ms);
  }
  EXPECT_EQ(two.came.size(), 20U);
}

TEST(PeerBounds, replies_that_have_not_left_count) {
  NodeSpec slow{.id = 2};
  slow.service.max_requests = 4;
  Pair two({.id = 1}, slow);
  two.b.service().on(Kind::kSeal, [&](Request request) {
    two.came.emplace_back("c");
    request.respond.reply(packed(Kind::kSeal, std::string(200'000, 'x')));
  });
  // Requests go there, replies do not come back.
  two.sim.net().slow(two.b.node(), two.a.node(), 400ms);
  for (int i = 0; i < 40; ++i) two.ask_later("some", 60s);
  two.sim.run_for(300ms);
  EXPECT_LE(two.came.size(), 8U);
  two.sim.net().heal_all();
  ASSERT_TRUE(two.until([&] { return two.ended.size() == 40; }, 60s));
  for (const std::string& each : two.ended) EXPECT_EQ(each, "some yes");
}

TEST(PeerBounds, a_call_that_has_timed_out_in_the_queue_is_not_sent) {
  NodeSpec slow{.id = 2};
  slow.service.max_requests = 2;
  Pair two({.id = 1, .limits = {.max_calls = 4}}, slow);
  two.hold_requests();
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(two.a.cast(2, std::string(64 * 1024, 'x')));
  two.sim.run_for(100ms);
  for (int i = 0; i < 20; ++i) {
    two.ask_later("call", 50ms);
    two.sim.run_for(60ms);
  }
  EXPECT_EQ(two.ended.size(), 20U);
  while (!two.held.empty()) {
    two.held.erase(two.held.begin());
    two.sim.run_for(20ms);
  }
  EXPECT_EQ(two.came.size(), 30U);
  EXPECT_TRUE(std::ranges::find(two.came, "call") == two.came.end());
}

TEST(PeerBounds, too_much_at_once_is_refused_here_and_there) {
  NodeSpec spec{.id = 1};
  spec.channel.max_body_bytes = 10'000;
  NodeSpec other{.id = 2, .channel = spec.channel};
  Pair two(spec, other);
  EXPECT_EQ(two.a.ask(2, std::string(10'001, 'x')).error().code, Code::kTooLarge);
  EXPECT_EQ(two.a.ask(2, std::string(10'000, 'x')).value().size(), 10'000U);
  EXPECT_FALSE(two.a.cast(2, std::string(10'001, 'x')));
  two.b.service().on(Kind::kSeal, [](Request request) {
    request.respond.reply(packed(Kind::kSeal, std::string(10'001, 'x')));
  });
  two.ask_later("much", 5s);
  two.sim.run_for(100ms);
  EXPECT_EQ(two.ended, (std::vector<std::string>{"much too_large"}));
  EXPECT_TRUE(two.a.up(2));
}

TEST(PeerBounds, a_peer_that_sends_a_longer_frame_than_allowed_is_let_go) {
  NodeSpec other{.id = 2};
  other.channel.max_body_bytes = 10'000;
  Pair two({.id = 1}, other);
  EXPECT_TRUE(two.a.cast(2, std::string(10'001, 'x')));
  ASSERT_TRUE(two.until([&] { return !two.a.up(2); }, 1s));
  EXPECT_TRUE(two.b.casts.empty());
}

}  // namespace
}  // namespace pyralog::peer::testing
