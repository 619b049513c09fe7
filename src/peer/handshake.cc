#include "peer/handshake.h"

#include <algorithm>
#include <utility>

#include "base/plant.h"

namespace pyralog::peer {

using wire::peer::Kind;

namespace {

constexpr std::string_view kTranscript = "pyralog peer handshake 1";
constexpr std::string_view kAcceptor = "pyralog acceptor";
constexpr std::string_view kDialer = "pyralog dialer";
constexpr std::size_t kMostText = 400;

std::string node_name(NodeId node) {
  return "node " + std::to_string(node.value);
}

template <typename T>
Bytes frame_of(const T& message) {
  const auto body = wire::peer::encode_message(message, T::kMaxVersion);
  PYRALOG_ASSERT(body && body->size() <= kMaxHandshakeBody);
  const RawHeader header =
      encode(Header{static_cast<std::uint32_t>(body->size()), static_cast<std::uint16_t>(T::kKind),
                    T::kMaxVersion, 0, 0});
  Bytes raw(header.begin(), header.end());
  raw.insert(raw.end(), body->begin(), body->end());
  return raw;
}

template <typename T>
Result<T> read(const HandshakeFrame& frame) {
  return wire::peer::decode_message<T>(frame.body(), frame.header.version,
                                       {.max_memory_bytes = 4 * kMaxHandshakeBody});
}

/// Whether this is the frame that is due; a refusal becomes its error.
Result<void> check_kind(const HandshakeFrame& frame, Kind expected) {
  const auto kind = static_cast<Kind>(frame.header.kind);
  if (kind == expected) return {};
  if (kind == Kind::kRefusal) {
    PYRALOG_ASSIGN(const auto why, read<wire::peer::Refusal>(frame));
    return fail(wire::peer::code_of(why.code), std::string(kRefused) + printable(why.message));
  }
  return fail(Code::kCorrupt, "the handshake expected " +
                                  wire::peer::kind_name(static_cast<std::uint16_t>(expected)) +
                                  " and got " + wire::peer::kind_name(frame.header.kind));
}

/// Hello and HelloReply have their fields in common.
template <typename T>
T introduce(const Local& local, NodeId to, std::int32_t lane, const Digest& nonce) {
  T hello;
  hello.least_version = local.abilities.least_version;
  hello.greatest_version = local.abilities.greatest_version;
  hello.least_level = local.abilities.least_level;
  hello.feature_level = local.abilities.feature_level;
  hello.cluster = local.self.cluster;
  hello.from = local.self.node.value;
  hello.to = to.value;
  hello.incarnation = local.self.incarnation;
  hello.boot_counter = local.self.boot_counter;
  hello.lane = lane;
  hello.nonce.assign(nonce.begin(), nonce.end());
  return hello;
}

std::string range(std::int16_t least, std::int16_t greatest) {
  return std::to_string(least) + " to " + std::to_string(greatest);
}

/// Checks what both sides check of each other. Nothing of it is proved yet.
template <typename T>
Result<Peer> meet(const Local& local, const T& hello) {
  const Abilities& mine = local.abilities;
  const std::string me = node_name(local.self.node);
  const std::string other = node_name(NodeId(hello.from));
  if (hello.nonce.size() != sizeof(Digest) || hello.from <= 0 || hello.lane < 0 ||
      hello.lane >= kMaxLanes || hello.boot_counter < 0) {
    return fail(Code::kCorrupt, "a " + std::string(T::kInfo.name) + " with impossible fields");
  }
  if (!hello.cluster.is_nil() && !local.self.cluster.is_nil() &&
      hello.cluster != local.self.cluster && !PYRALOG_PLANT("peer.any_cluster")) {
    return fail(Code::kFenced,
                other + " belongs to cluster " + model::to_string(hello.cluster) + ", " + me +
                    " to cluster " + model::to_string(local.self.cluster) +
                    "; correct the addresses of the peers, or start the wrong node with an "
                    "empty data directory");
  }
  if (NodeId(hello.to) != local.self.node) {
    return fail(Code::kInvalidArgument,
                other + " looks for " + node_name(NodeId(hello.to)) + " where " + me +
                    " is; correct the addresses of the peers or the node's number");
  }
  if (NodeId(hello.from) == local.self.node) {
    return fail(Code::kInvalidArgument,
                "both sides say to be " + me + "; give every node its own number");
  }
  Peer peer;
  peer.version = std::min(mine.greatest_version, hello.greatest_version);
  if (peer.version < std::max(mine.least_version, hello.least_version)) {
    return fail(Code::kUnsupported,
                other + " speaks versions " + range(hello.least_version, hello.greatest_version) +
                    " of the protocol between nodes, " + me + " versions " +
                    range(mine.least_version, mine.greatest_version) + "; upgrade the older node");
  }
  peer.level = std::min(mine.feature_level, hello.feature_level);
  if (peer.level < std::max(mine.least_level, hello.least_level)) {
    return fail(Code::kUnsupported,
                other + " works with feature levels " +
                    range(hello.least_level, hello.feature_level) + ", " + me + " with levels " +
                    range(mine.least_level, mine.feature_level) + "; upgrade the older node");
  }
  peer.identity = {NodeId(hello.from), hello.incarnation, hello.boot_counter, hello.cluster};
  peer.lane = hello.lane;
  return peer;
}

Result<void> check_proof(const HandshakeFrame& frame, const Local& local, NodeId other,
                         std::string_view label, const Digest& transcript) {
  PYRALOG_ASSIGN(const auto message, read<wire::peer::Proof>(frame));
  if (equal(message.proof, local.secret.proof(label, transcript))) return {};
  if (PYRALOG_PLANT("peer.accept_any_proof")) return {};
  return fail(Code::kFenced, "the cluster secrets of " + node_name(local.self.node) + " and " +
                                 node_name(other) + " differ; give both the same secret file");
}

Bytes proof_of(const Local& local, std::string_view label, const Digest& transcript) {
  const Digest proof = local.secret.proof(label, transcript);
  wire::peer::Proof message;
  message.proof.assign(proof.begin(), proof.end());
  return frame_of(message);
}

/// Headers with their lengths stand before both bodies, so no other two frames give the same bytes.
Digest transcript_of(ByteView hello, ByteView reply) {
  if (PYRALOG_PLANT("peer.bind_one_hello")) return sha256({as_bytes(kTranscript), reply});
  return sha256({as_bytes(kTranscript), hello, reply});
}

}  // namespace

Result<Header> parse_handshake_header(const RawHeader& raw) {
  PYRALOG_ASSIGN(const Header header, parse_header(raw));
  if (header.body_bytes > kMaxHandshakeBody && !PYRALOG_PLANT("peer.any_handshake_size")) {
    return fail(Code::kTooLarge, "a handshake's frame of " + std::to_string(header.body_bytes) +
                                     " bytes; the limit is " + std::to_string(kMaxHandshakeBody));
  }
  if (header.correlation != 0 || header.flags != 0 || header.kind == 0 ||
      header.kind > static_cast<std::uint16_t>(Kind::kRefusal)) {
    return fail(Code::kCorrupt,
                wire::peer::kind_name(header.kind) + " before the handshake is over");
  }
  return header;
}

Bytes refusal(const Error& error) {
  wire::peer::Refusal message;
  message.code = wire::peer::code_number(error.code);
  message.message = error.message.substr(0, kMostText);
  return frame_of(message);
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kMostText));
  std::ranges::replace_if(out, [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

// --- dialer

DialerHandshake::DialerHandshake(Local local, NodeId to, std::int32_t lane, const Digest& nonce)
    : local_(std::move(local)),
      to_(to),
      lane_(lane),
      hello_(frame_of(introduce<wire::peer::Hello>(local_, to, lane, nonce))) {}

Result<Bytes> DialerHandshake::take(const HandshakeFrame& frame) {
  PYRALOG_TRY(check_kind(frame, expected_));
  if (expected_ == Kind::kHelloReply) return take_reply(frame);
  if (expected_ == Kind::kProof) return take_proof(frame);
  PYRALOG_TRY(read<wire::peer::Welcome>(frame));
  PYRALOG_ASSERT(!agreed_);
  agreed_ = Agreed{peer_, local_.secret.session(transcript_)};
  return Bytes();
}

Result<Bytes> DialerHandshake::take_reply(const HandshakeFrame& frame) {
  PYRALOG_ASSIGN(const auto reply, read<wire::peer::HelloReply>(frame));
  if (NodeId(reply.from) != to_) {
    return fail(Code::kInvalidArgument,
                node_name(local_.self.node) + " looks for " + node_name(to_) + " where " +
                    node_name(NodeId(reply.from)) +
                    " is; correct the addresses of the peers or the node's number");
  }
  PYRALOG_ASSIGN(peer_, meet(local_, reply));
  if (reply.chosen_version != peer_.version || reply.lane != lane_) {
    return fail(Code::kCorrupt, node_name(to_) + " has chosen what was not offered");
  }
  transcript_ = transcript_of(hello_, frame.raw);
  expected_ = Kind::kProof;
  return Bytes();
}

Result<Bytes> DialerHandshake::take_proof(const HandshakeFrame& frame) {
  PYRALOG_TRY(check_proof(frame, local_, to_, kAcceptor, transcript_));
  expected_ = Kind::kWelcome;
  return proof_of(local_, kDialer, transcript_);
}

// --- acceptor

AcceptorHandshake::AcceptorHandshake(Local local, const Digest& nonce)
    : local_(std::move(local)), nonce_(nonce) {}

Result<Bytes> AcceptorHandshake::take(const HandshakeFrame& frame) {
  PYRALOG_TRY(check_kind(frame, expected_));
  if (expected_ == Kind::kHello) return take_hello(frame);
  if (proved_) return fail(Code::kCorrupt, "a second proof");
  PYRALOG_TRY(check_proof(frame, local_, peer_.identity.node, kDialer, transcript_));
  proved_ = Agreed{peer_, local_.secret.session(transcript_)};
  return Bytes();
}

Result<Bytes> AcceptorHandshake::take_hello(const HandshakeFrame& frame) {
  PYRALOG_ASSIGN(const auto hello, read<wire::peer::Hello>(frame));
  if (hello.from > 0) peer_.identity.node = NodeId(hello.from);
  PYRALOG_ASSIGN(peer_, meet(local_, hello));
  auto reply = introduce<wire::peer::HelloReply>(local_, peer_.identity.node, peer_.lane, nonce_);
  reply.chosen_version = peer_.version;
  Bytes out = frame_of(reply);
  transcript_ = transcript_of(frame.raw, out);
  const Bytes proof = proof_of(local_, kAcceptor, transcript_);
  out.insert(out.end(), proof.begin(), proof.end());
  expected_ = Kind::kProof;
  return out;
}

Bytes AcceptorHandshake::welcome() {
  return frame_of(wire::peer::Welcome{});
}

}  // namespace pyralog::peer
