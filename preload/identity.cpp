// getpeername() and getsockopt(SO_ERROR): what a program asks its socket about the connection.
#include <cerrno>
#include <cstring>

#include "preload/accept.h"
#include "preload/ask.h"
#include "preload/datagram.h"
#include "preload/process.h"
#include "preload/net.h"
#include "preload/real.h"

using namespace towpath;

namespace {

// The entry of a socket that towpath knows; maps the page when the process has not yet.
const PageEntry* entry_of(int fd) noexcept {
  if (!active()) return nullptr;
  return page() != nullptr ? known_socket_entry(cookie_of(fd)) : nullptr;
}

}  // namespace

TOWPATH_EXPORT int getpeername(int fd, sockaddr* address, socklen_t* size) noexcept {
  if (!active()) return passing::getpeername(fd, address, size);
  // With the caller's arguments first: every error is the kernel's own.
  const socklen_t room = readable(size, sizeof *size) ? *size : 0;
  const int result = passing::getpeername(fd, address, size);
  if (result != 0 || room < sizeof(sa_family_t) || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
    return result;
  if (inbound_possible()) {
    socklen_t full = room;
    if (show_client(fd, address, &full)) {
      *size = full;
      return 0;
    }
  }
  const PageEntry* entry = entry_of(fd);
  if (entry == nullptr) return result;
  if (const SocketState state = state_of(*entry); state == SocketState::pending || state == SocketState::lost) {
    *size = room;
    errno = ENOTCONN;
    return -1;
  }
  Endpoint target = target_of(*entry);
  if (state_of(*entry) == SocketState::dns) {
    const Page* const known = mapped_page();
    target = known != nullptr && *size <= room ? led_to(*known, *entry, Endpoint::from(address, *size)) : Endpoint{};
  } else if (state_of(*entry) == SocketState::muted || state_of(*entry) == SocketState::failed) {
    return result;  // the kernel's own answer is right: a failed socket was connected directly since
  }
  sockaddr_storage shown;
  const socklen_t full = target.to(shown, address->sa_family);
  if (full == 0) return result;
  std::memcpy(address, &shown, full < room ? full : room);
  *size = full;
  return 0;
}

TOWPATH_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept {
  if (int result;
      level == SOL_SOCKET && name == SO_PEERNAME && inbound_possible() && show_peer_name(fd, value, size, result))
    return result;
  if (level != SOL_SOCKET || name != SO_ERROR || !active() || (mapped_page() == nullptr && !anything_pending()))
    return passing::getsockopt(fd, level, name, value, size);
  const PageEntry* entry = known_socket_entry(cookie_of(fd));
  if (entry == nullptr) return passing::getsockopt(fd, level, name, value, size);
  const SocketState state = settled_state(*entry);
  // While the handshake runs there is no verdict: an error of the proxy's connection is the agent's to read.
  if (state == SocketState::pending || state == SocketState::lost) {
    if (!readable(size, sizeof *size) || *size < sizeof(int)) return passing::getsockopt(fd, level, name, value, size);
    const int error = state == SocketState::lost ? ENETDOWN : 0;
    std::memcpy(value, &error, sizeof error);
    *size = sizeof error;
    return 0;
  }
  const int result = passing::getsockopt(fd, level, name, value, size);
  // The socket was made to fail natively, so that the kernel keeps "once" for us; only the number is ours.
  if (result == 0 && state == SocketState::failed && *size >= sizeof(int)) {
    int error;
    std::memcpy(&error, value, sizeof error);
    if (error != 0) error = entry->error.load(std::memory_order_relaxed);
    std::memcpy(value, &error, sizeof error);
  }
  return result;
}
