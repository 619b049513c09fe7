// Somebody in the network between two nodes who changes, repeats, drops or turns round what they
// send.
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "peer/links.h"
#include "peer/testing.h"

namespace pyralog::peer::testing {
namespace {

/// Where a frame goes on, and as what.
struct Onward {
  bool to_acceptor;
  Bytes frame;
};
/// Sees each whole frame after the handshake.
using OnFrame = std::function<std::vector<Onward>(bool to_acceptor, Bytes frame)>;

/// The node in between. The dialer takes it for the acceptor.
class Between {
 public:
  Between(io::sim::Node& node, io::Address target, OnFrame on_frame)
      : node_(node), target_(std::move(target)), on_frame_(std::move(on_frame)) {
    node_.spawn([this]() -> io::Task<void> { return run(); });
  }

 private:
  struct Sides {
    std::unique_ptr<io::Stream> dialer;
    std::unique_ptr<io::Stream> acceptor;
  };
  io::Task<void> run() {
    listener_ = (co_await io::Shard::current().net().listen({"0.0.0.0", kPort})).value();
    while (true) {
      auto from = co_await listener_->accept();
      auto to =
          co_await io::Shard::current().net().connect(target_, io::Shard::current().now() + 1s);
      if (!from || !to) continue;
      auto sides = std::make_shared<Sides>(std::move(*from), std::move(*to));
      tasks_.spawn(pump(sides, true));
      tasks_.spawn(pump(sides, false));
    }
  }
  io::Task<void> pump(std::shared_ptr<Sides> sides, bool to_acceptor) {
    io::Stream& from = to_acceptor ? *sides->dialer : *sides->acceptor;
    Bytes inbox;
    while (true) {
      Bytes block(10'000);
      auto got = co_await from.read_some(block, Instant::never());
      if (!got || *got == 0) break;
      inbox.insert(inbox.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(*got));
      while (inbox.size() >= kHeaderBytes) {
        const bool shaking = load_be<std::uint16_t>(inbox.data() + 4) <= 5;
        const std::size_t whole =
            kHeaderBytes + load_be<std::uint32_t>(inbox.data()) + (shaking ? 0 : sizeof(Mac));
        if (inbox.size() < whole) break;
        const auto end = inbox.begin() + static_cast<std::ptrdiff_t>(whole);
        Bytes frame(inbox.begin(), end);
        inbox.erase(inbox.begin(), end);
        std::vector<Onward> onward;
        if (shaking) {
          onward.push_back({to_acceptor, std::move(frame)});
        } else {
          onward = on_frame_(to_acceptor, std::move(frame));
        }
        for (Onward& each : onward) {
          std::vector<io::Piece> pieces;
          pieces.emplace_back(SharedBytes(std::move(each.frame)));
          static_cast<void>(co_await (each.to_acceptor ? sides->acceptor : sides->dialer)
                                ->write(std::move(pieces), io::Shard::current().now() + 1s));
        }
      }
    }
    if (forwards_ends) (to_acceptor ? sides->acceptor : sides->dialer)->close();
  }

  io::sim::Node& node_;
  io::Address target_;
  OnFrame on_frame_;
  std::unique_ptr<io::Listener> listener_;
  io::TaskGroup tasks_;

 public:
  bool forwards_ends = true;
};

bool is_cast(const Bytes& frame) {
  return load_be<std::uint16_t>(frame.data() + 4) ==
         static_cast<std::uint16_t>(Kind::kRaftMessages);
}

struct Attacked : Nodes {
  explicit Attacked(OnFrame on_frame)
      : a(add(1)), b(add(2)), between(sim.add_node(), address(1), std::move(on_frame)) {
    connect(a, 2, 2);
    EXPECT_TRUE(until([this] { return a.up(2); })) << a.links().why_down(NodeId(2));
  }
  ~Attacked() {
    for (std::size_t i = 0; i < sim.node_count(); ++i) sim.node(i).kill();
  }
  Machine& a;
  Machine& b;
  Between between;
};

TEST(PeerAttack, nobody_in_between_is_noticed_who_changes_nothing) {
  Attacked nodes([](bool to, Bytes frame) { return std::vector<Onward>{{to, std::move(frame)}}; });
  EXPECT_EQ(nodes.a.ask(2, "question").value(), "question");
  nodes.sim.run_for(3s);
  EXPECT_EQ(nodes.a.changes.size(), 1U);
}

TEST(PeerAttack, a_flipped_bit_anywhere_in_a_frame_ends_the_connection_and_nothing_is_delivered) {
  const std::size_t bytes = kHeaderBytes + 5 + sizeof(Mac);
  for (std::size_t at = 4; at < bytes; ++at) {
    if (at >= kHeaderBytes - 4 && at < kHeaderBytes)
      continue;  // the checksum, which is mended below
    Attacked nodes([at](bool to, Bytes frame) {
      if (is_cast(frame)) {
        frame[at] = static_cast<std::uint8_t>(frame[at] ^ 0x10U);
        const std::size_t checked = kHeaderBytes - 4;
        store_be(frame.data() + checked, crc32c(ByteView(frame).first(checked)));
      }
      return std::vector<Onward>{{to, std::move(frame)}};
    });
    EXPECT_TRUE(nodes.a.cast(2, "hello"));
    EXPECT_TRUE(nodes.until([&] { return !nodes.a.up(2); }, 200ms)) << at;
    EXPECT_TRUE(nodes.b.casts.empty()) << at;
    EXPECT_EQ(nodes.b.service().stats().casts + nodes.b.service().stats().requests, 0U) << at;
  }
}

TEST(PeerAttack, a_frame_that_comes_twice_ends_the_connection_and_is_delivered_once) {
  Attacked nodes([](bool to, Bytes frame) {
    std::vector<Onward> onward{{to, frame}};
    if (is_cast(frame)) onward.push_back({to, std::move(frame)});
    return onward;
  });
  EXPECT_TRUE(nodes.a.cast(2, "once"));
  EXPECT_TRUE(nodes.until([&] { return !nodes.a.up(2); }, 200ms));
  EXPECT_EQ(nodes.b.casts, (std::vector<std::string>{"once"}));
}

TEST(PeerAttack, a_connection_that_ends_in_mid_frame_delivers_nothing_of_it) {
  Attacked* attacked = nullptr;
  Attacked nodes([&](bool to, Bytes frame) {
    if (is_cast(frame)) {
      frame.resize(frame.size() - 1);
      attacked->sim.schedule(1ms, [&] { attacked->sim.net().reset_all(attacked->b.node()); });
    }
    return std::vector<Onward>{{to, std::move(frame)}};
  });
  attacked = &nodes;
  EXPECT_TRUE(nodes.a.cast(2, "half"));
  EXPECT_TRUE(nodes.until([&] { return !nodes.a.up(2); }, 200ms));
  nodes.sim.run_for(2s);
  EXPECT_TRUE(nodes.b.casts.empty());
  EXPECT_TRUE(nodes.a.up(2));
}

TEST(PeerAttack, a_frame_left_out_or_moved_ends_the_connection) {
  for (const bool move : {false, true}) {
    std::optional<Bytes> kept;
    Attacked nodes([&](bool to, Bytes frame) {
      if (is_cast(frame) && !kept) {
        kept = std::move(frame);
        return std::vector<Onward>();
      }
      std::vector<Onward> onward{{to, std::move(frame)}};
      if (move && kept && is_cast(onward[0].frame)) onward.push_back({to, *kept});
      return onward;
    });
    EXPECT_TRUE(nodes.a.cast(2, "first"));
    EXPECT_TRUE(nodes.a.cast(2, "second"));
    EXPECT_TRUE(nodes.until([&] { return !nodes.a.up(2); }, 500ms));
    EXPECT_TRUE(nodes.b.casts.empty());
  }
}

TEST(PeerAttack, a_frame_of_an_earlier_connection_means_nothing_in_the_next) {
  std::optional<Bytes> kept;
  bool again = false;
  Attacked nodes([&](bool to, Bytes frame) {
    if (!is_cast(frame)) return std::vector<Onward>{{to, std::move(frame)}};
    if (!kept) kept = frame;
    return std::vector<Onward>{{to, again ? *kept : std::move(frame)}};
  });
  EXPECT_TRUE(nodes.a.cast(2, "first"));
  ASSERT_TRUE(nodes.until([&] { return nodes.b.casts.size() == 1; }));
  nodes.sim.net().reset_all(nodes.a.node());
  ASSERT_TRUE(nodes.until([&] { return !nodes.a.up(2); }));
  ASSERT_TRUE(nodes.until([&] { return nodes.a.up(2); }));
  again = true;
  EXPECT_TRUE(nodes.a.cast(2, "other"));
  ASSERT_TRUE(nodes.until([&] { return !nodes.a.up(2); }, 500ms));
  EXPECT_EQ(nodes.b.casts, (std::vector<std::string>{"first"}));
}

TEST(PeerAttack, a_node_does_not_take_its_own_frames_for_its_peers) {
  // All that the dialer sends comes back to it, so it would go on hearing beats of a peer that is
  // gone.
  Attacked nodes([](bool to, Bytes frame) {
    std::vector<Onward> onward;
    if (to) onward.push_back({false, std::move(frame)});
    return onward;
  });
  nodes.between.forwards_ends = false;
  nodes.sim.run_for(3s);
  ASSERT_GE(nodes.a.changes.size(), 2U);
  EXPECT_NE(nodes.a.changes[1].why.find("fails its authentication"), std::string::npos)
      << nodes.a.changes[1].why;
}

}  // namespace
}  // namespace pyralog::peer::testing
