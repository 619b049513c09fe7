// The state machines alone: what is bound, what is refused.
#include "peer/handshake.h"

#include <gtest/gtest.h>

namespace pyralog::peer {
namespace {

constexpr std::string_view kSecret = "a secret of all nodes";

Local local(std::int32_t id, std::string_view secret = kSecret) {
  Uuid incarnation;
  incarnation.bytes.fill(static_cast<std::uint8_t>(id));
  return {{NodeId(id), incarnation, 1, {}}, {}, Secret::from(as_bytes(secret), "test").value()};
}
Digest nonce(std::uint8_t number) {
  Digest digest;
  digest.fill(number);
  return digest;
}
DialerHandshake dialer() {
  return {local(1), NodeId(2), 0, nonce(1)};
}
AcceptorHandshake acceptor() {
  return {local(2), nonce(2)};
}

/// The frames in `bytes`, as they come off a stream.
std::vector<HandshakeFrame> frames(const Bytes& bytes) {
  std::vector<HandshakeFrame> found;
  ByteView left = bytes;
  while (!left.empty()) {
    RawHeader raw{};
    std::copy_n(left.begin(), raw.size(), raw.begin());
    const auto header = parse_handshake_header(raw);
    EXPECT_TRUE(header) << header.error().message;
    const ByteView whole = left.first(kHeaderBytes + header->body_bytes);
    found.push_back({*header, Bytes(whole.begin(), whole.end())});
    left = left.subspan(whole.size());
  }
  return found;
}

TEST(PeerHandshake, both_sides_agree_on_who_they_are_and_on_keys) {
  DialerHandshake a = dialer();
  AcceptorHandshake b = acceptor();
  const auto answers = frames(b.take(frames(a.hello())[0]).value());
  ASSERT_EQ(answers.size(), 2U) << "its hello and its proof";
  EXPECT_EQ(b.claimed(), NodeId(1));
  EXPECT_FALSE(b.proved());
  EXPECT_TRUE(a.take(answers[0]).value().empty());
  const Bytes proof = a.take(answers[1]).value();
  EXPECT_FALSE(a.agreed());
  EXPECT_TRUE(b.take(frames(proof)[0]).value().empty());
  ASSERT_TRUE(b.proved());
  EXPECT_TRUE(a.take(frames(AcceptorHandshake::welcome())[0]).value().empty());
  ASSERT_TRUE(a.agreed());
  EXPECT_EQ(a.agreed()->keys.to_acceptor, b.proved()->keys.to_acceptor);
  EXPECT_EQ(a.agreed()->keys.to_dialer, b.proved()->keys.to_dialer);
  EXPECT_NE(a.agreed()->keys.to_dialer, a.agreed()->keys.to_acceptor);
  EXPECT_EQ(a.agreed()->peer.identity, local(2).self);
  EXPECT_EQ(b.proved()->peer.identity, local(1).self);
  EXPECT_EQ(as_text(ByteView(a.hello())).find(kSecret), std::string_view::npos)
      << "it never travels";
}

TEST(PeerHandshake, every_bit_of_both_hellos_is_bound_by_the_proofs) {
  const Bytes hello = dialer().hello();
  for (std::size_t bit = kHeaderBytes * 8; bit < hello.size() * 8; ++bit) {
    DialerHandshake a = dialer();
    AcceptorHandshake b = acceptor();
    HandshakeFrame changed = frames(hello)[0];
    changed.raw[bit / 8] = static_cast<std::uint8_t>(changed.raw[bit / 8] ^ (1U << bit % 8));
    const auto answer = b.take(changed);
    if (!answer) continue;
    const auto answers = frames(*answer);
    if (!a.take(answers[0])) continue;
    ASSERT_FALSE(a.take(answers[1])) << "bit " << bit;
  }
  const auto unchanged = frames(acceptor().take(frames(hello)[0]).value());
  for (std::size_t bit = kHeaderBytes * 8; bit < unchanged[0].raw.size() * 8; ++bit) {
    DialerHandshake a = dialer();
    HandshakeFrame changed = unchanged[0];
    changed.raw[bit / 8] = static_cast<std::uint8_t>(changed.raw[bit / 8] ^ (1U << bit % 8));
    if (!a.take(changed)) continue;
    ASSERT_FALSE(a.take(unchanged[1])) << "bit " << bit;
  }
}

TEST(PeerHandshake, a_proof_of_one_side_is_none_of_the_other) {
  DialerHandshake a = dialer();
  AcceptorHandshake b = acceptor();
  const auto answers = frames(b.take(frames(a.hello())[0]).value());
  const auto refused = b.take(answers[1]);
  ASSERT_FALSE(refused) << "its own proof, turned round";
  EXPECT_EQ(refused.error().code, Code::kFenced);
  EXPECT_FALSE(b.proved());
}

TEST(PeerHandshake, a_recorded_proof_is_worth_nothing_later) {
  DialerHandshake a = dialer();
  AcceptorHandshake b = acceptor();
  const auto answers = frames(b.take(frames(a.hello())[0]).value());
  static_cast<void>(a.take(answers[0]));
  const Bytes proof = a.take(answers[1]).value();
  AcceptorHandshake later(local(2), nonce(3));
  ASSERT_TRUE(later.take(frames(a.hello())[0]));
  EXPECT_FALSE(later.take(frames(proof)[0]));
}

TEST(PeerHandshake,
     a_dialer_without_the_secret_is_not_let_in_though_it_ignores_the_acceptors_proof) {
  DialerHandshake a(local(1, "some other secret, as long"), NodeId(2), 0, nonce(1));
  AcceptorHandshake b = acceptor();
  ASSERT_TRUE(b.take(frames(a.hello())[0]));
  wire::peer::Proof guess;
  guess.proof.assign(sizeof(Digest), 7);
  const Bytes body = wire::peer::encode_message(guess, 0).value();
  const RawHeader raw = encode(Header{static_cast<std::uint32_t>(body.size()), 3, 0, 0, 0});
  Bytes bytes(raw.begin(), raw.end());
  bytes.insert(bytes.end(), body.begin(), body.end());
  const auto refused = b.take(frames(bytes)[0]);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("secrets of node 2 and node 1 differ"), std::string::npos);
}

TEST(PeerHandshake, frames_come_in_their_order_only) {
  DialerHandshake a = dialer();
  AcceptorHandshake b = acceptor();
  const auto answers = frames(b.take(frames(a.hello())[0]).value());
  EXPECT_FALSE(b.take(frames(a.hello())[0])) << "a second hello";
  EXPECT_FALSE(a.take(answers[1])) << "a proof before the hello";
  EXPECT_FALSE(a.take(frames(AcceptorHandshake::welcome())[0])) << "a welcome before the proof";
  EXPECT_FALSE(a.agreed());
}

TEST(PeerHandshake, a_refusal_is_heard_and_cannot_write_into_the_log) {
  DialerHandshake a = dialer();
  const auto heard = a.take(frames(refusal({Code::kFenced, "go away\nWARN \x1b[31m fake", 0}))[0]);
  ASSERT_FALSE(heard);
  EXPECT_EQ(heard.error().code, Code::kFenced);
  EXPECT_EQ(heard.error().message, "refused: go away?WARN ?[31m fake");
  EXPECT_LE(frames(refusal({Code::kFenced, std::string(100'000, 'x'), 0}))[0].raw.size(),
            kHeaderBytes + kMaxHandshakeBody);
}

}  // namespace
}  // namespace pyralog::peer
