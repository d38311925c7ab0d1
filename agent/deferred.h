// The epoll registrations that a program makes for a socket in a handshake. They take effect when the handshake is
// over, in the program's own epoll set, under the program's own descriptor number.
//
// The kernel keys a registration by (open file, number), so the agent has only to hold the socket at the same number
// while it calls epoll_ctl; afterwards the program can change and delete it as its own
// (tests/platform/foreign_epoll.c).
#pragma once

#include <vector>

#include <sys/types.h>

#include "base/unique_fd.h"
#include "proto/wire.h"

namespace towpath {

class DeferredRegistrations {
 public:
  static constexpr std::size_t most = 64;  // per socket

  // `bell`: a descriptor that hangs up when this process dies; it stands in for the socket meanwhile. -1: none.
  explicit DeferredRegistrations(int bell);

  // epoll_ctl of process `pid` on a socket in a handshake: 0 or the errno that the kernel would give.
  // `check`: nobody tells us when the program gives up a number, so that it is looked at before the registration is
  // made.
  [[nodiscard]] int apply(pid_t pid, int operation, const wire::Registration& asked, UniqueFd epoll,
                          bool check = false);
  // The program did not get to know of an EPOLL_CTL_ADD.
  void take_back(pid_t pid, const wire::Registration& made);
  // Registrations made before connect, still in force in the program's sets: takes them out of there.
  void withdraw(pid_t pid, int socket, const wire::Registration& made, UniqueFd epoll);
  // The program gives up that number of the socket.
  void forget(pid_t pid, int fd) noexcept;
  // Makes them all real, once.
  void release(int socket);

 private:
  struct Entry {
    pid_t pid;
    wire::Registration wanted;
    UniqueFd epoll;
    bool check = false;
  };
  Entry* find(pid_t pid, const wire::Registration& key) noexcept;

  void stand_in(const Entry& entry, int operation) const noexcept;
  static void make_real(const Entry& entry, int socket) noexcept;

  int bell_;
  std::vector<Entry> entries_;
};

// True when the descriptor is an epoll set.
[[nodiscard]] bool is_epoll_set(int fd) noexcept;

}  // namespace towpath
