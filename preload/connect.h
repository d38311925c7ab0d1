// connect() as the program sees it, for every way there is to call it (connect, syscall, fast open).
#pragma once

#include <sys/socket.h>

namespace towpath {

// Returns and sets errno as connect(2) does. With `no_wait` as on a non-blocking socket, whatever the socket is.
int connect_hook(int fd, const sockaddr* address, socklen_t size, bool no_wait = false) noexcept;

}  // namespace towpath
