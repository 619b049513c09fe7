// Who is let in, who is not, and what both sides say then.
#include <gtest/gtest.h>

#include "peer/links.h"
#include "peer/testing.h"

namespace pyralog::peer::testing {
namespace {

/// Both sides' words for why 1 and 2 do not talk; the link must never have come up.
std::pair<std::string, std::string> refused(const NodeSpec& first, const NodeSpec& second) {
  Nodes nodes;
  Machine& a = nodes.add(first);
  Machine& b = nodes.add(second);
  nodes.connect(a, 1, 2);
  nodes.sim.run_for(3s);
  EXPECT_EQ(a.links().stats().ups, 0U);
  EXPECT_GE(a.links().stats().failed_dials, 2U) << "it tries again";
  EXPECT_EQ(b.acceptor().stats().welcomed, 0U);
  EXPECT_EQ(b.service().stats().opened, 0U);
  const std::string here = a.links().why_down(NodeId(2));
  const std::string there = b.acceptor().stats().last_refusal;
  EXPECT_EQ(here.find("node 2 at 10.0.0.2:9093: "), 0U) << here;
  EXPECT_EQ(there.find("peer at 10.0.0.1:"), 0U) << there;
  return {here, there};
}
bool says(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

TEST(PeerTrust, another_secret_is_refused_by_both_sides) {
  const auto [here, there] = refused({.id = 1}, {.id = 2, .secret = "another secret of 16"});
  for (const auto& text : {here, there}) {
    EXPECT_TRUE(says(text, "the cluster secrets of node 1 and node 2 differ")) << text;
    EXPECT_TRUE(says(text, "give both the same secret file")) << text;
  }
}

TEST(PeerTrust, another_cluster_is_refused_by_both_sides) {
  const auto [here, there] = refused({.id = 1}, {.id = 2, .cluster = uuid_of(8)});
  for (const auto& text : {here, there}) {
    EXPECT_TRUE(says(text, model::to_string(uuid_of(8)))) << text;
    EXPECT_TRUE(says(text, model::to_string(uuid_of(9)))) << text;
    EXPECT_TRUE(says(text, "correct the addresses")) << text;
  }
}

TEST(PeerTrust, a_node_that_does_not_know_its_cluster_yet_is_let_in) {
  Nodes nodes;
  Machine& a = nodes.add({.id = 1, .cluster = Uuid{}});
  Machine& b = nodes.add({.id = 2});
  nodes.connect(a, 1, 2);
  nodes.connect(b, 0, 1);
  ASSERT_TRUE(nodes.until([&] { return a.up(2) && b.up(1); }));
  EXPECT_EQ(a.links().connected(NodeId(2))->identity.cluster, uuid_of(9)) << "so it learns";
}

TEST(PeerTrust, no_common_version_or_level_is_refused_by_both_sides) {
  const auto [here, there] =
      refused({.id = 1}, {.id = 2, .abilities = {.least_version = 2, .greatest_version = 3}});
  for (const auto& text : {here, there}) {
    EXPECT_TRUE(says(text, "versions 2 to 3")) << text;
    EXPECT_TRUE(says(text, "upgrade the older node")) << text;
  }
  const auto [level_here, level_there] =
      refused({.id = 1, .abilities = {.least_level = 5, .feature_level = 7}}, {.id = 2});
  for (const auto& text : {level_here, level_there}) {
    EXPECT_TRUE(says(text, "levels 5 to 7")) << text;
    EXPECT_TRUE(says(text, "upgrade the older node")) << text;
  }
}

TEST(PeerTrust, the_greatest_common_version_and_level_are_taken) {
  Nodes nodes;
  Machine& a = nodes.add(
      {.id = 1, .abilities = {.greatest_version = 3, .least_level = 2, .feature_level = 7}});
  nodes.add({.id = 2, .abilities = {.greatest_version = 2, .feature_level = 4}});
  nodes.connect(a, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return a.up(2); }));
  EXPECT_EQ(a.links().connected(NodeId(2))->version, 2);
  EXPECT_EQ(a.links().connected(NodeId(2))->level, 4);
}

TEST(PeerTrust, of_two_nodes_with_one_number_the_one_that_is_not_admitted_hears_why) {
  Nodes nodes;
  Machine& first = nodes.add({.id = 1});
  Machine& b = nodes.add({.id = 2});
  Machine& second = nodes.add({.id = 1, .incarnation = 7});
  b.acceptor().set_admit([](const Peer& peer) -> Result<void> {
    if (peer.identity.incarnation == uuid_of(1)) return {};
    return fail(Code::kFenced, "node 1 has another disk; use cluster replace-disk");
  });
  nodes.connect(first, 1, 2);
  nodes.connect(second, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return first.up(2); }));
  nodes.sim.run_for(3s);
  EXPECT_TRUE(first.up(2));
  EXPECT_EQ(first.changes.size(), 1U) << "it is left alone";
  EXPECT_EQ(second.links().stats().ups, 0U);
  EXPECT_TRUE(says(second.links().why_down(NodeId(2)), "use cluster replace-disk"));
  EXPECT_TRUE(says(b.acceptor().stats().last_refusal, "use cluster replace-disk"));
}

TEST(PeerTrust, a_new_disk_that_is_admitted_takes_the_place_of_the_old) {
  Nodes nodes;
  Machine& first = nodes.add({.id = 1});
  Machine& b = nodes.add({.id = 2});
  Machine& second = nodes.add({.id = 1, .incarnation = 7});
  Uuid wanted = uuid_of(1);
  b.acceptor().set_admit([&](const Peer& peer) -> Result<void> {
    if (peer.identity.incarnation == wanted) return {};
    return fail(Code::kFenced, "an old disk");
  });
  nodes.connect(first, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return first.up(2); }));
  wanted = uuid_of(7);
  nodes.connect(second, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return second.up(2); }));
  ASSERT_TRUE(nodes.until([&] { return !first.up(2); }));
  nodes.sim.run_for(3s);
  EXPECT_TRUE(says(first.links().why_down(NodeId(2)), "an old disk"));
  EXPECT_EQ(b.service().connections(), 1U);
}

TEST(PeerTrust, an_older_start_of_a_node_is_refused_while_a_later_one_is_here) {
  Nodes nodes;
  Machine& older = nodes.add({.id = 1, .boot_counter = 4});
  Machine& b = nodes.add({.id = 2});
  Machine& later = nodes.add({.id = 1, .incarnation = 1, .boot_counter = 5});
  nodes.connect(older, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return older.up(2); }));
  nodes.connect(later, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return later.up(2); }));
  nodes.sim.run_for(3s);
  EXPECT_TRUE(later.up(2));
  EXPECT_FALSE(older.up(2));
  EXPECT_TRUE(says(older.links().why_down(NodeId(2)), "stop the older process"));
  EXPECT_EQ(b.service().connections(), 1U);
  EXPECT_EQ(later.changes.size(), 1U);
}

TEST(PeerTrust, a_newer_connection_of_a_node_and_lane_takes_the_place_of_the_older) {
  Nodes nodes;
  Machine& a = nodes.add({.id = 1});
  Machine& b = nodes.add({.id = 2});
  Machine& same = nodes.add({.id = 1, .incarnation = 1});
  nodes.connect(a, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return a.up(2); }));
  nodes.connect(same, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return same.up(2); }));
  ASSERT_TRUE(nodes.until([&] { return !a.up(2); }));
  EXPECT_GE(b.acceptor().stats().replaced, 1U);
  nodes.sim.run_for(10s);
  EXPECT_LE(b.service().connections(), 1U) << "they take turns; never both";
}

TEST(PeerTrust, a_node_has_only_so_many_connections_of_a_lane_at_once) {
  Nodes nodes;
  Machine& a = nodes.add({.id = 1});
  Machine& b = nodes.add({.id = 2, .max_per_lane = 1});
  Machine& same = nodes.add({.id = 1, .incarnation = 1});
  nodes.connect(a, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return a.up(2); }));
  nodes.connect(same, 1, 2);
  nodes.sim.run_for(3s);
  EXPECT_TRUE(a.up(2));
  EXPECT_EQ(same.links().stats().ups, 0U);
  EXPECT_TRUE(says(same.links().why_down(NodeId(2)), "too many connections"));
  EXPECT_EQ(b.acceptor().connections(), 1U);
}

TEST(PeerTrust, strangers_that_say_nothing_keep_no_node_out) {
  Nodes nodes;
  Machine& a = nodes.add({.id = 1});
  Machine& b = nodes.add({.id = 2, .max_half_open = 8});
  auto& stranger = nodes.sim.add_node();
  std::vector<std::unique_ptr<io::Stream>> silent;
  stranger.run([&]() -> io::Task<void> {
    for (int i = 0; i < 50; ++i) {
      auto stream = co_await io::Shard::current().net().connect(nodes.address(1),
                                                                io::Shard::current().now() + 1s);
      silent.push_back(std::move(stream.value()));
    }
  });
  nodes.sim.run_for(10ms);
  EXPECT_EQ(b.acceptor().half_open(), 8U);
  EXPECT_EQ(b.acceptor().stats().displaced, 42U);
  nodes.connect(a, 1, 2);
  ASSERT_TRUE(nodes.until([&] { return a.up(2); }, 100ms)) << "not only after their time is up";
  nodes.sim.run_for(2500ms);
  EXPECT_EQ(b.acceptor().half_open(), 0U) << "each has only so long";
}

TEST(PeerTrust, what_is_no_peer_is_let_go_without_reading_much) {
  Nodes nodes;
  Machine& b = nodes.add({.id = 2});
  auto& stranger = nodes.sim.add_node();
  const auto send = [&](Bytes bytes) {
    return stranger.run([&, bytes]() -> io::Task<std::size_t> {
      const Instant soon = io::Shard::current().now() + 5s;
      auto stream = (co_await io::Shard::current().net().connect(nodes.address(0), soon)).value();
      std::vector<io::Piece> pieces;
      pieces.emplace_back(SharedBytes::copy(bytes));
      static_cast<void>(co_await stream->write(std::move(pieces), soon));
      Bytes out(4096);
      auto got = co_await stream->read_some(out, soon);
      co_return got ? *got : 0;
    });
  };
  const std::string http = "GET / HTTP/1.1\r\nHost: pyralog\r\n\r\n";
  EXPECT_EQ(send(Bytes(http.begin(), http.end())), 0U) << "nothing is said to a stranger";
  EXPECT_TRUE(says(b.acceptor().stats().last_refusal, "is the other side a pyralog peer?"));
  // A handshake that promises a gigabyte.
  const RawHeader huge =
      encode(Header{1u << 30, static_cast<std::uint16_t>(Kind::kHello), 0, 0, 0});
  EXPECT_EQ(send(Bytes(huge.begin(), huge.end())), 0U);
  EXPECT_TRUE(says(b.acceptor().stats().last_refusal, "the limit is 2048"))
      << b.acceptor().stats().last_refusal;
  const RawHeader early = encode(Header{0, static_cast<std::uint16_t>(Kind::kAppend), 0, 0, 0});
  EXPECT_EQ(send(Bytes(early.begin(), early.end())), 0U);
  EXPECT_TRUE(says(b.acceptor().stats().last_refusal, "before the handshake is over"));
}

}  // namespace
}  // namespace pyralog::peer::testing
