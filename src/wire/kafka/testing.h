#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "wire/kafka/codec.h"

/// For tests and fuzzers only: every message, made at random and put to the round trip.
namespace pyralog::wire::kafka::testing {

/// Values for the fields of a random message. Sizes are small, edges are frequent.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) { return engine_() % bound; }
  [[nodiscard]] bool boolean() { return below(2) == 0; }
  [[nodiscard]] bool null() { return below(3) == 0; }
  [[nodiscard]] std::size_t count() { return below(4); }
  template <typename T>
  [[nodiscard]] T integer() {
    switch (below(4)) {
      case 0:
        return T{0};
      case 1:
        return T(-1);
      default:
        return static_cast<T>(engine_() >> below(64));
    }
  }
  [[nodiscard]] model::Uuid uuid();
  [[nodiscard]] std::string string();
  [[nodiscard]] Bytes bytes();
  [[nodiscard]] Records records(bool null_allowed);

 private:
  std::mt19937_64 engine_;
};

/// The bytes of `message`, once decoding them has yielded an equal one; kCorrupt if it has not.
template <typename T>
[[nodiscard]] Result<Bytes> check_round_trip(const T& message, std::int16_t version) {
  PYRALOG_ASSIGN(Bytes bytes, encode_message(message, version));
  auto back = decode_message<T>(bytes, version);
  if (!back) return fail(std::move(back.error()));
  if (!(*back == message)) {
    return fail(Code::kCorrupt, std::string(T::kInfo.name) + " v" + std::to_string(version) +
                                    ": decoding what was encoded yields another message");
  }
  return bytes;
}

/// Decodes `body` and encodes it again; the error of decoding if that fails. Aborts if the bytes
/// do not survive the round trip.
template <typename T>
[[nodiscard]] Result<Bytes> recode(ByteView body, std::int16_t version, DecodeLimits limits) {
  PYRALOG_ASSIGN(const T message, decode_message<T>(body, version, limits));
  auto again = check_round_trip(message, version);
  PYRALOG_ASSERT(again.has_value());
  return again;
}

struct AnyMessage {
  MessageInfo info;
  std::int16_t api_key;  ///< -1 for messages that are no requests or responses
  bool is_request;
  Result<Bytes> (*make)(Random& random, std::int16_t version);
  Result<Bytes> (*recode)(ByteView body, std::int16_t version, DecodeLimits limits);
};

/// All messages of the schema.
[[nodiscard]] std::span<const AnyMessage> all_messages();

/// One input of the fuzzer. Byte 0: the message; byte 1: the version; the rest: the body, tried as
/// that message, as a request frame and as a stream of frames. Aborts if an invariant breaks.
void try_input(ByteView input);

/// Such an input, made from a random valid message at a random version.
[[nodiscard]] Bytes make_input(Random& random);

}  // namespace pyralog::wire::kafka::testing
