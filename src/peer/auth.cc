#include "peer/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <algorithm>

#include "base/plant.h"

namespace pyralog::peer {
namespace {

constexpr std::size_t kMostAtOnce = 1u << 30;  // lengths are int there

/// What the machine's configuration of OpenSSL says must not decide what nodes can say to each
/// other, and its file is not read on a shard.
void init_library() {
  static const int begun = ::OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  PYRALOG_ASSERT(begun == 1);
}

Key key_of(const Digest& extracted, std::string_view info) {
  const Bytes bytes = hkdf_expand(extracted, info, sizeof(Key));
  Key key;
  std::copy(bytes.begin(), bytes.end(), key.begin());
  return key;
}

}  // namespace

Digest sha256(std::initializer_list<ByteView> parts) {
  init_library();
  Bytes all;
  for (const ByteView part : parts) all.insert(all.end(), part.begin(), part.end());
  Digest digest;
  PYRALOG_ASSERT(::SHA256(all.data(), all.size(), digest.data()) != nullptr);
  return digest;
}

Digest hmac_sha256(ByteView key, std::initializer_list<ByteView> parts) {
  init_library();
  Bytes all;
  for (const ByteView part : parts) all.insert(all.end(), part.begin(), part.end());
  static constexpr std::uint8_t kNothing = 0;
  const void* const from = key.empty() ? &kNothing : key.data();
  Digest digest;
  unsigned int size = 0;
  PYRALOG_ASSERT(::HMAC(::EVP_sha256(), from, static_cast<int>(key.size()), all.data(), all.size(),
                        digest.data(), &size) != nullptr);
  PYRALOG_ASSERT(size == digest.size());
  ::OPENSSL_cleanse(all.data(), all.size());  // it may be the secret itself
  return digest;
}

Digest hkdf_extract(ByteView salt, ByteView input) {
  return hmac_sha256(salt, {input});
}

Bytes hkdf_expand(const Digest& extracted, std::string_view info, std::size_t count) {
  PYRALOG_ASSERT(count <= 255 * sizeof(Digest));
  Bytes out;
  Digest block{};
  ByteView before;
  for (std::uint8_t number = 1; out.size() < count; ++number) {
    block = hmac_sha256(extracted, {before, as_bytes(info), ByteView(&number, 1)});
    before = block;
    out.insert(out.end(), block.begin(), block.end());
  }
  out.resize(count);
  return out;
}

bool equal(ByteView a, ByteView b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

// --- frames

void Gmac::Free::operator()(evp_cipher_ctx_st* context) const {
  ::EVP_CIPHER_CTX_free(context);
}

Gmac::Gmac(const Key& key) {
  init_library();
  context_.reset(::EVP_CIPHER_CTX_new());
  PYRALOG_ASSERT(context_ != nullptr);
  PYRALOG_ASSERT(
      ::EVP_EncryptInit_ex(context_.get(), ::EVP_aes_256_gcm(), nullptr, key.data(), nullptr) == 1);
}

void Gmac::begin(const Nonce& nonce) {
  PYRALOG_ASSERT(::EVP_EncryptInit_ex(context_.get(), nullptr, nullptr, nullptr, nonce.data()) ==
                 1);
}

void Gmac::add(ByteView bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), kMostAtOnce);
    int taken = 0;
    PYRALOG_ASSERT(::EVP_EncryptUpdate(context_.get(), nullptr, &taken, bytes.data(),
                                       static_cast<int>(count)) == 1);
    bytes = bytes.subspan(count);
  }
}

Mac Gmac::finish() {
  Mac mac;
  int none = 0;
  PYRALOG_ASSERT(::EVP_EncryptFinal_ex(context_.get(), mac.data(), &none) == 1);
  PYRALOG_ASSERT(::EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG,
                                       static_cast<int>(mac.size()), mac.data()) == 1);
  return mac;
}

void FrameMac::begin() {
  Gmac::Nonce nonce{};
  store_be(nonce.data() + 4, number_++);
  gmac_.begin(nonce);
}

Mac FrameMac::next(ByteView header, const std::vector<SharedBytes>& body) {
  begin();
  gmac_.add(header);
  for (const SharedBytes& piece : body) gmac_.add(piece.view());
  return gmac_.finish();
}

Mac FrameMac::next(ByteView header, ByteView body) {
  begin();
  gmac_.add(header);
  gmac_.add(body);
  return gmac_.finish();
}

// --- secret

Result<Secret> Secret::from(ByteView secret, const std::string& name) {
  if (secret.size() < kLeastBytes) {
    return fail(Code::kInvalidArgument,
                name + ": a cluster secret of " + std::to_string(secret.size()) +
                    " bytes, fewer than 16; write random bytes to it and give "
                    "the same file to every node");
  }
  const Digest extracted = hkdf_extract(as_bytes("pyralog peer 1"), secret);
  Secret kept;
  kept.proofs_ = key_of(extracted, "proofs");
  kept.sessions_ = key_of(extracted, "sessions");
  kept.nonces_ = key_of(extracted, "nonces");
  return kept;
}

Secret::~Secret() {
  ::OPENSSL_cleanse(proofs_.data(), proofs_.size());
  ::OPENSSL_cleanse(sessions_.data(), sessions_.size());
  ::OPENSSL_cleanse(nonces_.data(), nonces_.size());
}

Digest Secret::proof(std::string_view label, const Digest& transcript) const {
  return hmac_sha256(proofs_, {as_bytes(label), transcript});
}

SessionKeys Secret::session(const Digest& transcript) const {
  const Digest extracted = hkdf_extract(transcript, sessions_);
  SessionKeys keys{key_of(extracted, "frames to acceptor"), key_of(extracted, "frames to dialer")};
  if (PYRALOG_PLANT("peer.same_key_both_ways")) keys.to_dialer = keys.to_acceptor;
  return keys;
}

Digest Secret::nonce(ByteView random, ByteView once) const {
  return hmac_sha256(nonces_, {random, once});
}

}  // namespace pyralog::peer
