// Tells programs that wait in epoll_wait() for a handshake of ours that we have died.
//
// Beside each deferred registration the program's epoll set holds the reading end of a pipe, under the program's own
// number and data, whose writing end is in this process only: the kernel shows HUP there when we are gone, once. The
// reading end has to outlive us for that, so it lies in flight on a shelf that belongs to whoever starts agents (Kept).
#pragma once

#include <vector>

#include "agent/shelf.h"
#include "base/unique_fd.h"

namespace towpath {

class DeathBell {
 public:
  // Without a shelf, or when something fails, there is no bell.
  void hang(const Shelf& shelf);
  // What to register; -1 without a bell.
  [[nodiscard]] int ear() const noexcept { return ear_.get(); }

 private:
  UniqueFd ear_, rope_;
  std::vector<UniqueFd> rung_;  // of agents before us: programs may not have looked yet
};

}  // namespace towpath
