#pragma once

#include "wire/kafka/codec.h"

/// The encoding is Kafka's, in its flexible form from version 0 on: these are its reader and
/// writer.
namespace pyralog::wire::peer {

using kafka::decode_message;
using kafka::DecodeLimits;
using kafka::Decoder;
using kafka::encode_message;
using kafka::Encoder;
using kafka::MessageInfo;
using kafka::Records;

}  // namespace pyralog::wire::peer
