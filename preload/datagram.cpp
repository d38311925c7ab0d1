#include "preload/datagram.h"

#include <atomic>
#include <cerrno>
#include <cstring>

#include <netinet/in.h>

#include "preload/ask.h"
#include "preload/process.h"
#include "preload/net.h"
#include "base/sys.h"
#include "preload/verdicts.h"

namespace towpath {

namespace {

constexpr std::uint16_t dns_port = 53;

// This process, or the one it was forked from, has connected a socket to where nothing may be sent.
constinit std::atomic<bool> any_muted{false};

// The same, led a socket to the name service.
constinit std::atomic<bool> any_led{false};

int option(int fd, int name) noexcept {
  int value = -1;
  socklen_t size = sizeof value;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

// Not a ping socket, which is of the same type.
bool is_udp(int fd) noexcept {
  if (option(fd, SO_TYPE) != SOCK_DGRAM) return false;
  const int protocol = option(fd, SO_PROTOCOL);
  return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

bool stays_here(const IpAddress& address) noexcept {
  return address.is_loopback() || address.is_unspecified() || address.is_link_local();
}

bool is_muted(int fd) noexcept {
  if (!any_muted.load(std::memory_order_relaxed)) return false;
  const PageEntry* entry = known_socket_entry(cookie_of(fd));
  return entry != nullptr && entry->state.load(std::memory_order_acquire) == SocketState::muted;
}

// Of the two ends of a door the one that the agent would choose; no address: ask it.
Endpoint known_door(const Page& page, int fd, const Endpoint& server, int domain) noexcept {
  const std::uint32_t ports = door_of(page, server);
  if (ports == 0) return {};
  const PageEntry* entry = find_socket(page, cookie_of(fd));
  if (entry == nullptr || entry->state.load(std::memory_order_acquire) != SocketState::dns) return {};
  const bool six = domain == AF_INET6 && server.address.is_v6();
  const auto port = static_cast<std::uint16_t>(six ? ports & 0xffff : ports >> 16);
  if (port == 0) return {};
  return {six ? IpAddress::parse("::1") : IpAddress::v4(INADDR_LOOPBACK), port};
}

enum class Fate : std::uint8_t { as_is, instead, muted, refused };

struct Verdict {
  Fate fate = Fate::as_is;
  Endpoint door;  // instead
  int error = 0;  // refused
};

Verdict ask_agent(int fd, const Endpoint& target, int domain, bool connects) noexcept {
  const std::uint32_t epoch = verdict_epoch();
  wire::Message ask{};
  ask.kind = wire::Ask::datagram;
  ask.datagram = {target, cookie_of(fd), domain, connects};
  for (int i = 0; i < most_agents; ++i) {
    Conversation talk;
    wire::Reply reply;
    if (!talk.say(ask, {&fd, 1}) || talk.hear(reply, false) != Conversation::Heard::reply) continue;
    switch (reply.kind) {
      case wire::Answer::direct: remember_direct(target, epoch, Traffic::datagram); return {};
      case wire::Answer::instead: return {Fate::instead, reply.endpoint, 0};
      case wire::Answer::muted: return {Fate::muted, {}, 0};
      default: return {Fate::refused, {}, reply.number != 0 ? reply.number : ENETUNREACH};
    }
  }
  return {Fate::refused, {}, ENETDOWN};
}

Verdict judge(int fd, const Endpoint& target, int domain, bool connects) noexcept {
  const bool was_muted = connects && is_muted(fd);
  const bool question = target.port == dns_port;
  if (!question && !was_muted && stays_here(target.address)) return {};
  const Page* known = page();
  if (known == nullptr)
    return stays_here(target.address) && !question ? Verdict{} : Verdict{Fate::refused, {}, ENETDOWN};
  const bool synthetic = is_synthetic(*known, target.address);
  if (!question && !was_muted && !synthetic && known->udp_blocked == 0) return {};
  if (!was_muted && known_direct(target, Traffic::datagram)) return {};
  if (option(fd, SO_TYPE) == SOCK_STREAM) return {};  // connected: the kernel does not look at the address
  if (!question && synthetic && !connects) return {Fate::muted, {}, 0};
  if (!is_udp(fd)) return synthetic ? Verdict{Fate::refused, {}, ENETUNREACH} : Verdict{};
  if (question && !connects)
    if (const Endpoint door = known_door(*known, fd, target, domain); door.address) return {Fate::instead, door, 0};
  return ask_agent(fd, target, domain, connects);
}

}  // namespace

int datagram_connect(int fd, const Endpoint& target, const sockaddr* address, socklen_t size, int domain) noexcept {
  const Verdict verdict = judge(fd, target, domain, true);
  sockaddr_storage door;
  switch (verdict.fate) {
    case Fate::as_is: break;
    case Fate::muted: any_muted.store(true, std::memory_order_relaxed); break;
    case Fate::instead: {
      any_led.store(true, std::memory_order_relaxed);
      const socklen_t door_size = verdict.door.to(door, domain);
      return passing::connect(fd, reinterpret_cast<sockaddr*>(&door), door_size);
    }
    case Fate::refused: errno = verdict.error; return -1;
  }
  return connect_directly(fd, address, size);
}

bool redirect(int fd, const sockaddr*& address, socklen_t& size, sockaddr_storage& room) noexcept {
  if (!active() || address == nullptr || size < sizeof(sa_family_t) || size > sizeof(sockaddr_storage) ||
      !readable(address, size))
    return true;
  std::memcpy(&room, address, size);
  // On an AF_INET socket Linux takes an unspecified family for its own.
  if (room.ss_family == AF_UNSPEC && size >= sizeof(sockaddr_in) && option(fd, SO_DOMAIN) == AF_INET)
    room.ss_family = AF_INET;
  const Endpoint target = Endpoint::from(reinterpret_cast<sockaddr*>(&room), size);
  if (!target.address) return true;
  const Verdict verdict = judge(fd, target, room.ss_family, false);
  switch (verdict.fate) {
    case Fate::as_is: return true;
    case Fate::instead:
      any_led.store(true, std::memory_order_relaxed);
      size = verdict.door.to(room, room.ss_family);
      break;
    case Fate::muted: errno = ENETUNREACH; return false;
    case Fate::refused: errno = verdict.error; return false;
  }
  address = reinterpret_cast<const sockaddr*>(&room);
  return true;
}

bool silenced(int fd) noexcept {
  if (!is_muted(fd)) return false;
  errno = ENETUNREACH;
  return true;
}

const Page* page_with_doors() noexcept {
  if (!any_led.load(std::memory_order_relaxed)) return nullptr;
  const Page* known = mapped_page();
  return known != nullptr && known->dns_doors.load(std::memory_order_acquire) != 0 ? known : nullptr;
}

void show_asked_server(const Page& page, sockaddr* from, socklen_t* size, socklen_t room) noexcept {
  if (room < sizeof(sa_family_t) || (from->sa_family != AF_INET && from->sa_family != AF_INET6) || *size > room) return;
  const Endpoint server = asked_server(page, Endpoint::from(from, *size));
  if (!server.address) return;
  sockaddr_storage shown;
  const socklen_t full = server.to(shown, from->sa_family);
  if (full == 0) return;
  std::memcpy(from, &shown, full < room ? full : room);
  *size = full;
}

Endpoint led_to(const Page& page, const PageEntry& entry, const Endpoint& peer) noexcept {
  if (const Endpoint server = asked_server(page, peer); server.address) return server;
  const std::uint32_t streams = page.dns_streams.load(std::memory_order_acquire);
  return peer.port != 0 && loopback_port(streams, peer.address) == peer.port ? target_of(entry) : Endpoint{};
}

}  // namespace towpath
