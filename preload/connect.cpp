// connect(): the program's own socket becomes the tunnel.
//
// The hook decides nothing: it hands the socket (the same open file description) to the agent and reports what the
// agent found. A blocking caller waits for the verdict, a non-blocking one gets EINPROGRESS and learns of the end
// through its own epoll set, poll or select (epoll.cpp, poll.cpp).
#include "preload/connect.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/time.h>

#include "preload/ask.h"
#include "preload/datagram.h"
#include "preload/process.h"
#include "preload/gate.h"
#include "preload/net.h"
#include "preload/pending.h"
#include "preload/real.h"
#include "preload/registrations.h"
#include "base/sys.h"
#include "preload/verdicts.h"

namespace towpath {

namespace {

int option(int fd, int level, int name, int otherwise) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  return passing::getsockopt_quietly(fd, level, name, &value, &size) == 0 ? value : otherwise;
}

int fail(int number) noexcept {
  errno = number;
  return -1;
}

// On port 53 even this host's: a name server on the loopback passes questions on.
bool always_direct(const Endpoint& target) noexcept {
  const IpAddress& address = target.address;
  return target.port != 53 && (address.is_loopback() || address.is_unspecified() || address.is_link_local());
}

bool is_connected(int fd) noexcept {
  sockaddr_storage peer;
  socklen_t size = sizeof peer;
  return passing::call(SYS_getpeername, fd, &peer, &size) == 0;
}

// The error that waits on the socket, cleared by reading it.
int take_socket_error(int fd) noexcept { return option(fd, SOL_SOCKET, SO_ERROR, 0); }

// The agent cannot start a connect on a blocking socket here (net.ipv4.tcp_fastopen=0): do it in its place.
int dial(int fd, int domain, const Endpoint& to) noexcept {
  sockaddr_storage address;
  const socklen_t size = to.to(address, domain);
  if (size == 0) return EAFNOSUPPORT;
  if (passing::connect(fd, reinterpret_cast<sockaddr*>(&address), size) == 0) return 0;
  return errno;
}

// A connect on a socket that towpath knows already. False: it is a fresh attempt.
bool known_socket(int fd, const PageEntry& entry, bool blocking, int& result) noexcept {
  switch (settled_state(entry)) {
    case SocketState::pending:
    case SocketState::quiet:
      if (!blocking) {
        result = fail(EALREADY);
        return true;
      }
      wait_until_decided(entry.cookie.load(std::memory_order_relaxed));
      if (const SocketState state = settled_state(entry); state == SocketState::open || state == SocketState::lost) {
        result = state == SocketState::open ? 0 : fail(ENETDOWN);
        return true;
      }
      [[fallthrough]];
    case SocketState::failed:
      // The first connect after an asynchronous failure reports it, the next one starts anew.
      if (take_socket_error(fd) == 0) return false;
      result = fail(entry.error.load(std::memory_order_relaxed));
      return true;
    case SocketState::lost: result = fail(ENETDOWN); return true;
    case SocketState::none:
    case SocketState::dns:
    case SocketState::muted:
    case SocketState::open: return false;
  }
  return false;
}

// A refusal of a socket that was dialled here: should the agent's last word have come before our connect, it could not
// take the socket off the proxy any more.
int refused(int fd, bool dialled, int error) noexcept {
  if (dialled) {
    sockaddr nowhere{};
    nowhere.sa_family = AF_UNSPEC;
    passing::call(SYS_connect, fd, &nowhere, sizeof nowhere);
  }
  return fail(error);
}

// The agent's side of one connect, from the ask to what the program gets. `unheard`: there was no answer at all.
int converse(wire::Message& ask, std::span<const int> descriptors, const sockaddr* address, socklen_t size,
             bool& unheard) noexcept {
  const int fd = ask.connect.fd;
  const bool blocking = ask.connect.blocking;
  timeval timeout{};
  if (blocking) {
    socklen_t room = sizeof timeout;
    sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &room);
  }
  const std::uint32_t epoch = verdict_epoch();
  const OwnConnect own(ask.connect.cookie);
  Conversation talk;
  bool dialled = false;
  unheard = talk.ok();
  if (!talk.say(ask, descriptors)) return fail(ENETDOWN);
  for (;;) {
    wire::Reply reply;
    const auto heard = talk.hear(reply, blocking, timeout);
    if (heard == Conversation::Heard::interrupted || heard == Conversation::Heard::timed_out) {
      // As in the kernel: the call ends, the attempt goes on.
      unheard = false;
      ask.kind = wire::Ask::detach;
      note_gated();
      talk.say(ask);
      return fail(heard == Conversation::Heard::interrupted ? EINTR : EINPROGRESS);
    }
    if (heard == Conversation::Heard::lost) return refused(fd, dialled, ENETDOWN);
    unheard = false;
    switch (reply.kind) {
      case wire::Answer::direct: remember_direct(ask.connect.target, epoch); return connect_directly(fd, address, size);
      case wire::Answer::instead: {
        const int error = dial(fd, ask.connect.domain, reply.endpoint);
        return error == 0 ? 0 : fail(error);
      }
      case wire::Answer::pending: note_gated(); return fail(EINPROGRESS);
      case wire::Answer::done: return reply.number == 0 ? 0 : refused(fd, dialled, reply.number);
      case wire::Answer::dial:
        dialled = true;
        ask.dialled_errno = dial(fd, ask.connect.domain, reply.endpoint);
        ask.kind = wire::Ask::dialled;
        // The agent may have given its last word meanwhile (the deadline): that is what hear() finds then.
        if (!talk.say(ask)) break;
        if (ask.dialled_errno == EINTR || ask.dialled_errno == EINPROGRESS) {
          note_gated();
          return fail(ask.dialled_errno);
        }
        break;
      default: return refused(fd, dialled, reply.number != 0 ? reply.number : ENETDOWN);
    }
  }
}

int stream_connect(int fd, const Endpoint& target, const sockaddr* address, socklen_t size, int domain,
                   bool no_wait) noexcept {
  if (!ever_gated() && (always_direct(target) || known_direct(target))) return connect_directly(fd, address, size);
  const long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  const bool blocking = !no_wait && flags >= 0 && (flags & O_NONBLOCK) == 0;
  const std::uint64_t cookie = cookie_of(fd);
  if (const PageEntry* entry = known_socket_entry(cookie)) {
    int result;
    if (known_socket(fd, *entry, blocking, result)) return result;
  }
  if (always_direct(target) || known_direct(target)) return connect_directly(fd, address, size);
  // Connected already, by whomever: the kernel's own answer (0 once after a non-blocking connect, then EISCONN).
  if (is_connected(fd)) return connect_directly(fd, address, size);
  if (page() == nullptr) return fail(ENETDOWN);

  wire::Message ask{};
  ask.kind = wire::Ask::connect;
  ask.connect.target = target;
  ask.connect.cookie = cookie;
  ask.connect.fd = fd;
  ask.connect.domain = domain;
  ask.connect.blocking = blocking;
  ask.connect.v6_only = domain == AF_INET6 && option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) != 0;
  // What the program registered before connect: the agent takes it out until the tunnel stands.
  const std::size_t early = find_registrations(fd, ask.connect.registrations);
  ask.connect.registration_count = static_cast<std::uint8_t>(early);
  int descriptors[wire::max_descriptors] = {fd};
  for (std::size_t i = 0; i < early; ++i) descriptors[1 + i] = ask.connect.registrations[i].epoll;
  bool unheard = false;
  int result = -1;
  // Asked again only when no agent took the socket: what one of them began, no other goes on with.
  for (int i = 0; i < most_agents && (i == 0 || (unheard && known_socket_entry(cookie) == nullptr)); ++i)
    result = converse(ask, {descriptors, 1 + early}, address, size, unheard);
  return result;
}

}  // namespace

int connect_hook(int fd, const sockaddr* address, socklen_t size, bool no_wait) noexcept {
  if (!active() || size < sizeof(sa_family_t) || size > sizeof(sockaddr_storage) || !readable(address, size))
    return connect_directly(fd, address, size);
  // A private copy: what was judged is what gets connected.
  sockaddr_storage copy{};
  std::memcpy(&copy, address, size);
  const auto* judged = reinterpret_cast<const sockaddr*>(&copy);
  if (copy.ss_family == AF_UNSPEC) {
    const bool cancels = pending_socket(fd) != nullptr;
    if (cancels) closing_socket(fd);
    const int result = connect_directly(fd, judged, size);
    if (cancels) (void)take_socket_error(fd);  // of the cancelled attempt: the next connect starts anew
    else if (option(fd, SOL_SOCKET, SO_TYPE, -1) == SOCK_STREAM) disconnected_socket(fd);
    return result;
  }
  const Endpoint target = Endpoint::from(judged, size);
  if (!target.address) return connect_directly(fd, judged, size);
  const int domain = option(fd, SOL_SOCKET, SO_DOMAIN, -1);
  if (domain != AF_INET && domain != AF_INET6) return connect_directly(fd, judged, size);
  // An AF_INET6 datagram socket takes AF_INET addresses.
  if (option(fd, SOL_SOCKET, SO_TYPE, -1) != SOCK_STREAM) return datagram_connect(fd, target, judged, size, domain);
  // For a stream a mismatch is an error that the kernel words best, unless the socket is not free to be asked.
  if (domain != copy.ss_family)
    return pending_socket(fd) != nullptr ? fail(EALREADY) : connect_directly(fd, judged, size);
  return stream_connect(fd, target, judged, size, domain, no_wait);
}

}  // namespace towpath

TOWPATH_EXPORT int connect(int fd, const sockaddr* address, socklen_t size) {
  return towpath::connect_hook(fd, address, size);
}
