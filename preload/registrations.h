// What the program put into its epoll sets before it called connect (nginx does, and others that add first).
//
// A registration made before connect would show the proxy's TCP connection as readiness, so the agent takes it out
// until the tunnel stands; for that it must be known. Only unconnected INET stream sockets are remembered, in a fixed
// table keyed by socket cookie. Entries of closed sockets are harmless: a cookie never comes back.
#pragma once

#include <cstdint>

#include <sys/epoll.h>

#include "proto/wire.h"

namespace towpath {

// After a successful epoll_ctl of the program on `fd`.
void remember_registration(int epoll, int operation, int fd, const epoll_event* event) noexcept;

// Registrations of a socket, at most wire::max_registrations; returns how many.
std::size_t find_registrations(std::uint64_t cookie,
                               std::array<wire::Registration, wire::max_registrations>& out) noexcept;

}  // namespace towpath
