#include "agent/client_table_writer.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/socket.h>

namespace towpath {

namespace {

std::uint64_t cookie_of(const UniqueFd& fd) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size);
  return cookie;
}

}  // namespace

TEST_CASE("client table: an entry that a killed process had claimed is free again once its socket is closed") {
  std::string why;
  const UniqueFd memory = ClientTableWriter::create(why);
  REQUIRE(memory);
  ClientTableWriter writer(memory.get());
  auto* table = static_cast<ClientTable*>(
      mmap(nullptr, sizeof(ClientTable), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0));
  REQUIRE(table != MAP_FAILED);
  // In the kernel's lists, as accepted sockets are.
  UniqueFd open(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), closed(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(listen(open.get(), 1) == 0);
  const std::uint64_t living = cookie_of(open), dead = cookie_of(closed);
  closed.reset();
  table->entries[1].cookie.store(living | client_entry_busy);
  table->entries[2].cookie.store(dead | client_entry_busy);
  writer.sweep();
  CHECK(table->entries[1].cookie.load() == (living | client_entry_busy));
  CHECK(table->entries[2].cookie.load() == 0);
  CHECK(writer.find(living) == nullptr);
  munmap(table, sizeof(ClientTable));
}

}  // namespace towpath
