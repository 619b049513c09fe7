#include "protocol/http/request.h"

#include <gtest/gtest.h>

namespace pyralog::protocol::http {
namespace {

TEST(RequestReader, reads_a_request_in_one_piece_and_leaves_the_next) {
  RequestReader reader({});
  const std::string both =
      "GET /live HTTP/1.1\r\nHost: a\r\n\r\nGET /ready?x=1 HTTP/1.1\r\nHost: a\r\n\r\n";
  auto used = reader.put(as_bytes(both));
  ASSERT_TRUE(used);
  ASSERT_TRUE(reader.complete());
  const Request first = reader.take();
  EXPECT_EQ(first.method, "GET");
  EXPECT_EQ(first.path, "/live");
  EXPECT_TRUE(first.keep_alive);
  ASSERT_TRUE(reader.put(as_bytes(both).subspan(*used)));
  ASSERT_TRUE(reader.complete());
  EXPECT_EQ(reader.take().path, "/ready");
  EXPECT_TRUE(reader.untouched());
}

TEST(RequestReader, reads_a_request_byte_by_byte) {
  RequestReader reader({});
  const std::string text = "POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
  for (std::size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(reader.complete());
    const auto used = reader.put(as_bytes(text).subspan(i, 1));
    ASSERT_TRUE(used) << used.error().message;
    EXPECT_EQ(*used, 1u);
  }
  ASSERT_TRUE(reader.complete());
  EXPECT_EQ(reader.take().method, "POST");
}

TEST(RequestReader, honours_connection_close_and_http_1_0) {
  for (const char* text :
       {"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"}) {
    RequestReader reader({});
    ASSERT_TRUE(reader.put(as_bytes(text)));
    EXPECT_FALSE(reader.take().keep_alive);
  }
}

TEST(RequestReader, refuses_what_is_over_its_limits) {
  RequestReader long_header({256, 16});
  const std::string header = "GET / HTTP/1.1\r\nX: " + std::string(1000, 'x') + "\r\n\r\n";
  auto put = long_header.put(as_bytes(header));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, Code::kTooLarge);

  RequestReader dripping({256, 16});
  Result<std::size_t> result = std::size_t{0};
  for (const char c : "GET / HTTP/1.1\r\nX: " + std::string(1000, 'x')) {
    result = dripping.put(as_bytes(std::string(1, c)));
    if (!result) break;
  }
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kTooLarge);

  RequestReader long_body({256, 16});
  put = long_body.put(as_bytes("POST / HTTP/1.1\r\nContent-Length: 17\r\n\r\n"));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, Code::kTooLarge);
}

TEST(RequestReader, refuses_what_is_no_http) {
  for (const char* text : {"\x16\x03\x01\x02\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                           "GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n"}) {
    RequestReader reader({});
    const auto put = reader.put(as_bytes(text));
    ASSERT_FALSE(put) << text;
    EXPECT_EQ(put.error().code, Code::kCorrupt) << text;
  }
}

}  // namespace
}  // namespace pyralog::protocol::http
