#include "preload/clients.h"

#include <sys/mman.h>

#include "preload/ask.h"
#include "preload/process.h"
#include "preload/room_for_more.h"
#include "base/sys.h"

namespace towpath {

namespace {

// Tables of agents before this one hold clients of connections that still live. Never unmapped: another thread may
// read.
constexpr std::size_t most_tables = 8;
constinit std::atomic<ClientTable*> tables[most_tables]{};
constinit std::atomic<std::uint64_t> newest_page{0};

ClientTable* newest() noexcept {
  ClientTable* out = nullptr;
  for (const auto& each : tables)
    if (ClientTable* at = each.load(std::memory_order_acquire)) out = at;
  return out;
}

// The table of the agent whose page is mapped now.
ClientTable* table() noexcept {
  const Page* const known = page();
  if (known == nullptr) return newest();
  if (newest_page.load(std::memory_order_acquire) == known->id) return newest();
  // Once in a process, and it may be at its limit then: without the table a connection would be lost.
  const RoomForMore room(true);
  const int fd = ask_for_clients();
  if (fd < 0) return nullptr;
  const long at = sys::call(SYS_mmap, 0, sizeof(ClientTable), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  sys::call(SYS_close, fd);
  if (at < 0 && at > -4096) return nullptr;
  auto* const fresh = reinterpret_cast<ClientTable*>(at);
  if (fresh->magic == client_table_magic) {
    for (auto& each : tables) {
      ClientTable* expected = nullptr;
      if (!each.compare_exchange_strong(expected, fresh)) continue;
      newest_page.store(known->id, std::memory_order_release);
      return fresh;
    }
  }
  sys::call(SYS_munmap, at, sizeof(ClientTable));
  return nullptr;
}

}  // namespace

const ClientEntry* client_of(int fd) noexcept {
  const std::uint64_t cookie = cookie_of(fd);
  if (cookie == 0) return nullptr;
  (void)table();
  for (const auto& each : tables) {
    const ClientTable* at = each.load(std::memory_order_acquire);
    if (at == nullptr) return nullptr;
    if (const ClientEntry* entry = find_client_entry(*at, cookie)) return entry;
  }
  return nullptr;
}

bool note_client_of(int fd, const Endpoint& client, const Endpoint& peer) noexcept {
  ClientTable* const at = table();
  const std::uint64_t cookie = cookie_of(fd);
  if (at == nullptr || cookie == 0) return false;
  if (note_client(*at, cookie, client, peer)) return true;
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::sweep;
  return talk.say(ask) && talk.hear(reply, false) == Conversation::Heard::reply &&
         note_client(*at, cookie, client, peer);
}

}  // namespace towpath
