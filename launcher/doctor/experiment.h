// The supervisor's mechanisms, tried for real: a process puts itself under our filter with the product's own
// trap::enter() and connects; another one, its parent, does to that call what the agent would do.
#pragma once

#include <string>

#include <sys/types.h>

#include "trap/enter.h"

namespace towpath::doctor {

// Errno of each step, 0 where it worked; -1 where it was not reached.
struct Findings {
  int error = -1;  // the experiment itself: a fork, a change of user
  trap::Step step = trap::Step::entered;
  int filter = -1;
  int notification = -1;  // the call was stopped and shown
  int inject = -1;        // ADDFD: a descriptor of ours, used by the program
  int take = -1;          // pidfd_getfd
  int memory = -1;        // process_vm_readv
  int descriptors = -1;   // /proc/PID/fd, which `births` leans on
  bool births = false;    // the filter stops socket() as well, since pidfd_getfd is refused
  bool wakes_sync = false;

  [[nodiscard]] bool works() const noexcept {
    return filter == 0 && notification == 0 && inject == 0 && memory == 0 && (births ? descriptors == 0 : take == 0);
  }
};

// Each as a user of that id, after setuid(2) where it is another than ours. No longer than ten seconds; touches
// nothing but processes of its own.
[[nodiscard]] Findings try_supervision(uid_t supervisor, uid_t program);

// Is the flag SECCOMP_FILTER_FLAG_* known to this kernel? Installs nothing.
[[nodiscard]] bool knows_filter_flag(unsigned long flag) noexcept;

struct PreloadFindings {
  int error = 0;       // errno: the experiment itself
  bool asked = false;  // a hook of the library turned to its agent
  std::string said;    // the first line that the loader or the shell wrote
};

// Lets `shell` execute something static, with `library` in LD_PRELOAD: the library's exec hook does not let that go
// without its agent. Needs /proc.
[[nodiscard]] PreloadFindings try_preload(const std::string& shell, const std::string& library,
                                          const std::string& self);

}  // namespace towpath::doctor
