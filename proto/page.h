// The page that an agent publishes to the processes it serves: which of their sockets towpath knows.
//
// One writer (the agent), many readers (every process, mapped read-only). A reader never waits: an entry is
// found by the kernel's identity of a socket (SO_COOKIE), so it is right after fork, exec, dup and descriptor
// passing, and a number that was reused never matches. Lives in a memfd that outlives the agent.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/endpoint.h"
#include "proto/inbound_page.h"

namespace towpath {

inline constexpr std::uint32_t page_magic = 0x50505754;  // "TWPP"
inline constexpr std::uint32_t page_version = 5;
inline constexpr std::uint32_t page_entries = 65536;
inline constexpr std::uint32_t page_window = 32;  // an entry stands at most this far behind its hash
inline constexpr std::uint32_t page_dns_doors = 64;

enum class SocketState : std::uint32_t {
  none = 0,
  pending = 1,  // the handshake runs: the program must not see the socket ready
  open = 2,     // the tunnel stands, or a direct connection behind a synthetic address
  failed = 3,   // taken off the proxy; `error` is what the program gets for it
  lost = 4,     // the agent died in mid-handshake: the socket leads to a proxy that was told nothing, use fails
  dns = 5,    // asks a name server on port 53, and is led to the agent's own instead; the address is the asked server's
  muted = 6,  // a datagram socket that may be connected to its address and may not send
  // A handshake runs, and the socket itself is not ready until the verdict, as the kernel sees it (agent/quiet_door):
  // everything that a hook or the program asks of it is answered natively.
  quiet = 7,
};

struct PageEntry {
  std::atomic<std::uint64_t> cookie;  // 0: free. Written last when an entry is made.
  std::atomic<SocketState> state;
  std::atomic<std::int32_t> error;
  std::uint8_t address[16];  // what the program asked for, as getpeername shows it; 4 or 16 bytes
  std::uint16_t port;
  std::uint8_t address_size;
  // The verdict is known and the agent has not let go of the socket yet: a close by the program would not be the last
  // one, and epoll would go on reporting the closed socket.
  std::atomic<std::uint8_t> held;
  std::uint8_t direct;  // open without a proxy. For the agent only, which counts tunnels.
  std::uint8_t unused[11];
};
static_assert(sizeof(PageEntry) == 48);

// Where the agent answers in the place of one name server (agent/dns_stub): datagrams from a door are shown to the
// program as coming from that server.
struct DnsDoor {
  std::atomic<std::uint32_t> ports;  // on 127.0.0.1 (upper half) and ::1 (lower half); 0: unused. Written last.
  std::uint32_t scope;
  std::uint8_t address[16];  // of the server; 4 or 16 bytes
  std::uint16_t port;
  std::uint8_t address_size;
  std::uint8_t unused;
};
static_assert(sizeof(DnsDoor) == 28);

// A supervised program's call that the agent has taken from the kernel and not answered: should the agent die, the next
// one answers in its place, since the kernel shows no call twice.
struct PageNotice {
  std::atomic<std::uint64_t> id;  // the kernel's; 0: unused. Written last, cleared first.
  std::uint32_t listener;
  std::uint32_t unused;
};
inline constexpr std::uint32_t page_notices = 8192;
inline constexpr std::uint32_t page_listeners = 4096;
inline constexpr std::uint32_t page_beat_ms = 1000;

enum class PageNet : std::uint32_t { automatic, required, off };

struct Page {
  std::uint32_t magic;
  std::uint32_t version;
  std::atomic<std::uint32_t> pending;  // entries in state pending or lost, or held: 0 keeps every hook out of the way
  std::uint32_t synthetic_v4;          // host order
  std::uint32_t synthetic_v4_bits;
  std::uint8_t synthetic_v6[8];              // a /64
  std::uint64_t id;                          // random; tells one page from another
  std::atomic<std::uint32_t> epoch;          // raised whenever a direct verdict of before may be wrong now
  std::atomic<std::uint32_t> dns_doors;      // in use, the first ones of `doors`: 0 keeps the hooks out of the way
  std::atomic<std::uint32_t> dns_streams;    // ports of the name service over TCP, as in DnsDoor
  std::atomic<std::uint32_t> udp_blocked;    // datagrams to anywhere but this host are a question to the agent
  std::atomic<std::uint32_t> setuid_direct;  // programs that nothing of ours can follow may run
  std::atomic<PageNet> net;                  // what the configuration says of the net (preload/supervised)
  std::atomic<std::uint32_t> beats;          // raised every page_beat_ms by an agent whose loop turns
  std::uint8_t unused[4];
  DnsDoor doors[page_dns_doors];
  PageEntry entries[page_entries];
  PageNotice notices[page_notices];
  std::atomic<std::uint64_t> last_notice[page_listeners];  // by the listener's key: the highest id that was taken
  InboundPage inbound;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

[[nodiscard]] inline std::uint32_t page_hash(std::uint64_t cookie) noexcept {
  return static_cast<std::uint32_t>((cookie * 0x9e3779b97f4a7c15ull) >> 40) % page_entries;
}

// The entry of a socket, or null. Safe against a writer that works at the same time.
[[nodiscard]] inline const PageEntry* find_socket(const Page& page, std::uint64_t cookie) noexcept {
  if (cookie == 0) return nullptr;
  for (std::uint32_t i = 0; i < page_window; ++i) {
    const PageEntry& entry = page.entries[(page_hash(cookie) + i) % page_entries];
    if (entry.cookie.load(std::memory_order_acquire) == cookie) return &entry;
  }
  return nullptr;
}

[[nodiscard]] inline IpAddress page_address(const std::uint8_t (&from)[16], std::uint8_t size,
                                            std::uint32_t scope = 0) noexcept {
  std::uint8_t bytes[16];
  std::memcpy(bytes, from, sizeof bytes);
  return size == 4 ? IpAddress::v4(std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
                                   std::uint32_t{bytes[2]} << 8 | bytes[3])
                   : IpAddress::v6(bytes, scope);
}

[[nodiscard]] inline Endpoint target_of(const PageEntry& entry) noexcept {
  return {page_address(entry.address, entry.address_size), entry.port};
}

// What of two ports in one word stands for the loopback of that family; 0 for any other address.
[[nodiscard]] inline std::uint16_t loopback_port(std::uint32_t ports, const IpAddress& loopback) noexcept {
  if (loopback.is_v4()) return loopback.v4_number() == 0x7f000001 ? static_cast<std::uint16_t>(ports >> 16) : 0;
  return loopback.is_loopback() ? static_cast<std::uint16_t>(ports & 0xffff) : 0;
}

// The name server behind a door's own address, no address when it is no door.
[[nodiscard]] inline Endpoint asked_server(const Page& page, const Endpoint& door) noexcept {
  const std::uint32_t count = page.dns_doors.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count && i < page_dns_doors; ++i) {
    const DnsDoor& each = page.doors[i];
    const std::uint32_t ports = each.ports.load(std::memory_order_acquire);
    if (door.port != 0 && loopback_port(ports, door.address) == door.port)
      return {page_address(each.address, each.address_size, each.scope), each.port};
  }
  return {};
}

// The ports of the door that stands for this name server; 0 when there is none.
[[nodiscard]] inline std::uint32_t door_of(const Page& page, const Endpoint& server) noexcept {
  const std::uint32_t count = page.dns_doors.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count && i < page_dns_doors; ++i) {
    const DnsDoor& each = page.doors[i];
    const std::uint32_t ports = each.ports.load(std::memory_order_acquire);
    if (ports != 0 && each.port == server.port &&
        page_address(each.address, each.address_size, each.scope) == server.address)
      return ports;
  }
  return 0;
}

[[nodiscard]] inline bool is_synthetic(const Page& page, const IpAddress& address) noexcept {
  if (address.is_v4())
    return page.synthetic_v4_bits != 0 && address.in_prefix(IpAddress::v4(page.synthetic_v4), page.synthetic_v4_bits);
  return address.is_v6() && std::memcmp(address.bytes().data(), page.synthetic_v6, 8) == 0;
}

}  // namespace towpath
