// Whose connection it is: the clients of accepted sockets whose own peer is a proxy, by the kernel's identity of the
// socket (SO_COOKIE). A memfd that the processes of the tree share and write: the hook that reads a PROXY header notes
// the client itself, and getpeername finds it after fork, exec, dup and descriptor passing.
//
// Writers claim a free entry by compare-and-swap, nobody ever changes one that is in use. The agent frees those whose
// socket is closed, claimed ones among them. The file is sealed against shrinking; what a process of the tree can do to it is make addresses
// wrong for its own tree (docs/threat-model.md).
#pragma once

#include <atomic>
#include <cstdint>

#include "proto/inbound_page.h"

namespace towpath {

inline constexpr std::uint32_t client_table_magic = 0x43505754;  // "TWPC"
inline constexpr std::uint32_t client_table_entries = 65536;
inline constexpr std::uint32_t client_table_window = 32;
// Beside the cookie: being written. A writer that is killed leaves it behind, and its socket is closed then.
inline constexpr std::uint64_t client_entry_busy = std::uint64_t{1} << 63;

struct ClientEntry {
  std::atomic<std::uint64_t> cookie;  // 0: free; written last
  PlainAddress client, peer;          // peer: whom to show where a program has no room for the client; may be none
  std::uint16_t client_port, peer_port;
};
static_assert(sizeof(ClientEntry) == 48);

struct ClientTable {
  std::uint32_t magic;
  std::uint32_t unused[15];
  ClientEntry entries[client_table_entries];
};

[[nodiscard]] inline std::uint32_t client_hash(std::uint64_t cookie) noexcept {
  return static_cast<std::uint32_t>((cookie * 0x9e3779b97f4a7c15ull) >> 40) % client_table_entries;
}

[[nodiscard]] inline const ClientEntry* find_client_entry(const ClientTable& table, std::uint64_t cookie) noexcept {
  if (cookie == 0) return nullptr;
  for (std::uint32_t i = 0; i < client_table_window; ++i) {
    const ClientEntry& entry = table.entries[(client_hash(cookie) + i) % client_table_entries];
    if (entry.cookie.load(std::memory_order_acquire) == cookie) return &entry;
  }
  return nullptr;
}

// False: no room, closed sockets must be swept out first.
[[nodiscard]] inline bool note_client(ClientTable& table, std::uint64_t cookie, const Endpoint& client,
                                      const Endpoint& peer) noexcept {
  if (cookie == 0 || (cookie & client_entry_busy) != 0) return false;
  for (std::uint32_t i = 0; i < client_table_window; ++i) {
    ClientEntry& entry = table.entries[(client_hash(cookie) + i) % client_table_entries];
    std::uint64_t expected = 0;
    if (!entry.cookie.compare_exchange_strong(expected, cookie | client_entry_busy, std::memory_order_acquire)) continue;
    entry.client.set(client.address);
    entry.client_port = client.port;
    entry.peer.set(peer.address);
    entry.peer_port = peer.port;
    entry.cookie.store(cookie, std::memory_order_release);
    return true;
  }
  return false;
}

}  // namespace towpath
