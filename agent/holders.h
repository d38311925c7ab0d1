// Which processes hold a program's socket: after fork one that closes it must not end what another still uses.
#pragma once

#include <vector>

#include <sys/types.h>

namespace towpath {

// Does a process of the trees below `roots` hold `socket`, other than `except` under the number `except_fd` and other
// than this process? What cannot be found out counts as yes: an attempt that nobody wants ends by itself.
[[nodiscard]] bool held_elsewhere(std::vector<pid_t> roots, int socket, pid_t except, int except_fd);

}  // namespace towpath
