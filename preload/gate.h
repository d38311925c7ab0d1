// Keeping a socket quiet while its handshake runs: what the hooks of reading, writing, closing and waiting share.
#pragma once

#include <sys/types.h>

namespace towpath {

// For the read and write families: true when the call must not reach the kernel, and fails with errno set instead
// (EAGAIN while the handshake of a non-blocking socket runs). A blocking socket waits here.
bool held_back(int fd) noexcept;

// The program is about to give up number `fd`, which names a socket in a handshake: deferred registrations of that
// number are forgotten, and the attempt with them when nothing else holds the socket.
void closing_socket(int fd) noexcept;

// A stream was taken off its peer: what is known of it is not true any more.
void disconnected_socket(int fd) noexcept;

// closing_socket() for every pending socket with first <= number <= last.
void closing_range(unsigned first, unsigned last) noexcept;

}  // namespace towpath
