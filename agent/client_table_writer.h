// The agent's side of proto/client_table.h: makes the memfd, notes clients of what it hands over, and sweeps.
#pragma once

#include <string>

#include "base/unique_fd.h"
#include "proto/client_table.h"

namespace towpath {

class ClientTableWriter {
 public:
  [[nodiscard]] static UniqueFd create(std::string& why);

  // Borrows the descriptor. ok() is false when it cannot be mapped.
  explicit ClientTableWriter(int memfd);
  ~ClientTableWriter();
  ClientTableWriter(const ClientTableWriter&) = delete;
  ClientTableWriter& operator=(const ClientTableWriter&) = delete;

  [[nodiscard]] bool ok() const noexcept { return table_ != nullptr; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  // False: no room, even without the closed ones.
  [[nodiscard]] bool note(std::uint64_t cookie, const Endpoint& client, const Endpoint& peer);
  // Null: nothing is known of that socket's client.
  [[nodiscard]] const ClientEntry* find(std::uint64_t cookie) const noexcept {
    return table_ != nullptr ? find_client_entry(*table_, cookie) : nullptr;
  }
  // Frees the entries of closed sockets.
  void sweep();

 private:
  ClientTable* table_ = nullptr;
  int fd_;
};

}  // namespace towpath
