#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

struct evp_cipher_ctx_st;

/// The cryptography of peers, over OpenSSL's libcrypto; nobody else includes that. Any thread, each
/// object on one at a time. A library that lacks these algorithms or memory ends the process.
namespace pyralog::peer {

using Digest = std::array<std::uint8_t, 32>;
using Key = std::array<std::uint8_t, 32>;
using Mac = std::array<std::uint8_t, 16>;

/// SHA-256 (FIPS 180-4) of the parts, one after another.
[[nodiscard]] Digest sha256(std::initializer_list<ByteView> parts);
/// HMAC-SHA256 (RFC 2104, 4231) of the parts, one after another.
[[nodiscard]] Digest hmac_sha256(ByteView key, std::initializer_list<ByteView> parts);
/// HKDF-SHA256 (RFC 5869).
[[nodiscard]] Digest hkdf_extract(ByteView salt, ByteView input);
[[nodiscard]] Bytes hkdf_expand(const Digest& extracted, std::string_view info, std::size_t count);
/// Takes as long wherever they differ.
[[nodiscard]] bool equal(ByteView a, ByteView b);

/// AES-256-GCM without plaintext (GMAC, NIST SP 800-38D): begin, add what is to be authenticated,
/// finish.
class Gmac {
 public:
  using Nonce = std::array<std::uint8_t, 12>;
  explicit Gmac(const Key& key);
  /// No nonce may be used twice under one key.
  void begin(const Nonce& nonce);
  void add(ByteView bytes);
  [[nodiscard]] Mac finish();

 private:
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  std::unique_ptr<evp_cipher_ctx_st, Free> context_;
};

/// The codes of the frames of one direction of one connection, in their order: the number of the
/// frame is the nonce, so a frame that was left out, sent twice or moved has another code.
class FrameMac {
 public:
  explicit FrameMac(const Key& key) : gmac_(key) {}
  /// Of the next frame.
  [[nodiscard]] Mac next(ByteView header, const std::vector<SharedBytes>& body);
  [[nodiscard]] Mac next(ByteView header, ByteView body);

 private:
  void begin();
  Gmac gmac_;
  std::uint64_t number_ = 0;
};

/// Both directions of one connection.
struct SessionKeys {
  Key to_acceptor{};
  Key to_dialer{};
};

/// What all nodes of a cluster share and nobody else knows. Only keys that follow from it are kept,
/// and wiped in the end. Who sees a handshake can try guesses: it must be random, not a word.
class Secret {
 public:
  static constexpr std::size_t kLeastBytes = 16;
  /// kInvalidArgument if it is too short; `name` says where it comes from.
  [[nodiscard]] static Result<Secret> from(ByteView secret, const std::string& name);
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  ~Secret();

  /// Says that its maker knows the secret and has seen `transcript`, as `label`.
  [[nodiscard]] Digest proof(std::string_view label, const Digest& transcript) const;
  [[nodiscard]] SessionKeys session(const Digest& transcript) const;
  /// A value that nobody can foresee without the secret, though `random` may be guessed, and that
  /// does not come again as long as `once` does not.
  [[nodiscard]] Digest nonce(ByteView random, ByteView once) const;

 private:
  Secret() = default;
  Key proofs_{};
  Key sessions_{};
  Key nonces_{};
};

}  // namespace pyralog::peer
