#pragma once

#include <cstdint>
#include <functional>

#include "io/net.h"
#include "peer/handshake.h"

namespace pyralog::peer {

/// A nonce from this shard's random bits, hedged by the secret and by `count`, which the caller
/// never gives twice for one start of its node and one `place` (a lane, or −1 for the acceptor).
[[nodiscard]] Digest make_nonce(const Local& local, std::int32_t place, std::uint64_t count);

/// Runs one side of a handshake on `stream`, which the caller keeps and may close meanwhile. Reads
/// not a byte beyond it. An error is told to the other side, if that may still be there; it names
/// `where`.
[[nodiscard]] io::Task<Result<Agreed>> shake_as_dialer(io::Stream* stream,
                                                       DialerHandshake handshake, std::string where,
                                                       Instant deadline);
/// `text` without the address that io's errors begin with, for errors that name it already.
[[nodiscard]] std::string without(const io::Address& address, std::string text);
/// `admit` decides on a peer that has proved itself.
using Admit = std::move_only_function<Result<void>(const Peer&)>;
[[nodiscard]] io::Task<Result<Agreed>> shake_as_acceptor(io::Stream* stream,
                                                         AcceptorHandshake handshake,
                                                         std::string where, Admit admit,
                                                         Instant deadline);

}  // namespace pyralog::peer
