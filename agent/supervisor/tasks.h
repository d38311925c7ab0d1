// Looking into the program that made a call: its descriptors, its memory, what kind of program it is.
//
// Everything here may fail because the program is gone, or because it belongs to another user and this process lacks
// CAP_SYS_PTRACE (EPERM). What memory holds can change at any time: whatever is judged is read once.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <sys/types.h>

#include "base/unique_fd.h"
#include "proto/wire.h"

namespace towpath {

class Tasks {
 public:
  // The process of a thread; 0 with errno set when it is gone or cannot be seen.
  [[nodiscard]] pid_t process_of(pid_t tid);
  // The same open file as the thread's descriptor (pidfd_getfd); an empty one with errno set.
  [[nodiscard]] UniqueFd take_descriptor(pid_t tid, int number);
  // A Go program waits through epoll only, so that its sockets can be gated while it goes on.
  [[nodiscard]] bool is_go(pid_t process);

 private:
  // What it executes.
  struct Process {
    std::uint64_t device = 0, inode = 0;
    bool go = false;
  };
  static constexpr std::size_t most_threads = 8192;
  static constexpr std::size_t most_processes = 8192;

  std::unordered_map<pid_t, pid_t> threads_;  // to their process; checked at every use
  std::unordered_map<pid_t, Process> processes_;
  bool threads_have_pidfds_ = true;
};

// Errno, or 0. All or nothing.
[[nodiscard]] int read_memory(pid_t tid, std::uint64_t from, void* to, std::size_t size) noexcept;
[[nodiscard]] int write_memory(pid_t tid, std::uint64_t to, const void* from, std::size_t size) noexcept;

// Everything that serving a process takes but cannot be tried on a call of its own yet: reading its memory, its list of
// descriptors, receiving what is shown. Errno, or 0.
[[nodiscard]] int look_into(pid_t process, const wire::LookAsk& at, const wire::Token& token) noexcept;

// The inode of the socket that the thread has at that number; 0 with errno set: ENOENT, ENOTSOCK, EACCES.
[[nodiscard]] std::uint64_t socket_inode(pid_t tid, int number) noexcept;
[[nodiscard]] std::uint64_t socket_inode(int own_descriptor) noexcept;

// Is it a UNIX domain socket of that thread's network namespace? Reads the whole list of them.
[[nodiscard]] bool is_unix_socket(pid_t tid, std::uint64_t inode);

// Is a signal waiting that would interrupt the thread's call if it were an ordinary one?
[[nodiscard]] bool signal_waits(pid_t tid) noexcept;

}  // namespace towpath
