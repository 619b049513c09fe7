#include "protocol/http/request.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/assert.h"

namespace pyralog::protocol::http {

namespace beast = boost::beast;

struct RequestReader::State {
  beast::http::request_parser<beast::http::string_body> parser;
  // Bytes of a header that is not whole yet: the parser wants lines in one piece.
  Bytes pending;
};

RequestReader::RequestReader(Limits limits) : limits_(limits) {
  state_ = std::make_unique<State>();
  state_->parser.header_limit(limits_.header_bytes);
  state_->parser.body_limit(limits_.body_bytes);
  state_->parser.eager(true);
}
RequestReader::RequestReader(RequestReader&&) noexcept = default;
RequestReader& RequestReader::operator=(RequestReader&&) noexcept = default;
RequestReader::~RequestReader() = default;

Result<std::size_t> RequestReader::put(ByteView bytes) {
  PYRALOG_ASSERT(!complete());
  const std::size_t before = state_->pending.size();
  state_->pending.insert(state_->pending.end(), bytes.begin(), bytes.end());
  std::size_t used = 0;
  while (used < state_->pending.size() && !state_->parser.is_done()) {
    beast::error_code error;
    const std::size_t step = state_->parser.put(
        boost::asio::buffer(state_->pending.data() + used, state_->pending.size() - used), error);
    used += step;
    if (error == beast::http::error::need_more) break;
    if (error == beast::http::error::header_limit || error == beast::http::error::body_limit ||
        error == beast::http::error::buffer_overflow) {
      return fail(Code::kTooLarge, "request: " + error.message());
    }
    if (error) return fail(Code::kCorrupt, "request: " + error.message());
    if (step == 0) break;
  }
  if (state_->parser.is_done()) {
    state_->pending.clear();
    // Earlier calls have kept only what the parser left, so this call's bytes end the request.
    PYRALOG_ASSERT(used >= before);
    return used - before;
  }
  state_->pending.erase(state_->pending.begin(),
                        state_->pending.begin() + static_cast<std::ptrdiff_t>(used));
  if (state_->pending.size() > limits_.header_bytes) {
    return fail(Code::kTooLarge,
                "request: header over " + std::to_string(limits_.header_bytes) + " bytes");
  }
  return bytes.size();
}

bool RequestReader::complete() const {
  return state_->parser.is_done();
}

bool RequestReader::untouched() const {
  return state_->pending.empty() && !state_->parser.got_some();
}

Request RequestReader::take() {
  PYRALOG_ASSERT(complete());
  const auto& message = state_->parser.get();
  Request request;
  request.method = std::string(message.method_string());
  request.path = std::string(message.target());
  request.path.resize(std::min(request.path.find('?'), request.path.size()));
  request.keep_alive = message.keep_alive();
  *this = RequestReader(limits_);
  return request;
}

}  // namespace pyralog::protocol::http
