// The table of clients (proto/client_table.h) as a process of the tree has it.
#pragma once

#include "proto/client_table.h"

namespace towpath {

// Whose connection it is; null: nobody but its own peer's. Maps the table at the first call.
const ClientEntry* client_of(int fd) noexcept;
// False: it could not be noted (no agent, no room): the connection must not be used, its address would be wrong.
bool note_client_of(int fd, const Endpoint& client, const Endpoint& peer) noexcept;

}  // namespace towpath
