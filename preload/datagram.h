// Datagram sockets: questions to name servers are led to the agent's own name service, and what may not leave is
// silenced (docs/architecture.md). While a process has no such socket, each of these is a load or two.
#pragma once

#include <sys/socket.h>

#include "base/endpoint.h"
#include "proto/page.h"

namespace towpath {

// connect() of anything but a stream. `address` is the hook's own copy of the target.
int datagram_connect(int fd, const Endpoint& target, const sockaddr* address, socklen_t size, int domain) noexcept;

// A send with an address: false when it may not leave (errno is set). `address` and `size` are changed to point into
// `room` when it goes somewhere else.
bool redirect(int fd, const sockaddr*& address, socklen_t& size, sockaddr_storage& room) noexcept;
// A message that goes somewhere else.
struct RedirectedMessage {
  msghdr head;
  sockaddr_storage address;
};

// A send without an address on a socket that was connected to where nothing may go: true, errno is set.
bool silenced(int fd) noexcept;

// The page when datagrams may come from the agent's name service at all.
const Page* page_with_doors() noexcept;
// A received datagram's source, as the program may see it: the server that it asked. `room` is what the caller gave.
void show_asked_server(const Page& page, sockaddr* from, socklen_t* size, socklen_t room) noexcept;

// The server behind the peer of a socket that is led to the name service; no address when it is not led (any more).
Endpoint led_to(const Page& page, const PageEntry& entry, const Endpoint& peer) noexcept;

}  // namespace towpath
