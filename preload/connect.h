// connect() as the program sees it, for every way there is to call it (connect, syscall, fast open).
#pragma once

#include <sys/socket.h>

namespace towpath {

// Returns and sets errno as connect(2) does.
int connect_hook(int fd, const sockaddr* address, socklen_t size) noexcept;

// False when a datagram to that address would go to an address that stands for a name.
bool datagram_allowed(const sockaddr* address, socklen_t size) noexcept;

}  // namespace towpath
