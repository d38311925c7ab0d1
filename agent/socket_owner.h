// Which socket of this network namespace stands at the other end of a loopback connection, or sent a datagram: asked of
// the kernel (sock_diag), needs no privilege.
#pragma once

#include <cstdint>

#include "base/endpoint.h"

namespace towpath {

enum class PeerKind : std::uint8_t { stream, datagram };

// The SO_COOKIE of the socket whose own end is `peer` and that talks to `ours`; 0 when there is none (any more), or
// when the kernel does not tell. For a datagram it is the socket that an answer to `peer` would reach.
[[nodiscard]] std::uint64_t peer_cookie(PeerKind kind, const Endpoint& peer, const Endpoint& ours) noexcept;

// False: this kernel does not tell (no udp_diag), and peer_cookie() is always 0 for datagrams.
[[nodiscard]] bool can_tell_peers() noexcept;

}  // namespace towpath
