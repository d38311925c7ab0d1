// accept() as the program sees it, for every way there is to call it, and what it may be told of such a connection.
#pragma once

#include <sys/socket.h>

#include "base/endpoint.h"

namespace towpath {

// Returns and sets errno as accept4(2) does.
int accept_hook(int listener, sockaddr* address, socklen_t* size, int flags) noexcept;

// The client of an accepted connection, into the caller's room with the kernel's rules for truncation. False: the
// kernel's own answer is right.
bool show_client(int fd, sockaddr* address, socklen_t* size) noexcept;
// The same for getsockopt(SO_PEERNAME). `result` is what getsockopt returns.
bool show_peer_name(int fd, void* value, socklen_t* size, int& result) noexcept;

// The program waits for this descriptor with poll, select or epoll: should it be a blocking listener, an accept must
// not block because what woke the program is not there any more.
void note_polled(int fd) noexcept;
void forget_listener(int fd) noexcept;
// False: there is nothing to note.
bool accepts_managed() noexcept;

}  // namespace towpath
