// Whole requests to a server on a simulated network: what is answered together, and what at once.
#include "protocol/http/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "io/sim/sim_net.h"
#include "io/sim/simulator.h"

namespace pyralog::protocol::http {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class HttpTest : public ::testing::Test {
 protected:
  HttpTest() : sim_(11) {
    sim_.add_node();
    sim_.add_node();
    HttpHooks hooks;
    hooks.ready = [] { return true; };
    hooks.health_json = [this]() -> io::Task<std::string> {
      co_return R"({"status":")" + health_ + R"("})";
    };
    hooks.metrics_text = [this]() -> io::Task<std::string> {
      co_return "scrapes " + std::to_string(++scrapes_) + "\n";
    };
    hooks.status_json = [this]() -> io::Task<std::string> {
      const std::string number = std::to_string(++made_);
      while (held_) co_await changed_.wait(Instant::never());
      co_return "{" + number + std::string(size_, ' ') + "}";
    };
    hooks.partition_json = [](std::string name) -> io::Task<std::optional<std::string>> {
      if (name != "orders-3") co_return std::nullopt;
      co_return R"({"name":"orders-3"})";
    };
    hooks.version_json = "{}";
    server_ = std::make_unique<HttpServer>(HttpOptions{}, std::move(hooks));
    sim_.node(0).spawn([this]() -> io::Task<void> {
      co_await server_->serve(
          (co_await io::Shard::current().net().listen({"0.0.0.0", 80})).value());
      ended_ = true;
    });
    sim_.run_for(10ms);
  }
  ~HttpTest() override {
    release();
    sim_.node(0).run([this]() -> io::Task<void> {
      server_->stop();
      co_return;
    });
    EXPECT_TRUE(sim_.run_until([this] { return ended_; }, 5min));
  }
  /// Lets the answers go on that are being made.
  void release() {
    sim_.node(0).run([this]() -> io::Task<void> {
      held_ = false;
      changed_.wake_all();
      co_return;
    });
  }

  /// Sends one request on a connection of its own and keeps what comes back in `answers_`. It
  /// begins to read when `unread_` is false.
  std::size_t ask(const std::string& path, const std::string& method = "GET") {
    const std::size_t number = answers_.size();
    answers_.emplace_back();
    sim_.node(1).spawn([this, path, method, number]() -> io::Task<void> {
      const auto in = [](Duration time) { return io::Shard::current().now() + time; };
      auto stream = co_await io::Shard::current().net().connect({"10.0.0.1", 80}, in(5s));
      EXPECT_TRUE(stream);
      std::vector<io::Piece> pieces;
      const std::string text = method + " " + path + " HTTP/1.1\r\nConnection: close\r\n\r\n";
      pieces.emplace_back(SharedBytes::copy(as_bytes(text)));
      EXPECT_TRUE(co_await (*stream)->write(std::move(pieces), in(5s)));
      while (unread_) co_await io::sleep_for(10ms);
      Bytes room(1 << 16);
      for (;;) {
        const auto got = co_await (*stream)->read_some(room, in(60s));
        if (!got || *got == 0) break;
        answers_[number] += as_text(ByteView(room).first(*got));
      }
    });
    sim_.run_for(50ms);
    return number;
  }
  /// The body of an answer that has come.
  std::string body(std::size_t number) {
    const std::string& text = answers_[number];
    const auto end = text.find("\r\n\r\n");
    return end == std::string::npos ? "none: " + text : text.substr(end + 4);
  }

  io::sim::Simulator sim_;
  std::unique_ptr<HttpServer> server_;
  bool ended_ = false;
  int made_ = 0;
  int scrapes_ = 0;
  std::string health_ = "ok";
  bool held_ = false;
  bool unread_ = false;
  std::size_t size_ = 0;
  io::WaitList changed_;
  std::vector<std::string> answers_;
};

TEST_F(HttpTest, who_asks_while_an_answer_is_made_gets_that_one) {
  held_ = true;
  for (int i = 0; i < 5; ++i) ask("/status");
  EXPECT_EQ(made_, 1);
  // What tells whether the server lives waits for nobody.
  EXPECT_EQ(body(ask("/live")), R"({"live":true})");
  EXPECT_EQ(body(ask("/health")), R"({"status":"ok"})");
  EXPECT_EQ(body(ask("/metrics")), "scrapes 1\n");
  EXPECT_EQ(answers_[0], "");
  release();
  sim_.run_for(50ms);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(body(i), "{1}") << i;
}

TEST_F(HttpTest, only_what_stops_service_makes_health_fail) {
  for (const auto& [status, code] : {std::pair("ok", "200"), {"warning", "200"}, {"degraded", "503"},
                                     {"starting", "503"}}) {
    health_ = status;
    EXPECT_THAT(answers_[ask("/health")], HasSubstr(std::string("HTTP/1.1 ") + code)) << status;
  }
}

TEST_F(HttpTest, what_nobody_is_sent_any_more_is_not_kept) {
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(body(ask("/status")), "{" + std::to_string(i) + "}");
    EXPECT_EQ(body(ask("/metrics")), "scrapes " + std::to_string(i) + "\n");
  }
}

TEST_F(HttpTest, who_asks_while_others_are_still_being_sent_one_gets_the_same_for_a_second) {
  size_ = 1u << 20;  // more than the network takes before it is read
  unread_ = true;
  ask("/status");
  ask("/status");
  ask("/status", "HEAD");
  EXPECT_EQ(made_, 1);
  sim_.run_for(1s);
  ask("/status");
  EXPECT_EQ(made_, 2) << "the first is too old";
  unread_ = false;
  sim_.run_for(1s);
  EXPECT_EQ(body(0), "{1" + std::string(size_, ' ') + "}");
  EXPECT_EQ(body(1), body(0));
  EXPECT_EQ(body(2), "");
  EXPECT_THAT(answers_[2], HasSubstr("Content-Length: " + std::to_string(size_ + 3)));
  EXPECT_EQ(body(3), "{2" + std::string(size_, ' ') + "}");
}

TEST_F(HttpTest, who_waits_for_what_others_have_asked_for_waits_no_longer_than_for_anything) {
  held_ = true;
  ask("/status");
  const std::size_t second = ask("/status");
  sim_.run_for(HttpOptions{}.request_timeout + 1s);
  EXPECT_THAT(answers_[second], StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(answers_[second], HasSubstr("was not ready in time; ask again later"));
  EXPECT_EQ(made_, 1);
}

TEST_F(HttpTest, tells_of_one_partition_by_name) {
  EXPECT_EQ(body(ask("/partitions/orders-3/status")), R"({"name":"orders-3"})");
  EXPECT_THAT(answers_[ask("/partitions/orders-4/status")],
              ::testing::AllOf(StartsWith("HTTP/1.1 404 "), HasSubstr("no partition orders-4")));
  EXPECT_THAT(answers_[ask("/partitions/orders-3")], StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(answers_[ask("/partitions//status")], StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(answers_[ask("/partitions/orders-3/status", "POST")], StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(answers_[ask("/partitions/")], HasSubstr(" /partitions/NAME-N/status"));
  EXPECT_EQ(made_, 0) << "it costs nothing to do with all partitions";
}

TEST_F(HttpTest, tells_what_it_does_not_serve) {
  EXPECT_THAT(answers_[ask("/nothing")], StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(answers_[ask("/status", "DELETE")],
              ::testing::AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n")));
  EXPECT_EQ(made_, 0);
}

}  // namespace
}  // namespace pyralog::protocol::http
