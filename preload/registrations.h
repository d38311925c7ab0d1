// What the program put into its epoll sets before it called connect (nginx does, and others that add first).
//
// A registration made before connect would show the proxy's TCP connection as readiness, so the agent takes it out
// until the tunnel stands; for that it must be known. What a program adds may be anything, and to ask what it is would
// be a system call that the program did not make: everything is noted by its number, in a fixed table, and looked at by
// the connect of that number. A number that was closed and used again leads to an entry that is not true any more; the
// agent finds nothing to take out then.
#pragma once

#include <array>
#include <cstdint>

#include <sys/epoll.h>

#include "proto/wire.h"

namespace towpath {

// After a successful epoll_ctl of the program on `fd`.
void remember_registration(int epoll, int operation, int fd, const epoll_event* event) noexcept;

// `to` has become another number of what `from` is.
void registrations_follow(int from, int to) noexcept;

// What is noted of that number, at most wire::max_registrations, and forgotten by it; returns how many.
std::size_t find_registrations(int fd, std::array<wire::Registration, wire::max_registrations>& out) noexcept;

}  // namespace towpath
