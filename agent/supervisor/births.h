// Where pidfd_getfd is refused (Docker's default profile), the agent makes the program's sockets and epoll sets itself
// and keeps a copy of each: the same open file from birth. It is found again by the inode in /proc/PID/fd.
//
// A copy that stays behind does harm: it keeps FIN from being sent, a port from being bound again. So it goes as soon
// as nothing more can be asked of it (the tunnel stands, a direct verdict, listen), and what the tree has closed
// without use is swept. What remains of a socket is its identity, so that getpeername can be answered.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include <sys/types.h>

#include "base/unique_fd.h"

namespace towpath {

class Births {
 public:
  struct Born {
    UniqueFd copy;  // empty: let go
    std::uint64_t cookie = 0;
    int domain = 0, type = 0;
    bool bound = false;
  };

  void add(std::uint64_t inode, Born born) { sockets_[inode] = std::move(born); }
  // Made by somebody else, and inherited.
  void adopt_listener(UniqueFd listener);
  // Null: not born here (not an INET socket, or older than the tree).
  [[nodiscard]] Born* find(std::uint64_t inode);
  void let_go(std::uint64_t inode);  // the copy
  void forget(std::uint64_t inode) { sockets_.erase(inode); }

  // The new set became the process's descriptor `number`. Its marker; 0: it could not be marked.
  std::uint64_t add_epoll(pid_t process, int number, UniqueFd copy);
  // A copy of the set behind that number; empty when it was not born here.
  [[nodiscard]] UniqueFd epoll(pid_t process, int number);

  // Lets go of what no process below `roots` holds any more. Costs a look at all their descriptors.
  void sweep(std::vector<pid_t> roots);
  // Is it time? After some births, since a sweep that found little to do will not find more at once.
  [[nodiscard]] bool wants_sweep() const noexcept { return copies() >= sweep_at_; }
  [[nodiscard]] const std::unordered_map<std::uint64_t, UniqueFd>& epolls() const noexcept { return epolls_; }
  // One that an agent before us made.
  void adopt_epoll(std::uint64_t marker, UniqueFd copy);
  [[nodiscard]] bool any_copy() const noexcept;
  [[nodiscard]] bool any_bound() const noexcept;
  [[nodiscard]] std::size_t copies() const noexcept;
  [[nodiscard]] bool empty() const noexcept { return sockets_.empty() && epolls_.empty(); }

 private:
  static constexpr std::size_t first_sweep = 512;
  static constexpr std::size_t few_epolls = 32;  // not worth a look into each

  bool mark(std::uint64_t marker, const UniqueFd& epoll);
  [[nodiscard]] static std::uint64_t marker_in(pid_t process, int number);

  std::unordered_map<std::uint64_t, Born> sockets_;     // by inode
  std::unordered_map<std::uint64_t, UniqueFd> epolls_;  // by marker
  std::map<std::pair<pid_t, int>, std::uint64_t> numbers_;
  std::uint64_t last_marker_ = 0x746f777000000000;
  UniqueFd marker_;  // never ready
  std::size_t sweep_at_ = first_sweep;
};

}  // namespace towpath
