// accept() and accept4(): the address that the program sees is its client's, and what a client must not say about
// itself never reaches the program.
//
// Decided in place, without a question, from the agent's page: connections that need nothing, and those whose PROXY
// header has come. Everything that would have to be waited for (a late header, HTTP) goes to the agent, and this accept
// goes on as if it had not come. When it is ready the agent rings: a connection from this host that the page knows, in
// whose place the ready one is fetched. Should the agent not answer, a connection that would be its business is closed.
#include "preload/accept.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include "preload/ask.h"
#include "preload/clients.h"
#include "preload/process.h"
#include "preload/net.h"
#include "preload/real.h"
#include "preload/room_for_more.h"
#include "base/sys.h"
#include "proto/proxy_header.h"
#include "proto/shown_client.h"

namespace towpath {

namespace {

constexpr int most_noted = 4096;  // descriptors; a higher one counts as never polled

// A set of descriptors.
class Noted {
 public:
  [[nodiscard]] bool has(int fd) const noexcept {
    return fd >= 0 && fd < most_noted && (bits_[fd / 64].load(std::memory_order_relaxed) >> fd % 64 & 1) != 0;
  }
  void add(int fd) noexcept {
    if (fd >= 0 && fd < most_noted && !has(fd))
      bits_[fd / 64].fetch_or(std::uint64_t{1} << fd % 64, std::memory_order_relaxed);
  }
  void drop(int fd) noexcept {
    if (has(fd)) bits_[fd / 64].fetch_and(~(std::uint64_t{1} << fd % 64), std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> bits_[most_noted / 64]{};
};
constinit Noted polled, deferred;

Endpoint end_of(long number, int fd) noexcept {
  sockaddr_storage address;
  socklen_t size = sizeof address;
  return passing::call(number, fd, &address, &size) == 0 ? Endpoint::from(reinterpret_cast<sockaddr*>(&address), size)
                                                         : Endpoint{};
}

int option(int fd, int level, int name) noexcept {
  int value = 0;
  socklen_t size = sizeof value;
  sys::call(SYS_getsockopt, fd, level, name, &value, &size);
  return value;
}

void reset(int fd) noexcept {
  const linger now{1, 0};
  sys::call(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  sys::call(SYS_close, fd);
}

bool is_v6_only(int fd, int domain) noexcept {
  return domain == AF_INET6 && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
}

socklen_t shown_of(const ClientEntry& entry, int fd, socklen_t room, sockaddr_storage& out) noexcept {
  const int domain = option(fd, SOL_SOCKET, SO_DOMAIN);
  return shown_client(entry, domain, is_v6_only(fd, domain), room, out);
}

void copy_out(const void* from, socklen_t full, sockaddr* address, socklen_t* size) noexcept {
  std::memcpy(address, from, full < *size ? full : *size);
  *size = full;
}

enum class Outcome : std::uint8_t { give, next, fail };

// A connection in the hand of the hook, and what accept was asked for.
struct Accepted {
  int listener;
  int flags;
  int fd = -1;
  int domain = 0;          // as accept showed the peer
  Endpoint peer, local;    // as the kernel knows them
  Endpoint client, other;  // whom to show, and whom where there is no room for him; no address: the peer
};

// The lowest number that is free now, as accept promises.
int lowest(int fd, int flags) noexcept {
  const long lower = sys::call(SYS_fcntl, fd, (flags & SOCK_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  if (lower < 0 || lower > fd) {
    if (lower >= 0) sys::call(SYS_close, lower);
    return fd;
  }
  sys::call(SYS_close, fd);
  return static_cast<int>(lower);
}

void set_flags(int fd, int flags) noexcept {
  const long now = sys::call(SYS_fcntl, fd, F_GETFL);
  const long wanted = (flags & SOCK_NONBLOCK) != 0 ? now | O_NONBLOCK : now & ~static_cast<long>(O_NONBLOCK);
  if (now >= 0 && wanted != now) sys::call(SYS_fcntl, fd, F_SETFL, wanted);
}

enum class Claimed : std::uint8_t { connection, nothing, not_ours, no_room };

// `bell`: the other end of what may be a call; no address: whatever is ready.
Claimed claim(Accepted& a, const Endpoint& bell) noexcept {
  int fd = -1;
  {
    Conversation talk;
    if (!talk.ok()) return talk.out_of_descriptors() ? Claimed::no_room : Claimed::nothing;
    wire::Message ask{};
    wire::Reply reply;
    ask.kind = wire::Ask::claim;
    ask.claim.listener = cookie_of(a.listener);
    ask.claim.bell = bell;
    // The kernel's accept would need one descriptor; ours needs a second one for a moment.
    const RoomForMore room(!room_beside(talk.fd()));
    if (!talk.say(ask) ||
        talk.hear_with_descriptor(reply, fd, (a.flags & SOCK_CLOEXEC) != 0) != Conversation::Heard::reply)
      return Claimed::nothing;
    if (reply.kind == wire::Answer::own) return Claimed::not_ours;
    if (reply.kind != wire::Answer::accepted) return Claimed::nothing;
    if (fd < 0) return Claimed::no_room;  // the agent keeps it, since we do not say that we took it
    set_flags(fd, a.flags);
    a.client = reply.endpoint;
    a.other = reply.peer;
    ask.kind = wire::Ask::took;
    talk.say(ask);
  }
  if (a.fd >= 0) sys::call(SYS_close, a.fd);
  a.fd = lowest(fd, a.flags);
  a.domain = option(a.fd, SOL_SOCKET, SO_DOMAIN);
  a.peer = end_of(SYS_getpeername, a.fd);
  return Claimed::connection;
}

// The connection is the agent's from now on; it closes it when it cannot keep it.
Outcome hand_over(Accepted& a) noexcept {
  wire::Message ask{};
  ask.kind = wire::Ask::hold;
  ask.hold.listener = cookie_of(a.listener);
  const auto pass = [&](Conversation& talk) {
    if (!talk.say(ask, {&a.fd, 1})) return reset(a.fd);
    sys::call(SYS_close, a.fd);
  };
  Conversation talk;
  if (talk.ok() || !talk.out_of_descriptors()) {
    pass(talk);
    return Outcome::next;
  }
  const RoomForMore room(true);
  Conversation second;
  if (second.ok()) {
    pass(second);
    return Outcome::next;
  }
  reset(a.fd);
  errno = EMFILE;
  return Outcome::fail;
}

Outcome give_as(Accepted& a, const Endpoint& client, const Endpoint& peer) noexcept {
  a.client = client;
  a.other = peer;
  if (note_client_of(a.fd, client, peer)) return Outcome::give;
  reset(a.fd);
  return Outcome::next;
}

// A trusted peer, and a PROXY header at the begin: taken if it is all there.
Outcome read_header(Accepted& a, bool required) noexcept {
  // Nearly every header fits into the first look.
  std::byte bytes[ProxyHeader::longest];
  std::size_t room = 256;
  for (;;) {
    const long got = sys::call(SYS_recvfrom, a.fd, bytes, room, MSG_PEEK | MSG_DONTWAIT, 0, 0);
    if (got == -EINTR) continue;
    if (got == 0 && !required) return Outcome::give;
    if (got < 0 && got != -EAGAIN) {
      sys::call(SYS_close, a.fd);
      return Outcome::next;
    }
    const ProxyHeader header = read_proxy_header({bytes, got > 0 ? static_cast<std::size_t>(got) : 0});
    if (got != 0 && header.state == ProxyHeader::State::incomplete) {
      if (got != static_cast<long>(room)) return hand_over(a);
      room = sizeof bytes;
      continue;
    }
    if (header.state == ProxyHeader::State::absent && !required) return Outcome::give;
    if (header.state != ProxyHeader::State::whole ||
        sys::call(SYS_recvfrom, a.fd, bytes, header.size, MSG_DONTWAIT, 0, 0) != static_cast<long>(header.size)) {
      sys::call(SYS_close, a.fd);
      return Outcome::next;
    }
    return header.client.address ? give_as(a, header.client, a.peer) : Outcome::give;
  }
}

// Once per listener: spares a question, or a wait, for every connection that has not said anything yet.
void defer_accept(int listener, std::uint8_t rule) noexcept {
  if ((rule & inbound_defer) == 0 || deferred.has(listener)) return;
  deferred.add(listener);
  int seconds = option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT);
  if (seconds > 0) return;
  seconds = 1;
  sys::call(SYS_setsockopt, listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
}

AcceptDecision step_without_door(const InboundPage& page, const Accepted& a) noexcept {
  Accepted stranger = a;
  stranger.peer.port = 0;
  const InboundDoor* none = nullptr;
  return accept_step(page, stranger.peer, stranger.local, none);
}

// What came out of the listener.
Outcome look_at(Accepted& a) noexcept {
  const Page* known = page();
  if (known == nullptr) {
    const RoomForMore room(true);
    known = page();
  }
  if (known == nullptr) {
    // Managed or not, nobody can tell: it would be shown as somebody else.
    reset(a.fd);
    return Outcome::next;
  }
  if (known->inbound.on.load(std::memory_order_acquire) == 0) return Outcome::give;
  // The common case needs no look at the own end: a trusted peer, from a port that is no door of the agent's, must send
  // a header (a call that was taken back has none).
  const InboundPage& inbound = known->inbound;
  if (inbound.doors[a.peer.port].kind.load(std::memory_order_acquire) == DoorKind::none) {
    const std::uint8_t common = read_inbound_rules(inbound, [&](const InboundRules& rules) noexcept {
      const bool simple = rules.by_port == 0 && (rules.default_rule & inbound_http) == 0 &&
                          rules.all_are_questions == 0 && (rules.default_rule & inbound_proxy_require) != 0;
      return simple && rules.trust(a.peer.address) ? rules.default_rule : std::uint8_t{0};
    });
    if (common != 0) {
      defer_accept(a.listener, common);
      return read_header(a, true);
    }
  }
  a.local = end_of(SYS_getsockname, a.fd);
  if (!a.local.address) return Outcome::give;
  const InboundDoor* door = nullptr;
  auto [step, rule] = accept_step(known->inbound, a.peer, a.local, door);
  defer_accept(a.listener, rule);
  if (step == AcceptStep::bell) {
    switch (claim(a, a.peer)) {
      case Claimed::connection: return Outcome::give;
      case Claimed::nothing: sys::call(SYS_close, a.fd); return Outcome::next;
      case Claimed::no_room:
        sys::call(SYS_close, a.fd);
        errno = EMFILE;
        return Outcome::fail;
      case Claimed::not_ours: break;
    }
    const AcceptDecision again = step_without_door(known->inbound, a);
    step = again.step;
    rule = again.rule;
  }
  // A call that was taken back before it was answered is a dead connection; so is a client from this host that has
  // gone.
  if (a.peer.address == a.local.address && step != AcceptStep::direct && !end_of(SYS_getpeername, a.fd).address) {
    sys::call(SYS_close, a.fd);
    return Outcome::next;
  }
  switch (step) {
    case AcceptStep::direct: {
      const Endpoint client{door->client.get(), door->client_port}, other{door->peer.get(), door->peer_port};
      // The connection still stands, so its port, and with it what we have read, has not become another one's.
      if (end_of(SYS_getpeername, a.fd).address) return give_as(a, client, other);
      sys::call(SYS_close, a.fd);
      return Outcome::next;
    }
    case AcceptStep::read_header: return read_header(a, (rule & inbound_proxy_require) != 0);
    case AcceptStep::hand_over: return hand_over(a);
    case AcceptStep::give:
    case AcceptStep::bell: break;
  }
  return Outcome::give;
}

bool anything_ready() noexcept {
  const Page* const known = mapped_page();
  return known != nullptr && known->inbound.on.load(std::memory_order_relaxed) != 0 &&
         known->inbound.ready.load(std::memory_order_acquire) != 0;
}

// Would accept wait, on a listener that the program polls? It has come because it was told that it need not.
bool would_wait(int listener) noexcept {
  if (!polled.has(listener)) return false;
  const long flags = sys::call(SYS_fcntl, listener, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) != 0) return false;
  pollfd look{listener, POLLIN, 0};
  timespec at_once{};
  return sys::call(SYS_ppoll, &look, 1, &at_once, 0, 8) == 0;
}

int show(const Accepted& a, sockaddr* address, socklen_t* size) noexcept {
  if (address == nullptr) return a.fd;
  sockaddr_storage shown;
  socklen_t full =
      a.client.address ? shown_client(a.client, a.other, a.domain, is_v6_only(a.fd, a.domain), *size, shown) : 0;
  if (full == 0) full = a.peer.to(shown, a.domain);
  copy_out(&shown, full, address, size);
  return a.fd;
}

int managed_accept(int listener, sockaddr* address, socklen_t* size, int flags) noexcept {
  const int before = errno;
  for (;;) {
    Accepted a{};
    a.listener = listener;
    a.flags = flags;
    a.fd = -1;
    if (anything_ready()) switch (claim(a, {})) {
        case Claimed::connection: return show(a, address, size);
        case Claimed::no_room: errno = EMFILE; return -1;
        case Claimed::nothing:
        case Claimed::not_ours: break;
      }
    sockaddr_storage peer;
    socklen_t full = sizeof peer;
    a.fd = passing::accept4(listener, reinterpret_cast<sockaddr*>(&peer), &full, flags);
    if (a.fd < 0) return -1;
    a.peer = Endpoint::from(reinterpret_cast<sockaddr*>(&peer), full);
    a.domain = peer.ss_family;
    if (!a.peer.address) {
      if (address != nullptr) copy_out(&peer, full, address, size);
      return a.fd;
    }
    switch (look_at(a)) {
      case Outcome::give: errno = before; return show(a, address, size);
      case Outcome::fail: return -1;
      case Outcome::next: break;
    }
    if (would_wait(listener)) {
      errno = ECONNABORTED;
      return -1;
    }
  }
}

}  // namespace

bool accepts_managed() noexcept { return inbound_possible(); }

void note_polled(int fd) noexcept { polled.add(fd); }

void forget_listener(int fd) noexcept {
  polled.drop(fd);
  deferred.drop(fd);
}

int accept_hook(int listener, sockaddr* address, socklen_t* size, int flags) noexcept {
  // The kernel finds what is wrong with the arguments, and says so before it takes a connection (or loses it).
  const bool wrong =
      address != nullptr && (!readable(size, sizeof *size) || static_cast<int>(*size) < 0 || !readable(address, *size));
  if (wrong) return passing::accept4(listener, address, size, flags);
  return managed_accept(listener, address, size, flags);
}

bool show_client(int fd, sockaddr* address, socklen_t* size) noexcept {
  const ClientEntry* const entry = client_of(fd);
  sockaddr_storage shown;
  const socklen_t full = entry != nullptr ? shown_of(*entry, fd, *size, shown) : 0;
  if (full == 0) return false;
  copy_out(&shown, full, address, size);
  return true;
}

bool show_peer_name(int fd, void* value, socklen_t* size, int& result) noexcept {
  const ClientEntry* const entry = client_of(fd);
  sockaddr_storage shown;
  const socklen_t full = entry != nullptr && readable(size, sizeof *size) ? shown_of(*entry, fd, *size, shown) : 0;
  if (full == 0) return false;
  // net/core/sock.c: more room than the address has is an error here.
  result = *size > full ? -1 : 0;
  if (result != 0) errno = EINVAL;
  else std::memcpy(value, &shown, *size);
  return true;
}

}  // namespace towpath

TOWPATH_EXPORT int accept(int listener, sockaddr* address, socklen_t* size) {
  if (!towpath::inbound_possible()) return towpath::real().accept(listener, address, size);
  return towpath::accept_hook(listener, address, size, 0);
}

TOWPATH_EXPORT int accept4(int listener, sockaddr* address, socklen_t* size, int flags) {
  if (!towpath::inbound_possible()) return towpath::real().accept4(listener, address, size, flags);
  return towpath::accept_hook(listener, address, size, flags);
}
