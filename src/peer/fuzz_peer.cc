// What a node reads from whoever connects: an acceptor's and a dialer's handshake before anything
// is proved, and the frames of a connection. Byte 0 chooses; the rest is the stream.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/assert.h"
#include "peer/frame.h"
#include "peer/handshake.h"

namespace {

using namespace pyralog;
using namespace pyralog::peer;

Local local(std::int32_t id) {
  static const Secret secret = Secret::from(as_bytes("a secret of all nodes"), "fuzz").value();
  Uuid incarnation;
  incarnation.bytes.fill(static_cast<std::uint8_t>(id));
  return {{NodeId(id), incarnation, 1, {}}, {}, secret};
}

/// The first frame, as the reader of a handshake takes it. The checksum is mended, so that what is
/// behind it is reached.
std::optional<HandshakeFrame> next(ByteView& stream) {
  if (stream.size() < kHeaderBytes) return std::nullopt;
  RawHeader raw{};
  std::copy_n(stream.begin(), raw.size(), raw.begin());
  Header wished{load_be<std::uint32_t>(raw.data()) % 4096, raw[5],
                load_be<std::int16_t>(raw.data() + 6), 0, 0};
  const auto header = parse_handshake_header(encode(wished));
  PYRALOG_ASSERT(!header || header->body_bytes <= kMaxHandshakeBody);
  static_cast<void>(parse_handshake_header(raw));
  if (!header) return std::nullopt;
  const std::size_t count = std::min<std::size_t>(header->body_bytes, stream.size() - kHeaderBytes);
  const ByteView whole = stream.first(kHeaderBytes + count);
  HandshakeFrame frame{*header, Bytes(whole.begin(), whole.end())};
  stream = stream.subspan(whole.size());
  return frame;
}

void try_acceptor(ByteView stream) {
  AcceptorHandshake handshake(local(2), Digest{});
  while (auto frame = next(stream)) {
    const auto answer = handshake.take(*frame);
    if (!answer) {
      PYRALOG_ASSERT(refusal(answer.error()).size() <= kHeaderBytes + kMaxHandshakeBody);
      break;
    }
    PYRALOG_ASSERT(!handshake.proved());
  }
}

void try_dialer(ByteView stream) {
  DialerHandshake handshake(local(1), NodeId(2), 0, Digest{});
  while (auto frame = next(stream)) {
    if (!handshake.take(*frame)) break;
    PYRALOG_ASSERT(!handshake.agreed());
  }
}

void try_frames(ByteView stream, std::size_t step) {
  FrameReader reader({.max_body_bytes = 1u << 16, .block_bytes = 256});
  while (!stream.empty()) {
    const MutableBytes room = reader.buffer();
    PYRALOG_ASSERT(!room.empty());
    const std::size_t count = std::min({stream.size(), room.size(), step});
    std::copy_n(stream.begin(), count, room.begin());
    reader.advance(count);
    stream = stream.subspan(count);
    while (true) {
      auto frame = reader.next();
      if (!frame) return;
      if (!*frame) break;
      PYRALOG_ASSERT((*frame)->body.size() <= 1u << 16);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView stream = ByteView(data, size).subspan(1);
  if (data[0] % 3 == 0) try_acceptor(stream);
  if (data[0] % 3 == 1) try_dialer(stream);
  if (data[0] % 3 == 2) try_frames(stream, std::size_t{1} + data[0]);
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

/// Now and then a mutation starts from a good hello or a row of good headers.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
  if (seed % 8 == 0) {
    Bytes fresh{static_cast<std::uint8_t>(seed / 8)};
    if (fresh[0] % 3 == 0) {
      const Bytes hello = DialerHandshake(local(1), NodeId(2), 0, Digest{}).hello();
      fresh.insert(fresh.end(), hello.begin(), hello.end());
    } else if (fresh[0] % 3 == 1) {
      AcceptorHandshake acceptor(local(2), Digest{});
      const Bytes hello = DialerHandshake(local(1), NodeId(2), 0, Digest{1}).hello();
      ByteView stream = hello;
      if (auto frame = next(stream)) {
        const auto answer = acceptor.take(*frame);
        if (answer) fresh.insert(fresh.end(), answer->begin(), answer->end());
      }
    } else {
      for (std::uint32_t i = 0; i < 1 + seed % 5; ++i) {
        const RawHeader raw = encode(Header{(seed >> i) % 700, 20, 0, i, 0});
        fresh.insert(fresh.end(), raw.begin(), raw.end());
        fresh.resize(fresh.size() + (seed >> i) % 700 + sizeof(Mac));
      }
    }
    if (fresh.size() <= max_size) {
      std::copy(fresh.begin(), fresh.end(), data);
      size = fresh.size();
    }
  }
  return LLVMFuzzerMutate(data, size, max_size);
}
