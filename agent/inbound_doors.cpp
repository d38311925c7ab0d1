#include "agent/inbound_doors.h"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace towpath {

namespace {

constexpr int most_tries = 8;

void set_linger_zero(int fd) noexcept {
  const linger now{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

}  // namespace

InboundDoors::InboundDoors(InboundPage& page) : page_(page) {
  if (page_.on.load(std::memory_order_relaxed) == 0) return;  // never used: its memory need not even exist
  for (InboundDoor& each : page_.doors)
    if (each.kind.load(std::memory_order_relaxed) != DoorKind::none)
      each.kind.store(DoorKind::none, std::memory_order_release);
}

InboundDoors::Opened InboundDoors::open(const Endpoint& listener, DoorKind kind, const Endpoint& client,
                                        const Endpoint& peer) {
  Opened out;
  const int domain = listener.native_domain();
  UniqueFd clashing[most_tries];  // keeps a port from being given to us again
  for (UniqueFd& other : clashing) {
    UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_storage address;
    socklen_t size = Endpoint{listener.address, 0}.to(address, domain);
    if (!fd || bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) {
      out.error = errno;
      return out;
    }
    size = sizeof address;
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    const std::uint16_t port = Endpoint::from(reinterpret_cast<sockaddr*>(&address), size).port;
    InboundDoor& door = page_.doors[port];
    if (port == listener.port || door.kind.load(std::memory_order_relaxed) != DoorKind::none) {
      other = std::move(fd);
      continue;
    }
    door.address.set(listener.address);
    door.client.set(client.address);
    door.peer.set(peer.address);
    door.client_port = client.port;
    door.peer_port = peer.port;
    door.kind.store(kind, std::memory_order_release);
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    size = listener.to(address, domain);
    if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 && errno != EINPROGRESS) {
      out.error = errno;
      take_back(std::move(fd), port);
      return out;
    }
    out.socket = std::move(fd);
    out.port = port;
    return out;
  }
  out.error = EADDRINUSE;
  return out;
}

void InboundDoors::forget(std::uint16_t port) noexcept {
  if (port != 0) page_.doors[port].kind.store(DoorKind::none, std::memory_order_release);
}

void InboundDoors::take_back(UniqueFd socket, std::uint16_t port) noexcept {
  if (port != 0) page_.doors[port].kind.store(DoorKind::closing, std::memory_order_release);
  reset_connection(std::move(socket));
  forget(port);
}

void close_without_trace(UniqueFd socket) noexcept {
  if (!socket) return;
  // The FIN marks the other end as done before the reset comes (tests/platform/fin_then_reset.c).
  shutdown(socket.get(), SHUT_WR);
  set_linger_zero(socket.get());
}

void reset_connection(UniqueFd socket) noexcept {
  if (socket) set_linger_zero(socket.get());
}

}  // namespace towpath
