// epoll_ctl(): a socket in a handshake is registered when the handshake is over, by the agent.
#include <cerrno>

#include "preload/accept.h"
#include "preload/ask.h"
#include "preload/epoll.h"
#include "preload/process.h"
#include "preload/net.h"
#include "preload/real.h"
#include "preload/registrations.h"

namespace towpath {

namespace {

// An agent without a descriptor for it has one as soon as handshakes end. Programs do not expect this call to fail, and
// some abort (libuv), so they rather wait a little: 2 s.
constexpr int most_tries = 100, pause_ms = 20;

// False: there was no answer, or none that counts.
bool ask_agent(wire::Message& ask, int epoll, wire::Reply& reply) noexcept {
  for (int tries = 0;; ++tries) {
    Conversation talk;
    const int descriptors[] = {epoll};
    if (!talk.say(ask, descriptors)) return false;  // also a bad epoll descriptor: the kernel says it best
    if (talk.hear(reply, false) != Conversation::Heard::reply) return false;
    if (reply.kind != wire::Answer::refuse || tries == most_tries) return true;
    real().poll(nullptr, 0, pause_ms);
  }
}

// True when the agent took the operation; `result` is then what the program gets.
bool deferred(int epoll, int operation, int fd, const epoll_event* event, int& result) noexcept {
  if (!anything_pending()) return false;
  const std::uint64_t cookie = cookie_of(fd);
  const PageEntry* entry = known_socket_entry(cookie);
  if (entry == nullptr || state_of(*entry) != SocketState::pending) return false;
  if (operation != EPOLL_CTL_DEL && !readable(event, sizeof *event)) return false;
  wire::Message ask{};
  ask.kind = wire::Ask::epoll;
  ask.epoll.cookie = cookie;
  ask.epoll.operation = operation;
  ask.epoll.registration.fd = fd;
  ask.epoll.registration.epoll = epoll;
  if (operation != EPOLL_CTL_DEL) {
    ask.epoll.registration.events = event->events;
    ask.epoll.registration.data = event->data.u64;
  }
  wire::Reply reply;
  if (!ask_agent(ask, epoll, reply)) return false;
  if (reply.kind == wire::Answer::refuse) {
    // Registered by itself the socket would be ready before the tunnel stands.
    errno = ENOMEM;
    result = -1;
    return true;
  }
  if (reply.kind != wire::Answer::done) return false;
  // Not deferred, but perhaps in the set since before connect without our knowledge.
  if (reply.number == ENOENT) return false;
  if (reply.number != 0) errno = reply.number;
  result = reply.number == 0 ? 0 : -1;
  return true;
}

}  // namespace

int epoll_ctl_hook(int epoll, int operation, int fd, epoll_event* event) noexcept {
  if (!active()) return passing::epoll_ctl(epoll, operation, fd, event);
  int result;
  if (deferred(epoll, operation, fd, event, result)) return result;
  result = passing::epoll_ctl(epoll, operation, fd, event);
  if (result == 0 && operation == EPOLL_CTL_ADD && accepts_managed()) note_polled(fd);
  if (result == 0) remember_registration(epoll, operation, fd, event);
  return result;
}

}  // namespace towpath

TOWPATH_EXPORT int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  return towpath::epoll_ctl_hook(epoll, operation, fd, event);
}
