#include "agent/client_table_writer.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>

#include "agent/open_sockets.h"

namespace towpath {

UniqueFd ClientTableWriter::create(std::string& why) {
  UniqueFd fd(memfd_create("towpath-clients", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  // Everybody who maps it may write; nobody may make it shorter under the others.
  if (!fd || ftruncate(fd.get(), sizeof(ClientTable)) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    why = std::string("cannot make the table of clients: ") + std::strerror(errno);
    return {};
  }
  const std::uint32_t magic = client_table_magic;
  if (pwrite(fd.get(), &magic, sizeof magic, 0) != sizeof magic) return {};
  return fd;
}

ClientTableWriter::ClientTableWriter(int memfd) : fd_(memfd) {
  void* const at =
      memfd < 0 ? MAP_FAILED : mmap(nullptr, sizeof(ClientTable), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (at != MAP_FAILED) table_ = static_cast<ClientTable*>(at);
}

ClientTableWriter::~ClientTableWriter() {
  if (table_ != nullptr) munmap(table_, sizeof(ClientTable));
}

bool ClientTableWriter::note(std::uint64_t cookie, const Endpoint& client, const Endpoint& peer) {
  if (table_ == nullptr) return false;
  if (find_client_entry(*table_, cookie) != nullptr) return true;
  if (note_client(*table_, cookie, client, peer)) return true;
  sweep();
  return note_client(*table_, cookie, client, peer);
}

void ClientTableWriter::sweep() {
  if (table_ == nullptr) return;
  // Noted before the kernel is asked: what comes in between is not on the list, and stays.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> noted;
  for (std::uint32_t i = 0; i < client_table_entries; ++i) {
    const std::uint64_t cookie = table_->entries[i].cookie.load(std::memory_order_acquire);
    if (cookie != 0) noted.emplace_back(i, cookie);
  }
  const OpenSockets open = OpenSockets::list(OpenSockets::Kind::stream);
  if (!open.complete()) return;
  for (auto [at, cookie] : noted)
    if (!open.has(cookie & ~client_entry_busy)) table_->entries[at].cookie.compare_exchange_strong(cookie, 0, std::memory_order_release);
}

}  // namespace towpath
