// Which processes hold a program's socket: after fork one that closes it must not end what another still uses.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace towpath {

// Sees one descriptor: its number as text and what /proc says it leads to. False ends the walk.
using SeeDescriptor = std::function<bool(pid_t process, std::string_view number, std::string_view link)>;

enum class Walk : unsigned char { complete, stopped, incomplete };

// Every descriptor of every process of the trees below `roots`, without this process's own. Incomplete: there were more
// processes than that, or some that we may not look into.
[[nodiscard]] Walk walk_descriptors(std::vector<pid_t> roots, std::size_t most_processes, const SeeDescriptor& see);

// Does a process of the trees below `roots` hold `socket`, other than `except` under the number `except_fd` and other
// than this process? What cannot be found out counts as yes: an attempt that nobody wants ends by itself.
[[nodiscard]] bool held_elsewhere(std::vector<pid_t> roots, int socket, pid_t except, int except_fd);

}  // namespace towpath
