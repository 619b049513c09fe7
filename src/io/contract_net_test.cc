#include <chrono>

#include "io/contract.h"
#include "io/disk.h"
#include "io/net.h"
#include "io/rng.h"

namespace pyralog::io {
namespace {

using namespace std::chrono_literals;

Net& net() { return Shard::current().net(); }
Instant soon() { return Shard::current().now() + 30s; }

struct Pair {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
};

Task<Pair> make_pair() {
  Pair pair;
  pair.listener = (co_await net().listen({"127.0.0.1", 0})).value();
  pair.client = (co_await net().connect(pair.listener->local(), soon())).value();
  pair.server = (co_await pair.listener->accept()).value();
  co_return pair;
}

std::vector<Piece> text(std::string_view what) {
  std::vector<Piece> pieces;
  pieces.emplace_back(SharedBytes::copy(as_bytes(what)));
  return pieces;
}

/// Reads `count` bytes, or as many as come before the end.
Task<Result<Bytes>> read_exactly(Stream* stream, std::size_t count) {
  Bytes all(count);
  std::size_t done = 0;
  while (done < count) {
    auto got = co_await stream->read_some(MutableBytes(all).subspan(done), soon());
    if (!got) co_return fail(std::move(got.error()));
    if (*got == 0) break;
    done += *got;
  }
  all.resize(done);
  co_return all;
}

TEST_P(NetContract, both_sides_can_talk_and_know_each_other) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    EXPECT_NE(pair.listener->local().port, 0);
    EXPECT_EQ(pair.client->peer().port, pair.listener->local().port);
    EXPECT_EQ(pair.server->peer().port, pair.client->local().port);
    EXPECT_TRUE(co_await pair.client->write(text("question"), soon()));
    EXPECT_EQ(as_text((co_await read_exactly(pair.server.get(), 8)).value()), "question");
    EXPECT_TRUE(co_await pair.server->write(text("answer"), soon()));
    EXPECT_EQ(as_text((co_await read_exactly(pair.client.get(), 6)).value()), "answer");
  });
}

TEST_P(NetContract, much_data_arrives_whole_and_in_order) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    Bytes data(3'000'000);
    SeededRng(7).fill(data);
    std::vector<Piece> pieces;
    const SharedBytes shared = SharedBytes::copy(data);
    for (std::size_t at = 0; at < data.size();) {
      const std::size_t count = std::min<std::size_t>(1 + at % 50'000, data.size() - at);
      pieces.emplace_back(shared.slice(at, count));
      at += count;
    }
    TaskGroup group;
    const auto send = [](Stream* stream, std::vector<Piece> what) -> Task<void> {
      EXPECT_TRUE(co_await stream->write(std::move(what), soon()));
      stream->close();
    };
    group.spawn(send(pair.client.get(), std::move(pieces)));
    EXPECT_EQ((co_await read_exactly(pair.server.get(), data.size() + 1)).value(), data);
    co_await group.join();
  });
}

TEST_P(NetContract, file_ranges_and_memory_leave_in_order) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    std::shared_ptr<File> file =
        (co_await Shard::current().disk().open(path("a"), OpenMode::kCreate)).value();
    Bytes content(700'000);
    SeededRng(8).fill(content);
    EXPECT_TRUE(file->write_at(0, content));
    EXPECT_TRUE(co_await file->sync());
    file->drop_cache();
    std::vector<Piece> pieces = text("<");
    pieces.emplace_back(FileRange{file, 100, 600'000});
    pieces.emplace_back(SharedBytes::copy(as_bytes("|")));
    pieces.emplace_back(FileRange{file, 0, 5});
    pieces.emplace_back(FileRange{file, 0, 0});
    pieces.emplace_back(SharedBytes());
    pieces.emplace_back(SharedBytes::copy(as_bytes(">")));
    Bytes expected{'<'};
    expected.insert(expected.end(), content.begin() + 100, content.begin() + 600'100);
    expected.push_back('|');
    expected.insert(expected.end(), content.begin(), content.begin() + 5);
    expected.push_back('>');
    TaskGroup group;
    const auto send = [](Stream* stream, std::vector<Piece> what) -> Task<void> {
      EXPECT_TRUE(co_await stream->write(std::move(what), soon()));
    };
    group.spawn(send(pair.server.get(), std::move(pieces)));
    EXPECT_EQ((co_await read_exactly(pair.client.get(), expected.size())).value(), expected);
    co_await group.join();
    std::vector<Piece> beyond;
    beyond.emplace_back(FileRange{file, 699'999, 2});
    EXPECT_FALSE(co_await pair.server->write(std::move(beyond), soon()));
  });
}

TEST_P(NetContract, whoever_gave_out_a_file_hears_that_it_could_not_be_sent) {
  struct Owner final : RangeOwner {
    void unreadable(const std::string& file, std::uint64_t position, std::uint64_t count,
                    const Error& error) override {
      told = file + " " + std::to_string(position) + " " + std::to_string(count);
      reason = error.message;
    }
    std::string told;
    std::string reason;
  };
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    std::shared_ptr<File> file =
        (co_await Shard::current().disk().open(path("short"), OpenMode::kCreate)).value();
    EXPECT_TRUE(file->write_at(0, Bytes(1'000)));
    const auto owner = std::make_shared<Owner>();
    std::vector<Piece> pieces;
    pieces.emplace_back(FileRange{file, 0, 1'000, owner});
    EXPECT_TRUE(co_await pair.server->write(std::move(pieces), soon()));
    EXPECT_EQ(owner->told, "");
    std::vector<Piece> beyond;
    beyond.emplace_back(FileRange{file, 900, 200, owner});
    EXPECT_FALSE(co_await pair.server->write_while_taken(std::move(beyond), 10s));
    EXPECT_EQ(owner->told, path("short") + " 900 200");
    EXPECT_NE(owner->reason.find(path("short")), std::string::npos) << owner->reason;
  });
}

TEST_P(NetContract, the_end_is_seen_after_the_data) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    EXPECT_TRUE(co_await pair.client->write(text("bye"), soon()));
    pair.client->close();
    EXPECT_EQ(as_text((co_await read_exactly(pair.server.get(), 10)).value()), "bye");
    Bytes out(1);
    EXPECT_EQ((co_await pair.server->read_some(out, soon())).value(), 0U);
    EXPECT_EQ((co_await pair.client->read_some(out, soon())).error().code, Code::kCancelled);
    EXPECT_EQ((co_await pair.client->write(text("x"), soon())).error().code, Code::kCancelled);
  });
}

TEST_P(NetContract, a_read_ends_at_its_deadline_and_the_stream_lives_on) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    Bytes out(8);
    const Instant deadline = Shard::current().now() + 5ms;
    const auto late = co_await pair.server->read_some(out, deadline);
    EXPECT_EQ(late.error().code, Code::kTimedOut);
    EXPECT_GE(Shard::current().now(), deadline);
    EXPECT_TRUE(co_await pair.client->write(text("hi"), soon()));
    EXPECT_EQ(as_text((co_await read_exactly(pair.server.get(), 2)).value()), "hi");
  });
}

TEST_P(NetContract, a_peer_that_does_not_read_stops_the_writer) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    std::vector<Piece> pieces;
    const SharedBytes block{Bytes(1'000'000)};
    for (int i = 0; i < 100; ++i) pieces.emplace_back(block);
    const auto late = co_await pair.client->write(std::move(pieces), Shard::current().now() + 50ms);
    EXPECT_EQ(late.error().code, Code::kTimedOut);
  });
}

TEST_P(NetContract, a_peer_that_reads_slowly_is_waited_for_as_long_as_it_reads) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    constexpr Duration kPatience = 1s;
    std::vector<Piece> pieces;
    const SharedBytes block{Bytes(1'000'000, 1)};
    for (int i = 0; i < 100; ++i) pieces.emplace_back(block);
    TaskGroup group;
    Instant ended = Instant::never();
    const auto send = [&](Stream* stream, std::vector<Piece> what) -> Task<void> {
      const auto late = co_await stream->write_while_taken(std::move(what), kPatience);
      EXPECT_EQ(late.error().code, Code::kTimedOut);
      ended = Shard::current().now();
    };
    group.spawn(send(pair.client.get(), std::move(pieces)));
    Bytes out(200'000);
    const Instant start = Shard::current().now();
    while (Shard::current().now() < start + 2 * kPatience) {
      co_await sleep_for(50ms);  // a reader that takes its time is what this is about
      EXPECT_EQ(ended, Instant::never());
      EXPECT_TRUE(co_await pair.server->read_some(out, soon()));
    }
    co_await group.join();
    EXPECT_GT(ended, start + 2 * kPatience) << "it takes nothing any more";
  });
}

TEST_P(NetContract, closing_ends_those_who_wait) {
  run([&]() -> Task<void> {
    Pair pair = co_await make_pair();
    TaskGroup group;
    const auto read = [](Stream* stream) -> Task<void> {
      Bytes out(8);
      const auto got = co_await stream->read_some(out, Instant::never());
      EXPECT_EQ(got.error().code, Code::kCancelled);
    };
    const auto accept = [](Listener* listener) -> Task<void> {
      EXPECT_EQ((co_await listener->accept()).error().code, Code::kCancelled);
    };
    group.spawn(read(pair.client.get()));
    group.spawn(accept(pair.listener.get()));
    co_await sleep_for(2ms);
    pair.client->close();
    pair.listener->close();
    co_await group.join();
  });
}

TEST_P(NetContract, a_reader_timing_out_leaves_the_writer_alone) {
  run([&]() -> Task<void> {
    const Pair pair = co_await make_pair();
    TaskGroup group;
    const auto send = [](Stream* stream) -> Task<void> {
      std::vector<Piece> pieces;
      const SharedBytes block{Bytes(1'000'000, 1)};
      for (int i = 0; i < 20; ++i) pieces.emplace_back(block);
      EXPECT_TRUE(co_await stream->write(std::move(pieces), soon()));
    };
    group.spawn(send(pair.client.get()));
    Bytes out(8);
    const auto late = co_await pair.client->read_some(out, Shard::current().now() + 10ms);
    EXPECT_EQ(late.error().code, Code::kTimedOut);
    EXPECT_EQ((co_await read_exactly(pair.server.get(), 20'000'000)).value().size(), 20'000'000U);
    co_await group.join();
  });
}

TEST_P(NetContract, a_port_has_one_listener_and_a_closed_one_refuses) {
  run([&]() -> Task<void> {
    auto listener = (co_await net().listen({"127.0.0.1", 0})).value();
    const Address address = listener->local();
    const auto second = co_await net().listen(address);
    EXPECT_EQ(second.error().code, Code::kAlreadyExists);
    EXPECT_NE(second.error().message.find(std::to_string(address.port)), std::string::npos);
    listener->close();
    listener.reset();
    const auto refused = co_await net().connect(address, soon());
    EXPECT_EQ(refused.error().code, Code::kUnavailable);
    EXPECT_TRUE(co_await net().listen(address));
  });
}

TEST_P(NetContract, a_stream_moves_to_another_shard) {
  run([&]() -> Task<void> {
    Pair pair = co_await make_pair();
    EXPECT_TRUE(co_await pair.client->write(text("first"), soon()));
    EXPECT_EQ((co_await read_exactly(pair.server.get(), 5)).value().size(), 5U);
    std::unique_ptr<Stream> moved = (co_await pair.server->move_to(shard(1))).value();
    const std::uint16_t port = pair.client->local().port;
    TaskGroup group;
    const auto ask = [](Stream* stream) -> Task<void> {
      EXPECT_TRUE(co_await stream->write(text("second"), soon()));
    };
    group.spawn(ask(pair.client.get()));
    co_await on(shard(1), [&moved, port]() -> Task<void> {
      const std::unique_ptr<Stream> stream = std::move(moved);
      EXPECT_EQ(stream->peer().port, port);
      EXPECT_EQ(as_text((co_await read_exactly(stream.get(), 6)).value()), "second");
      EXPECT_TRUE(co_await stream->write(text("third"), soon()));
    });
    co_await group.join();
    EXPECT_EQ(as_text((co_await read_exactly(pair.client.get(), 5)).value()), "third");
  });
}

}  // namespace
}  // namespace pyralog::io
