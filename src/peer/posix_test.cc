// Two nodes in one process over real sockets.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "io/posix/runtime.h"
#include "peer/acceptor.h"
#include "peer/links.h"

namespace pyralog::peer {
namespace {

constexpr unsigned kShards = 2;

Local local(std::int32_t id) {
  Uuid incarnation;
  incarnation.bytes.fill(static_cast<std::uint8_t>(id));
  return {{NodeId(id), incarnation, 1, {}},
          {},
          Secret::from(as_bytes("a secret of all nodes"), "test").value()};
}

/// On a machine that has much else to do nobody is to be taken for dead.
ChannelOptions patient() {
  return {.dead_after = 20s};
}

/// Node 2 on one runtime, and the links of node 1 on another.
class RealPeers : public ::testing::Test {
 protected:
  RealPeers() : server_({.shards = kShards}), client_({.shards = kShards}) {
    PYRALOG_ASSERT(server_.start() && client_.start());
    std::vector<Service*> services;
    for (unsigned s = 0; s < kShards; ++s) {
      services_.push_back(std::make_unique<Service>(Service::Options{.channel = patient()}));
      services.push_back(services_.back().get());
      services_.back()->on(Kind::kAppend, [](Request request) {
        request.respond.reply(
            {Kind::kAppend,
             0,
             {request.body.slice(0, std::min<std::size_t>(request.body.size(), 64))},
             std::min<std::size_t>(request.body.size(), 64)});
      });
      services_.back()->on(Kind::kReadRange, [](Request request) {
        const std::size_t bytes = request.body.size();
        request.respond.reply({Kind::kReadRange, 0, {request.body}, bytes});
      });
    }
    address_ = server_.run([&]() -> io::Task<io::Address> {
      auto bound = (co_await io::Shard::current().net().listen({"127.0.0.1", 0})).value();
      acceptor_ = std::make_unique<Acceptor>(std::move(bound), server_.shards(), services,
                                             Acceptor::Options{.local = local(2)});
      co_return acceptor_->local();
    });
    io::spawn_on(server_.shard(), [this]() -> io::Task<void> { return acceptor_->run(); });
    for (unsigned s = 0; s < kShards; ++s) {
      Links::Options options{.local = local(1), .lane = static_cast<std::int32_t>(s)};
      options.channel = patient();
      links_.push_back(std::make_unique<Links>(std::move(options)));
      client_.run(
          [this, s]() -> io::Task<bool> {
            links_[s]->set_peers({{NodeId(2), address_}});
            co_return true;
          },
          s);
    }
  }
  ~RealPeers() override {
    for (unsigned s = 0; s < kShards; ++s) {
      client_.run(
          [this, s]() -> io::Task<bool> {
            co_await links_[s]->stop();
            co_return true;
          },
          s);
    }
    server_.run([this]() -> io::Task<bool> {
      co_await acceptor_->stop();
      co_return true;
    });
    client_.stop();
    server_.stop();
  }
  static io::Task<Result<Reply>> call(Links* links, Kind kind, SharedBytes body) {
    const std::size_t bytes = body.size();
    return links->call(NodeId(2), {kind, 0, {std::move(body)}, bytes},
                       io::Shard::current().now() + 30s, WhenDown::kWait);
  }

  io::posix::Runtime server_;
  io::posix::Runtime client_;
  io::Address address_;
  std::vector<std::unique_ptr<Service>> services_;
  std::unique_ptr<Acceptor> acceptor_;
  std::vector<std::unique_ptr<Links>> links_;
};

TEST_F(RealPeers, talk_over_sockets_on_every_lane) {
  for (unsigned s = 0; s < kShards; ++s) {
    const bool fine = client_.run(
        [this, s]() -> io::Task<bool> {
          for (const std::size_t bytes : {0UL, 1UL, 1000UL, 100'000UL, 5'000'000UL}) {
            Bytes body(bytes);
            for (std::size_t i = 0; i < bytes; ++i) body[i] = static_cast<std::uint8_t>(i * 7 + s);
            const auto reply = co_await call(links_[s].get(), Kind::kReadRange, SharedBytes(body));
            EXPECT_TRUE(reply) << reply.error().message;
            if (!reply) co_return false;
            EXPECT_TRUE(std::ranges::equal(reply->body.view(), body)) << bytes;
          }
          co_return true;
        },
        s);
    EXPECT_TRUE(fine);
  }
}

TEST_F(RealPeers, many_calls_at_once_and_long_appends_are_all_answered) {
  constexpr int kSmall = 5'000;
  constexpr int kLong = 100;
  const auto rates = client_.run([this]() -> io::Task<std::pair<double, double>> {
    Links* const links = links_[0].get();
    const auto burst = [links](int count, std::size_t bytes) -> io::Task<double> {
      const SharedBytes body{Bytes(bytes, 3)};
      const Instant from = io::Shard::current().now();
      io::TaskGroup group;
      int answered = 0;
      const auto one = [](Links* to, SharedBytes what, int* done) -> io::Task<void> {
        const auto reply = co_await call(to, Kind::kAppend, std::move(what));
        EXPECT_TRUE(reply) << reply.error().message;
        ++*done;
      };
      for (int i = 0; i < count; ++i) group.spawn(one(links, body, &answered));
      co_await group.join();
      EXPECT_EQ(answered, count);
      co_return static_cast<double>((io::Shard::current().now() - from).count()) / 1e9;
    };
    const double small = co_await burst(kSmall, 100);
    const double large = co_await burst(kLong, 1u << 20);
    co_return std::pair(kSmall / small, kLong / large);
  });
  std::printf("%.0f small calls/s, %.0f MiB/s in long ones\n", rates.first, rates.second);
}

TEST_F(RealPeers, the_other_side_going_away_is_noticed_at_once) {
  const auto fine = client_.run([this]() -> io::Task<bool> {
    co_return (co_await call(links_[0].get(), Kind::kReadRange, SharedBytes(Bytes(10))))
        .has_value();
  });
  EXPECT_TRUE(fine);
  server_.run([this]() -> io::Task<bool> {
    co_await acceptor_->stop();
    co_return true;
  });
  const auto refused = client_.run([this]() -> io::Task<Result<Reply>> {
    for (int i = 0; i < 200 && links_[0]->connected(NodeId(2)) != nullptr; ++i)
      co_await io::sleep_for(10ms);
    co_return co_await links_[0]->call(NodeId(2), {Kind::kAppend, 0, {}, 0},
                                       io::Shard::current().now() + 5s);
  });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
}

}  // namespace
}  // namespace pyralog::peer
