// Which address of a client a program's socket can show, and how: the kernel's own truncation, IPv4 as v4-mapped on an
// IPv6 socket, never a scope id.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "proto/client_table.h"

namespace towpath {

// What a connection of that domain shows of `client`; zero: it cannot. `room`: what the program has for it.
[[nodiscard]] inline socklen_t shown_address(const Endpoint& client, int domain, bool v6_only, socklen_t room,
                                             sockaddr_storage& out) noexcept {
  // IPv4 in an IPv6-only listener's connection would be a surprise to whoever set that option.
  if (domain == AF_INET6 && client.address.is_v4() && v6_only) return 0;
  const Endpoint plain{client.address.without_scope(), client.port};
  if (domain == AF_INET && client.address.is_v6()) return room >= sizeof(sockaddr_in6) ? plain.to(out, AF_INET6) : 0;
  return plain.to(out, domain);
}

// The client where there is room for it, else whoever connected; zero: what the kernel says.
[[nodiscard]] inline socklen_t shown_client(const Endpoint& client, const Endpoint& peer, int domain, bool v6_only,
                                            socklen_t room, sockaddr_storage& out) noexcept {
  if (const socklen_t full = shown_address(client, domain, v6_only, room, out)) return full;
  return peer.address ? shown_address(peer, domain, v6_only, room, out) : 0;
}

[[nodiscard]] inline socklen_t shown_client(const ClientEntry& entry, int domain, bool v6_only, socklen_t room,
                                            sockaddr_storage& out) noexcept {
  return shown_client({entry.client.get(), entry.client_port}, {entry.peer.get(), entry.peer_port}, domain, v6_only,
                      room, out);
}

}  // namespace towpath
