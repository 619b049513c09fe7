#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "peer/auth.h"
#include "peer/frame.h"
#include "peer/identity.h"
#include "wire/peer/gen/handshake.h"
#include "wire/peer/message.h"

namespace pyralog::peer {

/// Longest body of a frame that is read before the other side has proved who it is.
inline constexpr std::size_t kMaxHandshakeBody = 2048;

/// One frame of a handshake: a header and a body, without a code. `raw` is both, as they travel.
struct HandshakeFrame {
  Header header;
  Bytes raw;
  [[nodiscard]] ByteView body() const { return ByteView(raw).subspan(kHeaderBytes); }
};
/// What may stand in a handshake's header; everything else is refused before its body is read.
[[nodiscard]] Result<Header> parse_handshake_header(const RawHeader& raw);

/// The frame that tells the other side why it is refused.
[[nodiscard]] Bytes refusal(const Error& error);

/// What one side brings.
struct Local {
  Identity self;
  Abilities abilities;
  Secret secret;
};

/// What both sides have agreed on.
struct Agreed {
  Peer peer;
  SessionKeys keys;
};

/// The dialer's side. Pure: frames in, frames out; the first error ends it. Its message names both
/// nodes and the remedy, so that it may be sent to the other side by refusal().
class DialerHandshake {
 public:
  DialerHandshake(Local local, NodeId to, std::int32_t lane, const Digest& nonce);
  /// The first frame to send.
  [[nodiscard]] const Bytes& hello() const { return hello_; }
  /// Takes HelloReply, Proof, Welcome, in this order, or a Refusal at any time. What is to be sent;
  /// may be empty.
  [[nodiscard]] Result<Bytes> take(const HandshakeFrame& frame);
  /// Once the acceptor has welcomed us.
  [[nodiscard]] const std::optional<Agreed>& agreed() const { return agreed_; }

 private:
  Result<Bytes> take_reply(const HandshakeFrame& frame);
  Result<Bytes> take_proof(const HandshakeFrame& frame);

  Local local_;
  NodeId to_;
  std::int32_t lane_;
  Bytes hello_;
  Digest transcript_{};
  Peer peer_;
  wire::peer::Kind expected_ = wire::peer::Kind::kHelloReply;
  std::optional<Agreed> agreed_;
};

/// The acceptor's side, as DialerHandshake.
class AcceptorHandshake {
 public:
  AcceptorHandshake(Local local, const Digest& nonce);
  /// Takes Hello and Proof. After the proof, proved() says who is there, and the acceptor decides
  /// whether it sends welcome().
  [[nodiscard]] Result<Bytes> take(const HandshakeFrame& frame);
  [[nodiscard]] const std::optional<Agreed>& proved() const { return proved_; }
  [[nodiscard]] static Bytes welcome();
  /// The node that the other side says to be, before it has proved it; 0 = it has said nothing.
  [[nodiscard]] NodeId claimed() const { return peer_.identity.node; }

 private:
  Result<Bytes> take_hello(const HandshakeFrame& frame);

  Local local_;
  Digest nonce_;
  Digest transcript_{};
  Peer peer_;
  wire::peer::Kind expected_ = wire::peer::Kind::kHello;
  std::optional<Agreed> proved_;
};

/// How the error of a side that was refused by the other begins.
inline constexpr std::string_view kRefused = "refused: ";

/// Text of a peer that is not trusted yet, fit for a log line.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace pyralog::peer
