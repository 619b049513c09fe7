#pragma once

#include <span>

#include "wire/kafka/testing.h"
#include "wire/peer/codec.h"

/// For tests and fuzzers only: every message, made at random and put to the round trip.
namespace pyralog::wire::peer::testing {

using kafka::testing::AnyMessage;
using kafka::testing::check_round_trip;
using kafka::testing::Random;
using kafka::testing::recode;

/// All messages of the schema.
[[nodiscard]] std::span<const AnyMessage> all_messages();

/// One input of the fuzzer. Byte 0: the message; byte 1: the version; the rest: the body. Aborts if
/// an invariant breaks.
void try_input(ByteView input);

/// Such an input, made from a random valid message at a random version.
[[nodiscard]] Bytes make_input(Random& random);

}  // namespace pyralog::wire::peer::testing
