// The read and write families. While a handshake runs, a read would steal the proxy's reply and a write would
// slip bytes into it: both answer as they do on a socket that is still connecting. Otherwise one load and the real
// call. Sending with MSG_FASTOPEN is a connect.
#include <cerrno>

#include "preload/connect.h"
#include "preload/datagram.h"
#include "preload/gate.h"
#include "preload/pending.h"
#include "preload/process.h"
#include "preload/net.h"
#include "preload/real.h"
#include "base/sys.h"

using namespace towpath;

namespace {

int socket_type(int fd) noexcept {
  int type = -1;
  socklen_t size = sizeof type;
  sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &size);
  return type;
}

// What a send must do first; it may get another address, in `room`. False: fail with the errno that is set.
bool may_send(int fd, const sockaddr*& address, socklen_t& size, int flags, sockaddr_storage& room) noexcept {
  if (!active()) return true;
  // The flag without an address connects nothing: an ordinary write.
  if (address == nullptr || size == 0) return !silenced(fd) && ((flags & MSG_FASTOPEN) == 0 || !held_back(fd));
  if ((flags & MSG_FASTOPEN) != 0 && socket_type(fd) == SOCK_STREAM) {
    // EINPROGRESS fails, too: the bytes were not taken, as the kernel says without a cookie.
    return connect_hook(fd, address, size, (flags & MSG_DONTWAIT) != 0) == 0;
  }
  return redirect(fd, address, size, room);
}

bool may_send(int fd, const msghdr*& message, int flags, RedirectedMessage& room) noexcept {
  if (!active() || !readable(message, sizeof *message)) return true;
  const auto* address = static_cast<const sockaddr*>(message->msg_name);
  socklen_t size = message->msg_namelen;
  if (!may_send(fd, address, size, flags, room.address)) return false;
  if (address == message->msg_name) return true;
  room.head = *message;
  room.head.msg_name = &room.address;
  room.head.msg_namelen = size;
  message = &room.head;
  return true;
}

// What was received, as the program may see its source. `room`: what it gave for the address.
class Source {
 public:
  Source(const sockaddr* from, const socklen_t* size) noexcept
      : page_(from != nullptr ? page_with_doors() : nullptr),
        room_(page_ != nullptr && readable(size, sizeof *size) ? *size : 0) {}
  void show(ssize_t got, sockaddr* from, socklen_t* size) const noexcept {
    if (got >= 0 && room_ != 0) show_asked_server(*page_, from, size, room_);
  }

 private:
  const Page* page_;
  socklen_t room_;
};

// The smallest room for an address among messages, 0 when one has none.
socklen_t smallest_room(const mmsghdr* messages, unsigned count) noexcept {
  socklen_t out = sizeof(sockaddr_storage);
  for (unsigned i = 0; i < count; ++i) {
    if (!readable(&messages[i], sizeof messages[i])) return 0;
    if (messages[i].msg_hdr.msg_name != nullptr && messages[i].msg_hdr.msg_namelen < out)
      out = messages[i].msg_hdr.msg_namelen;
  }
  return out;
}

// After fast open has connected, the data goes the plain way.
int without_fast_open(int fd, int flags) noexcept {
  return active() && (flags & MSG_FASTOPEN) != 0 && socket_type(fd) == SOCK_STREAM ? flags & ~MSG_FASTOPEN : flags;
}

}  // namespace

#define HELD_BACK(fd) \
  if (held_back(fd)) return -1
#define SILENCED(fd) \
  if (silenced(fd)) return -1
// A connect in disguise has its own answer while another one runs.
#define HELD_BACK_UNLESS_FAST_OPEN(fd, flags) \
  if (((flags)&MSG_FASTOPEN) == 0 && held_back(fd)) return -1

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
  const Source source(from, from_size);
  const ssize_t got = passing::recvfrom(fd, to, size, flags, from, from_size);
  source.show(got, from, from_size);
  return got;
}
TOWPATH_EXPORT ssize_t __recvfrom_chk(int fd, void* to, size_t size, size_t room, int flags, sockaddr* from,
                                      socklen_t* from_size) {
  HELD_BACK(fd);
  const Source source(from, from_size);
  // What libc would end the program for is libc's to say.
  const ssize_t got = size > room ? real().__recvfrom_chk(fd, to, size, room, flags, from, from_size)
                                  : passing::recvfrom(fd, to, size, flags, from, from_size);
  source.show(got, from, from_size);
  return got;
}
TOWPATH_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  HELD_BACK(fd);
  const Page* const doors = page_with_doors();
  if (doors == nullptr || !readable(message, sizeof *message)) {
    const ssize_t got = passing::recvmsg(fd, message, flags);
    if (got >= 0) note_received(*message);
    return got;
  }
  const Source source(static_cast<sockaddr*>(message->msg_name), &message->msg_namelen);
  const ssize_t got = passing::recvmsg(fd, message, flags);
  if (got >= 0) note_received(*message);
  if ((flags & MSG_ERRQUEUE) == 0) source.show(got, static_cast<sockaddr*>(message->msg_name), &message->msg_namelen);
  return got;
}
TOWPATH_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  HELD_BACK(fd);
  const Page* const doors = page_with_doors();
  const socklen_t room = doors != nullptr ? smallest_room(messages, count) : 0;
  const int got = real().recvmmsg(fd, messages, count, flags, timeout);
  for (int i = 0; i < got; ++i) note_received(messages[i].msg_hdr);
  for (int i = 0; i < got && room != 0; ++i) {
    msghdr& each = messages[i].msg_hdr;
    if (each.msg_name != nullptr)
      show_asked_server(*doors, static_cast<sockaddr*>(each.msg_name), &each.msg_namelen, room);
  }
  return got;
}
TOWPATH_EXPORT ssize_t write(int fd, const void* from, size_t size) {
  HELD_BACK(fd);
  SILENCED(fd);
  return real().write(fd, from, size);
}
TOWPATH_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  HELD_BACK(fd);
  SILENCED(fd);
  return real().writev(fd, parts, count);
}
TOWPATH_EXPORT ssize_t send(int fd, const void* from, size_t size, int flags) {
  HELD_BACK(fd);
  SILENCED(fd);
  return real().send(fd, from, size, flags);
}
TOWPATH_EXPORT ssize_t sendto(int fd, const void* from, size_t size, int flags, const sockaddr* to, socklen_t to_size) {
  HELD_BACK_UNLESS_FAST_OPEN(fd, flags);
  sockaddr_storage room;
  if (!may_send(fd, to, to_size, flags, room)) return -1;
  return passing::sendto(fd, from, size, without_fast_open(fd, flags), to, to_size);
}
TOWPATH_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  HELD_BACK_UNLESS_FAST_OPEN(fd, flags);
  RedirectedMessage room;
  if (!may_send(fd, message, flags, room)) return -1;
  return passing::sendmsg(fd, message, without_fast_open(fd, flags));
}
TOWPATH_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  HELD_BACK_UNLESS_FAST_OPEN(fd, flags);
  if (!active()) return passing::sendmmsg(fd, messages, count, flags);
  if (count == 0) return passing::sendmmsg(fd, messages, count, flags);
  // Those that go where the program said go at once, others one by one with their own address.
  unsigned sent = 0;
  while (sent < count) {
    RedirectedMessage room;
    const msghdr* message = nullptr;
    bool allowed = true;
    unsigned plain = sent;
    for (; plain < count; ++plain) {
      if (!readable(&messages[plain], sizeof messages[plain])) plain = count - 1;  // the kernel finds that, too
      message = &messages[plain].msg_hdr;
      allowed = may_send(fd, message, flags, room);
      if (!allowed || message == &room.head) break;
    }
    ssize_t went = -1;
    if (plain > sent) {
      went = passing::sendmmsg(fd, messages + sent, plain - sent, without_fast_open(fd, flags));
      if (went > 0) sent += static_cast<unsigned>(went);
      if (went > 0 && sent == plain) continue;
    } else if (allowed) {
      went = passing::sendmsg(fd, message, flags);
      if (went >= 0) messages[sent++].msg_len = static_cast<unsigned>(went);
      if (went >= 0) continue;
    }
    return sent != 0 ? static_cast<int>(sent) : -1;
  }
  return static_cast<int>(sent);
}
TOWPATH_EXPORT ssize_t splice(int from, off64_t* from_offset, int to, off64_t* to_offset, size_t size, unsigned flags) {
  HELD_BACK(from);
  HELD_BACK(to);
  SILENCED(to);
  return real().splice(from, from_offset, to, to_offset, size, flags);
}
TOWPATH_EXPORT ssize_t sendfile64(int to, int from, off64_t* offset, size_t count) noexcept {
  HELD_BACK(to);
  SILENCED(to);
  return real().sendfile64(to, from, offset, count);
}
TOWPATH_EXPORT ssize_t sendfile(int to, int from, off_t* offset, size_t count) noexcept {
  HELD_BACK(to);
  SILENCED(to);
  return real().sendfile(to, from, offset, count);
}
