// Which sockets of this process may be in a handshake. Everybody's handshakes stand in the page; a hook that asked the
// kernel whose a descriptor is whenever there is one would make system calls that the program did not ask for, and a
// process in a sandbox dies of them. So a process looks only while one of its own may be pending: what it (or the
// process it was forked from) connected, what it was executed with, what came by descriptor passing.
#pragma once

#include <cstdint>

#include <sys/socket.h>

namespace towpath {

// For the time in which the agent is asked about a connect of the socket `cookie`; afterwards its page entry counts.
class OwnConnect {
 public:
  explicit OwnConnect(std::uint64_t cookie) noexcept;
  ~OwnConnect();
  OwnConnect(const OwnConnect&) = delete;
  OwnConnect& operator=(const OwnConnect&) = delete;

 private:
  std::uint64_t cookie_;
  int slot_;
};

// A socket that came through exec.
void note_inherited(std::uint64_t cookie) noexcept;
// After a receive by the program: descriptors may have come along.
void note_received(const msghdr& message) noexcept;

// One or two loads; false nearly always.
bool own_pending() noexcept;

}  // namespace towpath
