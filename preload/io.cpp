// The read and write families. While a handshake runs, a read would steal the proxy's reply and a write would
// slip bytes into it: both answer as they do on a socket that is still connecting. Otherwise one load and the real
// call. Sending with MSG_FASTOPEN is a connect.
#include <cerrno>

#include "preload/connect.h"
#include "preload/gate.h"
#include "preload/process.h"
#include "preload/real.h"
#include "preload/sys.h"

using namespace towpath;

namespace {

int socket_type(int fd) noexcept {
  int type = -1;
  socklen_t size = sizeof type;
  sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &size);
  return type;
}

// What a send with an address must do first. False: fail with the errno that is set.
bool may_send(int fd, const sockaddr* address, socklen_t size, int flags) noexcept {
  if (!active() || address == nullptr || size == 0) return true;
  if ((flags & MSG_FASTOPEN) != 0 && socket_type(fd) == SOCK_STREAM) {
    if (connect_hook(fd, address, size) == 0 || errno == EISCONN) return true;
    return false;  // EINPROGRESS too: the bytes were not taken, as the kernel says without a cookie
  }
  if (socket_type(fd) == SOCK_STREAM || datagram_allowed(address, size)) return true;
  errno = ENETUNREACH;
  return false;
}

bool may_send(int fd, const msghdr* message, int flags) noexcept {
  if (!active() || !readable(message, sizeof *message)) return true;
  return may_send(fd, static_cast<const sockaddr*>(message->msg_name), message->msg_namelen, flags);
}

// After fast open has connected, the data goes the plain way.
int without_fast_open(int fd, int flags) noexcept {
  return active() && (flags & MSG_FASTOPEN) != 0 && socket_type(fd) == SOCK_STREAM ? flags & ~MSG_FASTOPEN
                                                                                                 : flags;
}

}  // namespace

#define HELD_BACK(fd) \
  if (held_back(fd)) return -1

TOWPATH_EXPORT ssize_t read(int fd, void* to, size_t size) {
  HELD_BACK(fd);
  return real().read(fd, to, size);
}
TOWPATH_EXPORT ssize_t __read_chk(int fd, void* to, size_t size, size_t room) {
  HELD_BACK(fd);
  return real().__read_chk(fd, to, size, room);
}
TOWPATH_EXPORT ssize_t readv(int fd, const iovec* parts, int count) {
  HELD_BACK(fd);
  return real().readv(fd, parts, count);
}
TOWPATH_EXPORT ssize_t recv(int fd, void* to, size_t size, int flags) {
  HELD_BACK(fd);
  return real().recv(fd, to, size, flags);
}
TOWPATH_EXPORT ssize_t __recv_chk(int fd, void* to, size_t size, size_t room, int flags) {
  HELD_BACK(fd);
  return real().__recv_chk(fd, to, size, room, flags);
}
TOWPATH_EXPORT ssize_t recvfrom(int fd, void* to, size_t size, int flags, sockaddr* from, socklen_t* from_size) {
  HELD_BACK(fd);
  return real().recvfrom(fd, to, size, flags, from, from_size);
}
TOWPATH_EXPORT ssize_t __recvfrom_chk(int fd, void* to, size_t size, size_t room, int flags, sockaddr* from,
                                      socklen_t* from_size) {
  HELD_BACK(fd);
  return real().__recvfrom_chk(fd, to, size, room, flags, from, from_size);
}
TOWPATH_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  HELD_BACK(fd);
  return real().recvmsg(fd, message, flags);
}
TOWPATH_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  HELD_BACK(fd);
  return real().recvmmsg(fd, messages, count, flags, timeout);
}
TOWPATH_EXPORT ssize_t write(int fd, const void* from, size_t size) {
  HELD_BACK(fd);
  return real().write(fd, from, size);
}
TOWPATH_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  HELD_BACK(fd);
  return real().writev(fd, parts, count);
}
TOWPATH_EXPORT ssize_t send(int fd, const void* from, size_t size, int flags) {
  HELD_BACK(fd);
  return real().send(fd, from, size, flags);
}
TOWPATH_EXPORT ssize_t sendto(int fd, const void* from, size_t size, int flags, const sockaddr* to, socklen_t to_size) {
  HELD_BACK(fd);
  if (!may_send(fd, to, to_size, flags)) return -1;
  return real().sendto(fd, from, size, without_fast_open(fd, flags), to, to_size);
}
TOWPATH_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  HELD_BACK(fd);
  if (!may_send(fd, message, flags)) return -1;
  return real().sendmsg(fd, message, without_fast_open(fd, flags));
}
TOWPATH_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  HELD_BACK(fd);
  if (active())
    for (unsigned i = 0; i < count; ++i) {
      if (!readable(&messages[i], sizeof messages[i])) break;
      if (may_send(fd, &messages[i].msg_hdr, flags)) continue;
      if (i == 0) return -1;
      count = i;  // as many as may go; the program tries the rest again and then gets the errno
    }
  return real().sendmmsg(fd, messages, count, without_fast_open(fd, flags));
}
TOWPATH_EXPORT ssize_t sendfile(int to, int from, off_t* offset, size_t count) noexcept {
  HELD_BACK(to);
  return real().sendfile(to, from, offset, count);
}
