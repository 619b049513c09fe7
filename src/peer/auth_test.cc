// Published vectors, and what frames and secrets promise.
#include "peer/auth.h"

#include <gtest/gtest.h>

#include <numeric>

namespace pyralog::peer {
namespace {

Bytes hex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(digit(text[i]) * 16 + digit(text[i + 1])));
  }
  return bytes;
}
Bytes bytes_of(ByteView view) {
  return Bytes(view.begin(), view.end());
}

template <std::size_t N>
std::array<std::uint8_t, N> array_of(std::string_view text) {
  const Bytes bytes = hex(text);
  std::array<std::uint8_t, N> array{};
  std::copy_n(bytes.begin(), N, array.begin());
  return array;
}

TEST(PeerAuth, sha256_is_that_of_fips_180) {
  EXPECT_EQ(bytes_of(sha256({as_bytes("a"), as_bytes("bc")})),
            hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

TEST(PeerAuth, hmac_is_that_of_rfc_4231) {
  EXPECT_EQ(bytes_of(hmac_sha256(Bytes(20, 0x0b), {as_bytes("Hi "), as_bytes("There")})),
            hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"));
  EXPECT_EQ(bytes_of(hmac_sha256(as_bytes("Jefe"), {as_bytes("what do ya want for nothing?")})),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"));
  EXPECT_EQ(
      bytes_of(hmac_sha256(Bytes(131, 0xaa),
                           {as_bytes("Test Using Larger Than Block-Size Key - Hash Key First")})),
      hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"));
}

TEST(PeerAuth, hkdf_is_that_of_rfc_5869) {
  Bytes salt(13);
  std::iota(salt.begin(), salt.end(), std::uint8_t{0});
  const Digest extracted = hkdf_extract(salt, Bytes(22, 0x0b));
  EXPECT_EQ(bytes_of(extracted),
            hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"));
  Bytes info(10);
  std::iota(info.begin(), info.end(), std::uint8_t{0xf0});
  EXPECT_EQ(
      hkdf_expand(extracted, as_text(info), 42),
      hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"));
  const Digest no_salt = hkdf_extract({}, Bytes(22, 0x0b));
  EXPECT_EQ(
      hkdf_expand(no_salt, "", 42),
      hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"));
}

TEST(PeerAuth, gmac_is_that_of_nist) {
  // CAVS 14.0, gcmEncryptExtIV256, 128 bits of AAD, none of plaintext, count 0.
  Gmac gmac(array_of<32>("78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223"));
  const Bytes aad = hex("b96baa8c1c75a671bfb2d08d06be5f36");
  for (std::size_t cut = 0; cut <= aad.size(); ++cut) {
    gmac.begin(array_of<12>("d79cf22d504cc793c3fb6c8a"));
    gmac.add(ByteView(aad).first(cut));
    gmac.add(ByteView(aad).subspan(cut));
    EXPECT_EQ(bytes_of(gmac.finish()), hex("3e5d486aa2e30b22e040b85723a06e76"));
  }
  // The GCM specification (McGrew, Viega), test case 13.
  Gmac zero(Key{});
  zero.begin({});
  EXPECT_EQ(bytes_of(zero.finish()), hex("530f8afbc74536b9a963b4f1c4cb738b"));
}

TEST(PeerAuth, a_frame_has_another_code_at_every_place) {
  const Key key = array_of<32>("78dc4e0aaf52d935c3c01eea57428f00ca1fd475f5da86a49c8dd73d68c8e223");
  FrameMac sender(key);
  FrameMac receiver(key);
  const Bytes header(24, 1);
  const Bytes body(100, 2);
  const SharedBytes shared(body);
  const Mac first = sender.next(header, {shared.slice(0, 33), shared.slice(33, 67)});
  const Mac second = sender.next(header, {shared});
  EXPECT_NE(first, second);
  EXPECT_TRUE(equal(receiver.next(header, body), first)) << "in however many pieces";
  EXPECT_TRUE(equal(receiver.next(header, body), second));
  EXPECT_FALSE(equal(receiver.next(header, body), second)) << "sent twice";
}

TEST(PeerAuth, all_follows_from_the_secret_and_from_what_was_said) {
  const Secret one = Secret::from(Bytes(16, 1), "one").value();
  const Secret other = Secret::from(Bytes(16, 2), "other").value();
  const Digest said = sha256({as_bytes("hello")});
  const Digest said_else = sha256({as_bytes("hellp")});
  EXPECT_EQ(one.proof("a", said), Secret::from(Bytes(16, 1), "again").value().proof("a", said));
  EXPECT_NE(one.proof("a", said), one.proof("b", said));
  EXPECT_NE(one.proof("a", said), one.proof("a", said_else));
  EXPECT_NE(one.proof("a", said), other.proof("a", said));
  EXPECT_NE(one.session(said).to_dialer, one.session(said).to_acceptor);
  EXPECT_NE(one.session(said).to_dialer, one.session(said_else).to_dialer);
  EXPECT_NE(one.session(said).to_dialer, other.session(said).to_dialer);
  EXPECT_NE(one.nonce(said, as_bytes("1")), one.nonce(said, as_bytes("2")));
}

TEST(PeerAuth, a_short_secret_is_refused_by_name) {
  const auto refused = Secret::from(Bytes(15, 1), "/etc/secret");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("/etc/secret"), std::string::npos);
}

}  // namespace
}  // namespace pyralog::peer
