#include "agent/quiet_door.h"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "agent/datagrams.h"
#include "agent/open_sockets.h"

namespace towpath {

namespace {

Endpoint own_end(int fd) noexcept {
  sockaddr_storage own;
  socklen_t size = sizeof own;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0
             ? Endpoint::from(reinterpret_cast<sockaddr*>(&own), size)
             : Endpoint{};
}

int option(int fd, int level, int name, int otherwise) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : otherwise;
}

int connect_to(int fd, int domain, const Endpoint& to) noexcept {
  sockaddr_storage address;
  const socklen_t size = to.to(address, domain);
  if (size == 0) return EAFNOSUPPORT;
  return connect(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 ? 0 : errno;
}

void disconnect(int fd) noexcept {
  sockaddr nowhere{};
  nowhere.sa_family = AF_UNSPEC;
  connect(fd, &nowhere, sizeof nowhere);
  (void)option(fd, SOL_SOCKET, SO_ERROR, 0);  // ECONNRESET, which is only how it left
}

std::uint8_t state_of(int fd) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info.tcpi_state;  // the first byte
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_state : std::uint8_t{0};
}

// More connections wait to be accepted than may: every SYN is dropped, with SYN cookies and without.
bool is_full(int listener) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info;
  return getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_LISTEN &&
         info.tcpi_unacked > info.tcpi_sacked;
}

// What cannot be opened from the other end, or begins to connect with its first write only.
bool is_ordinary(int fd) noexcept {
  return option(fd, SOL_SOCKET, SO_PROTOCOL, 0) == IPPROTO_TCP &&
         option(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 0) == 0 && !bound_to_device(fd);
}

}  // namespace

bool QuietDoor::open(Door& door, int domain) {
  if (door.tried) return static_cast<bool>(door.fd);
  const Endpoint loopback{domain == AF_INET ? IpAddress::v4(INADDR_LOOPBACK) : IpAddress::parse("::1"), 0};
  sockaddr_storage address;
  const socklen_t size = loopback.to(address, domain);
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  UniqueFd filler(socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Descriptors come back; a family that is not there does not.
  door.tried = (fd && filler) || (errno != EMFILE && errno != ENFILE);
  const int shared = 1;
  if (!fd || !filler || setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &shared, sizeof shared) != 0 ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd.get(), 1) != 0)
    return false;
  door.address = own_end(fd.get());
  // A stranger that was faster fills the queue as well. On the loopback nobody waits here.
  const timeval patience{0, 200'000};
  setsockopt(filler.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  (void)connect_to(filler.get(), domain, door.address);
  if (listen(fd.get(), 0) != 0 || !is_full(fd.get())) return false;
  door.fd = std::move(fd);
  door.filler = std::move(filler);
  return true;
}

QuietDoor::Door* QuietDoor::door_for(int socket, int domain, bool v6_only) {
  const Endpoint own = own_end(socket);
  const bool six = domain == AF_INET6 && (v6_only || (own.address.is_v6() && !own.address.is_unspecified()));
  Door& door = six ? v6_ : v4_;
  return open(door, six ? AF_INET6 : AF_INET) && is_full(door.fd.get()) ? &door : nullptr;
}

std::optional<QuietDoor::Stand> QuietDoor::take_in(int socket, int domain, bool v6_only) {
  if (!is_ordinary(socket)) return std::nullopt;
  const Door* const door = door_for(socket, domain, v6_only);
  if (door == nullptr) return std::nullopt;
  int error = connect_to(socket, domain, door->address);
  // A socket whose last attempt failed refuses one connect first, and is free by that.
  if (error == ECONNABORTED) error = connect_to(socket, domain, door->address);
  if (error != EINPROGRESS && error != 0) return std::nullopt;
  const Endpoint own = own_end(socket);
  if (error == EINPROGRESS && state_of(socket) == TCP_SYN_SENT && own.port != 0) return Stand{door->address, own};
  disconnect(socket);
  return std::nullopt;
}

UniqueFd QuietDoor::meet(const Stand& stand) {
  const int domain = stand.door.native_domain();
  UniqueFd fd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return {};
  const int on = 1;
  sockaddr_storage address;
  const socklen_t size = stand.door.to(address, domain);
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
      bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0)
    return {};
  const int error = connect_to(fd.get(), domain, stand.own);
  errno = error;
  return error == 0 || error == EINPROGRESS ? std::move(fd) : UniqueFd();
}

void QuietDoor::adopt(UniqueFd listener) {
  const Endpoint address = own_end(listener.get());
  Door& door = address.address.is_v6() ? v6_ : v4_;
  if (!address.address || door.fd) return;
  for (const Endpoint& own : OpenSockets::connecting_to(address)) {
    const UniqueFd caller = meet({address, own});
    const linger now{1, 0};
    if (caller) setsockopt(caller.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  door.fd = std::move(listener);
  door.address = address;
  door.tried = true;
}

}  // namespace towpath
