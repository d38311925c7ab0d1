// Where a program's socket waits for its verdict without anybody's help: a listener whose queue is full drops every
// SYN, so that a socket connected to it stays in SYN_SENT. The kernel itself shows it as not ready, whatever the
// program waits with. On the verdict a socket of ours comes from the listener's port and connects to the program's: a
// simultaneous open, and what the program sees is a connect that took its time (tests/platform/quiet_door.c).
//
// Nothing is ever accepted here: who comes uninvited waits until the kernel or its program gives up. Only sockets of
// this process's user can share the port.
#pragma once

#include <optional>

#include "base/endpoint.h"
#include "base/unique_fd.h"

namespace towpath {

class QuietDoor {
 public:
  struct Stand {
    Endpoint door;  // what the program's socket is connecting to
    Endpoint own;   // and from where
  };

  // Connects a program's non-blocking socket to the door of its family. Nothing: it cannot wait there, and is as it
  // was.
  [[nodiscard]] std::optional<Stand> take_in(int socket, int domain, bool v6_only);
  // A socket of ours that is connecting to the one at `stand`; empty with errno set.
  [[nodiscard]] static UniqueFd meet(const Stand& stand);

  // A door of an agent before this one. Whoever waits there waits in vain and is reset; the port stays ours, so that
  // nobody else can be found there.
  void adopt(UniqueFd listener);
  // The listeners that are open, -1 where there is none.
  [[nodiscard]] int v4() const noexcept { return v4_.fd.get(); }
  [[nodiscard]] int v6() const noexcept { return v6_.fd.get(); }

 private:
  struct Door {
    UniqueFd fd, filler;  // the connection that fills the queue
    Endpoint address;
    bool tried = false;
  };
  Door* door_for(int socket, int domain, bool v6_only);
  static bool open(Door& door, int domain);

  Door v4_, v6_;
};

}  // namespace towpath
