// One connection, whatever it serves: order, credits, barriers, times, ends.
#include "protocol/kafka/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::protocol::kafka {
namespace {

/// Answers a frame with itself once the test lets it; a frame that begins with '!' is a barrier.
class Echo final : public Handler {
 public:
  io::Task<Reply> handle(RequestBytes request, Duration) override {
    const std::string text(as_text(*request));
    begun.push_back(text);
    bytes += request->size();
    most = std::max(most, ++running);
    most_bytes = std::max(most_bytes, bytes);
    while (!released.contains(text) && !all) co_await changed.wait(Instant::never());
    --running;
    bytes -= request->size();
    Reply reply;
    if (text.starts_with("silent")) co_return reply;
    Bytes frame(4);
    store_be(frame.data(), static_cast<std::int32_t>(text.size()));
    frame.insert(frame.end(), text.begin(), text.end());
    reply.pieces.emplace_back(SharedBytes(std::move(frame)));
    reply.close = text.starts_with("close");
    co_return reply;
  }
  void closed() override { socket_closed = true; }
  bool is_barrier(ByteView request) const override { return as_text(request).starts_with("!"); }
  void release(const std::string& text) {
    released[text] = true;
    changed.wake_all();
  }
  void release_all() {
    all = true;
    changed.wake_all();
  }

  std::vector<std::string> begun;
  std::map<std::string, bool> released;
  bool all = false;
  bool socket_closed = false;
  std::size_t running = 0;
  std::size_t most = 0;
  std::size_t bytes = 0;
  std::size_t most_bytes = 0;
  io::WaitList changed;
};

class ConnectionTest : public ::testing::Test {
 protected:
  template <typename F>
  auto run(F make, std::size_t machine) {
    return sim_.node(machine).run(std::move(make));
  }
  ConnectionTest() : sim_(5) {
    sim_.add_node();
    sim_.add_node();
  }
  ~ConnectionTest() override {
    echo_.all = true;
    run([this]() -> io::Task<bool> {
      echo_.changed.wake_all();
      if (connection_ != nullptr) connection_->close();
      co_return true;
    }, 0);
    sim_.run_for(1s);
  }
  /// Serves one connection and connects to it.
  void open() {
    sim_.node(0).spawn([this]() -> io::Task<void> {
      auto listener = co_await io::Shard::current().net().listen({"0.0.0.0", 9});
      auto stream = co_await (*listener)->accept();
      Connection connection(std::move(*stream), echo_, limits_, memory_);
      connection_ = &connection;
      const auto ended = co_await connection.run();
      end_ = ended ? "orderly" : ended.error().message;
      connection_ = nullptr;
    });
    run([this]() -> io::Task<bool> {
      co_await io::sleep_for(1ms);
      auto stream = co_await io::Shard::current().net().connect({"10.0.0.1", 9}, in(5s));
      EXPECT_TRUE(stream);
      stream_ = std::move(*stream);
      co_return true;
    }, 1);
    sim_.run_until([this] { return connection_ != nullptr; }, 1s);
  }
  static Bytes frame(const std::string& text) {
    Bytes made(4);
    store_be(made.data(), static_cast<std::int32_t>(text.size()));
    made.insert(made.end(), text.begin(), text.end());
    return made;
  }
  void write(Bytes bytes) {
    run([&, this]() -> io::Task<bool> {
      std::vector<io::Piece> pieces;
      pieces.emplace_back(SharedBytes(std::move(bytes)));
      static_cast<void>(co_await stream_->write(std::move(pieces), in(60s)));
      co_return true;
    }, 1);
    sim_.run_for(100ms);
  }
  void send(const std::vector<std::string>& texts) {
    Bytes all;
    for (const auto& text : texts) {
      const Bytes one = frame(text);
      all.insert(all.end(), one.begin(), one.end());
    }
    write(std::move(all));
  }
  void release(const std::string& text) {
    run([&, this]() -> io::Task<bool> {
      echo_.release(text);
      co_return true;
    }, 0);
    sim_.run_for(100ms);
  }
  /// What has come back until now, frames joined by spaces.
  std::string received() {
    return run([this]() -> io::Task<std::string> {
      Bytes room(1 << 16);
      while (true) {
        const auto got = co_await stream_->read_some(room, in(50ms));
        if (!got || *got == 0) break;
        inbox_.insert(inbox_.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(*got));
      }
      std::string all;
      std::size_t at = 0;
      while (at + 4 <= inbox_.size()) {
        const auto size = static_cast<std::size_t>(load_be<std::int32_t>(inbox_.data() + at));
        all += (all.empty() ? "" : " ") + std::string(as_text(ByteView(inbox_).subspan(at + 4, size)));
        at += 4 + size;
      }
      co_return all;
    }, 1);
  }
  static Instant in(Duration time) { return io::Shard::current().now() + time; }

  io::sim::Simulator sim_;
  Echo echo_;
  ConnectionLimits limits_;
  RequestMemory memory_{1u << 20};
  RequestMemory::Holder others_{memory_};
  Connection* connection_ = nullptr;
  std::unique_ptr<io::Stream> stream_;
  Bytes inbox_;
  std::string end_;
};

using Strings = std::vector<std::string>;
using ::testing::HasSubstr;

TEST_F(ConnectionTest, starts_in_order_and_answers_in_order_whichever_is_ready_first) {
  open();
  send({"a", "b", "c"});
  EXPECT_EQ(echo_.begun, (Strings{"a", "b", "c"}));
  release("c");
  release("b");
  EXPECT_EQ(received(), "");
  release("a");
  EXPECT_EQ(received(), "a b c");
}

TEST_F(ConnectionTest, a_request_without_an_answer_holds_nobody_up) {
  open();
  send({"silent", "b"});
  release("b");
  EXPECT_EQ(received(), "");
  release("silent");
  EXPECT_EQ(received(), "b");
}

TEST_F(ConnectionTest, a_barrier_waits_for_all_before_it_and_all_after_it_wait) {
  open();
  send({"a", "!b", "c"});
  EXPECT_EQ(echo_.begun, Strings{"a"});
  release("a");
  EXPECT_EQ(echo_.begun, (Strings{"a", "!b"}));
  release("!b");
  EXPECT_EQ(echo_.begun, (Strings{"a", "!b", "c"}));
  release("c");
  EXPECT_EQ(received(), "a !b c");
}

TEST_F(ConnectionTest, a_client_that_sends_too_many_requests_is_no_longer_read) {
  limits_.max_pipelined = 4;
  open();
  Strings all;
  std::string expected;
  for (int i = 0; i < 50; ++i) {
    all.push_back("r" + std::to_string(i));
    expected += (expected.empty() ? "" : " ") + all.back();
  }
  send(all);
  EXPECT_EQ(echo_.most, 4u);
  for (const auto& each : all) {
    release(each);
    EXPECT_LE(echo_.running, 4u);
  }
  EXPECT_EQ(echo_.most, 4u);
  EXPECT_EQ(received(), expected) << "nothing is dropped";
}

TEST_F(ConnectionTest, a_client_that_sends_too_many_bytes_is_no_longer_read) {
  limits_.max_pipelined_bytes = 10'000;
  open();
  Strings all;
  for (int i = 0; i < 10; ++i) all.push_back(std::string(3000, static_cast<char>('a' + i)));
  all.push_back(std::string(20'000, 'z'));  // larger than all credit: it runs alone
  send(all);
  for (const auto& each : all) {
    release(each);
    EXPECT_LE(echo_.most, 3u);
  }
  EXPECT_EQ(echo_.most_bytes, 20'000u);
  EXPECT_EQ(received().size(), 10u * 3001 + 20'000);
}

TEST_F(ConnectionTest, nothing_is_begun_while_answers_pile_up) {
  limits_.max_pipelined = 10'000;
  limits_.max_unsent_bytes = 10'000;
  open();
  run([this]() -> io::Task<bool> {
    echo_.release_all();
    co_return true;
  }, 0);
  sim_.node(1).spawn([this]() -> io::Task<void> {
    Bytes all;
    for (int i = 0; i < 2'000; ++i) {
      const Bytes one = frame(std::string(500, 'x'));
      all.insert(all.end(), one.begin(), one.end());
    }
    std::vector<io::Piece> pieces;
    pieces.emplace_back(SharedBytes(std::move(all)));
    static_cast<void>(co_await stream_->write(std::move(pieces), in(10min)));
  });
  sim_.run_for(1s);
  EXPECT_LT(echo_.begun.size(), 1'000u) << "the client takes no answers";
  EXPECT_GT(echo_.begun.size(), 20u);
  std::size_t bytes = 0;
  for (int i = 0; i < 100 && bytes < 2'000u * 501 - 1; ++i) bytes = received().size();
  EXPECT_EQ(bytes, 2'000u * 501 - 1) << "nothing is dropped";
}

TEST_F(ConnectionTest, is_not_read_while_others_hold_the_memory_for_requests) {
  open();
  RequestMemory::Hold others;
  run(
      [&]() -> io::Task<bool> {
        const std::size_t most = RequestMemory::largest(memory_.limit());
        others = co_await memory_.begin(others_, most, most, Instant::never());
        co_return true;
      },
      0);
  const std::string small(80'000, 's'), large(200'000, 'l');
  send({small, large, "last"});
  EXPECT_EQ(echo_.begun, Strings{small});
  release(small);
  EXPECT_EQ(echo_.begun, Strings{small}) << "the large one does not fit yet";
  sim_.run_for(limits_.frame_time * 2);  // that is our wait, the client's time does not run
  run([&]() -> io::Task<bool> {
    others.release();
    co_return true;
  }, 0);
  sim_.run_for(100ms);
  EXPECT_EQ(echo_.begun, (Strings{small, large, "last"}));
  release(large);
  release("last");
  EXPECT_EQ(received(), small + " " + large + " last");
  EXPECT_EQ(memory_.used(), 0u);
}

TEST_F(ConnectionTest, does_not_wait_for_memory_for_ever) {
  limits_.idle = 10min;
  open();
  RequestMemory::Hold others;
  run([&]() -> io::Task<bool> {
    const std::size_t most = RequestMemory::largest(memory_.limit());
    others = co_await memory_.begin(others_, most, most, Instant::never());
    co_return true;
  }, 0);
  send({std::string(200'000, 'l')});
  sim_.run_for(9min);
  EXPECT_EQ(end_, "");
  sim_.run_for(2min);
  EXPECT_THAT(end_, HasSubstr("raise queued.max.request.bytes"));
  run([&]() -> io::Task<bool> {
    others.release();
    co_return true;
  }, 0);
}

/// A request of 600,000 bytes of which `parts` come, one each `every`, while another one waits for the
/// memory if it is `wanted`. How long the connection is there, and whether the other one got the memory.
class PaceTest : public ConnectionTest {
 protected:
  void send_slowly(std::size_t parts, Duration every, bool wanted) {
    echo_.all = true;
    open();
    Bytes whole = frame(std::string(600'000, 'x'));
    const std::size_t each = whole.size() / 60;
    write(Bytes(whole.begin(), whole.begin() + 200'000));
    if (wanted) {
      sim_.node(0).spawn([this]() -> io::Task<void> {
        const auto hold = co_await memory_.begin(others_, 500'000, 500'000, Instant::never());
        got_ = static_cast<bool>(hold);
      });
    }
    std::size_t at = 200'000;
    for (std::size_t i = 0; i < parts && end_.empty(); ++i) {
      const std::size_t end = std::min(at + each, whole.size());
      if (end > at) {
        write(Bytes(whole.begin() + static_cast<std::ptrdiff_t>(at),
                    whole.begin() + static_cast<std::ptrdiff_t>(end)));
      }
      at = end;
      sim_.run_for(every);
    }
  }
  bool got_ = false;
};

TEST_F(PaceTest, a_request_that_stalls_does_not_keep_memory_that_others_wait_for) {
  send_slowly(25, 1ms, true);
  EXPECT_FALSE(got_);
  sim_.run_for(25s);
  EXPECT_TRUE(got_);
  EXPECT_THAT(end_, HasSubstr("without pauses"));
}

TEST_F(PaceTest, a_request_that_stalls_has_its_time_while_nobody_waits) {
  send_slowly(25, 1ms, false);
  sim_.run_for(50s);
  EXPECT_EQ(end_, "");
}

TEST_F(PaceTest, a_request_that_comes_slowly_but_evenly_is_waited_for) {
  send_slowly(41, 1200ms, true);
  sim_.run_for(1s);
  EXPECT_EQ(end_, "");
  EXPECT_EQ(echo_.begun.size(), 1u);
  EXPECT_TRUE(got_);
}

TEST_F(ConnectionTest, a_request_may_come_in_parts_after_a_long_silence) {
  limits_.idle = 10min;
  limits_.frame_time = 60s;
  open();
  sim_.run_for(5min);
  const Bytes whole = frame("late");
  for (const std::uint8_t byte : whole) {
    write(Bytes{byte});
    sim_.run_for(1s);
  }
  release("late");
  EXPECT_EQ(received(), "late");
  EXPECT_EQ(end_, "");
}

TEST_F(ConnectionTest, a_request_that_never_ends_is_not_waited_for) {
  limits_.frame_time = 60s;
  open();
  Bytes part = frame("never");
  part.pop_back();
  write(std::move(part));
  sim_.run_for(61s);
  EXPECT_NE(end_, "");
}

TEST_F(ConnectionTest, an_idle_connection_ends_but_not_while_its_request_runs) {
  limits_.idle = 10min;
  open();
  send({"slow"});
  sim_.run_for(30min);
  EXPECT_EQ(end_, "");
  release("slow");
  EXPECT_EQ(received(), "slow");
  sim_.run_for(9min);
  EXPECT_EQ(end_, "");
  sim_.run_for(12min);
  EXPECT_NE(end_, "");
}

TEST_F(ConnectionTest, answers_before_an_end_still_go_out) {
  open();
  send({"a", "close", "b"});
  run([this]() -> io::Task<bool> {
    echo_.release_all();
    co_return true;
  }, 0);
  EXPECT_EQ(received(), "a close");
  sim_.run_for(1s);
  EXPECT_NE(end_, "");
}

TEST_F(ConnectionTest, a_frame_that_is_too_large_ends_it_after_the_answers_before) {
  limits_.max_frame_bytes = 100;
  open();
  send({"a", std::string(101, 'x')});
  EXPECT_EQ(end_, "");
  release("a");
  EXPECT_EQ(received(), "a");
  sim_.run_for(1s);
  EXPECT_NE(end_.find("101"), std::string::npos) << end_;
}

TEST_F(ConnectionTest, draining_finishes_what_has_begun_and_takes_no_more) {
  open();
  send({"a"});
  run([this]() -> io::Task<bool> {
    connection_->drain();
    co_return true;
  }, 0);
  release("a");
  EXPECT_EQ(received(), "a");
  sim_.run_for(1s);
  EXPECT_NE(end_, "");
}

TEST_F(ConnectionTest, draining_ends_an_idle_one_at_once) {
  open();
  run([this]() -> io::Task<bool> {
    connection_->drain();
    co_return true;
  }, 0);
  sim_.run_for(1s);
  EXPECT_NE(end_, "");
}

TEST_F(ConnectionTest, a_client_that_left_keeps_no_socket_while_its_request_runs) {
  open();
  send({"long"});
  run([this]() -> io::Task<bool> {
    stream_->close();
    co_return true;
  }, 1);
  sim_.run_for(limits_.linger + 1s);
  EXPECT_TRUE(echo_.socket_closed);
  EXPECT_EQ(end_, "") << "the request is still under way";
  release("long");
  EXPECT_NE(end_, "");
}

TEST_F(ConnectionTest, a_client_that_reads_slowly_gets_all_however_long_it_takes) {
  limits_.write_time = 30s;
  echo_.all = true;
  open();
  const std::string text(500'000, 'x');
  send({text, "last"});
  EXPECT_EQ(memory_.used(), 0u) << "requests that are answered hold nothing";
  std::size_t bytes = 0;
  const bool all = run([&, this]() -> io::Task<bool> {
    Bytes room(5'000);
    while (bytes < text.size() + 12) {
      co_await io::sleep_for(2s);
      const auto got = co_await stream_->read_some(room, in(20s));
      if (!got || *got == 0) break;
      bytes += *got;
    }
    co_return bytes == text.size() + 12;
  }, 1);
  EXPECT_TRUE(all) << bytes << " bytes came; " << end_;
  EXPECT_EQ(end_, "");
}

TEST_F(ConnectionTest, a_client_that_does_not_read_is_not_waited_for_for_ever) {
  limits_.write_time = 30s;
  echo_.all = true;
  open();
  Strings many(40, std::string(60'000, 'x'));
  run([&, this]() -> io::Task<bool> {
    for (const auto& text : many) {
      std::vector<io::Piece> pieces;
      pieces.emplace_back(SharedBytes(frame(text)));
      if (!co_await stream_->write(std::move(pieces), in(10s))) break;
    }
    co_return true;
  }, 1);
  sim_.run_for(120s);
  EXPECT_NE(end_, "");
}

}  // namespace
}  // namespace pyralog::protocol::kafka
