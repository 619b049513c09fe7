#include "peer/shake.h"

#include <utility>

#include "io/rng.h"
#include "io/shard.h"

namespace pyralog::peer {
namespace {

io::Task<Result<void>> read_exactly(io::Stream* stream, MutableBytes out, Instant deadline) {
  std::size_t done = 0;
  while (done < out.size()) {
    PYRALOG_CO_ASSIGN(const std::size_t count,
                      co_await stream->read_some(out.subspan(done), deadline));
    if (count == 0) {
      co_return fail(Code::kUnavailable,
                     "the other side closed the connection during the handshake");
    }
    done += count;
  }
  co_return Result<void>();
}

io::Task<Result<HandshakeFrame>> read_frame(io::Stream* stream, Instant deadline) {
  RawHeader raw{};
  PYRALOG_CO_TRY(co_await read_exactly(stream, raw, deadline));
  PYRALOG_CO_ASSIGN(const Header header, parse_handshake_header(raw));
  HandshakeFrame frame{header, Bytes(raw.begin(), raw.end())};
  frame.raw.resize(kHeaderBytes + header.body_bytes);
  PYRALOG_CO_TRY(
      co_await read_exactly(stream, MutableBytes(frame.raw).subspan(kHeaderBytes), deadline));
  co_return frame;
}

io::Task<Result<void>> write(io::Stream* stream, Bytes bytes, Instant deadline) {
  if (bytes.empty()) co_return Result<void>();
  std::vector<io::Piece> pieces;
  pieces.emplace_back(SharedBytes(std::move(bytes)));
  co_return co_await stream->write(std::move(pieces), deadline);
}

/// Tells the other side why it ends, unless it has said so itself.
io::Task<Error> told(io::Stream* stream, Error error) {
  if (!error.message.starts_with(kRefused)) {
    static_cast<void>(co_await write(stream, refusal(error), io::Shard::current().now() + 100ms));
  }
  co_return error;
}

io::Task<Result<Agreed>> dial(io::Stream* stream, DialerHandshake handshake, Instant deadline) {
  PYRALOG_CO_TRY(co_await write(stream, handshake.hello(), deadline));
  while (!handshake.agreed()) {
    PYRALOG_CO_ASSIGN(const HandshakeFrame frame, co_await read_frame(stream, deadline));
    auto answer = handshake.take(frame);
    if (!answer) co_return fail(co_await told(stream, std::move(answer.error())));
    PYRALOG_CO_TRY(co_await write(stream, std::move(*answer), deadline));
  }
  co_return *handshake.agreed();
}

io::Task<Result<Agreed>> accept(io::Stream* stream, AcceptorHandshake handshake, Admit admit,
                                Instant deadline) {
  while (!handshake.proved()) {
    PYRALOG_CO_ASSIGN(const HandshakeFrame frame, co_await read_frame(stream, deadline));
    auto answer = handshake.take(frame);
    if (!answer) co_return fail(co_await told(stream, std::move(answer.error())));
    PYRALOG_CO_TRY(co_await write(stream, std::move(*answer), deadline));
  }
  if (auto admitted = admit(handshake.proved()->peer); !admitted) {
    co_return fail(co_await told(stream, std::move(admitted.error())));
  }
  PYRALOG_CO_TRY(co_await write(stream, AcceptorHandshake::welcome(), deadline));
  co_return *handshake.proved();
}

}  // namespace

Digest make_nonce(const Local& local, std::int32_t place, std::uint64_t count) {
  Digest random{};
  io::Shard::current().rng().fill(random);
  Writer once;
  once.raw(local.self.incarnation.bytes).be(local.self.node.value).be(local.self.boot_counter);
  once.be(place).be(count);
  return local.secret.nonce(random, once.view());
}

std::string without(const io::Address& address, std::string text) {
  const std::string begin = io::to_string(address) + ": ";
  return text.starts_with(begin) ? text.substr(begin.size()) : text;
}

io::Task<Result<Agreed>> shake_as_dialer(io::Stream* stream, DialerHandshake handshake,
                                         std::string where, Instant deadline) {
  auto agreed = co_await dial(stream, std::move(handshake), deadline);
  if (!agreed) {
    agreed.error().message =
        where + ": " + without(stream->peer(), std::move(agreed.error().message));
  }
  co_return agreed;
}

io::Task<Result<Agreed>> shake_as_acceptor(io::Stream* stream, AcceptorHandshake handshake,
                                           std::string where, Admit admit, Instant deadline) {
  auto agreed = co_await accept(stream, std::move(handshake), std::move(admit), deadline);
  if (!agreed) {
    agreed.error().message =
        where + ": " + without(stream->peer(), std::move(agreed.error().message));
  }
  co_return agreed;
}

}  // namespace pyralog::peer
