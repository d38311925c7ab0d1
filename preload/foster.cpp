#include "preload/foster.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/sys.h"

namespace towpath {

namespace {

constinit std::atomic<int> foster_parent{0};

// What the child tells: the memory that it shares with its own child is a copy of ours.
struct Told {
  void (*become)(void*);
  void* context;
};

// A line of /proc/self/maps, as far as it matters.
struct Mapping {
  std::uintptr_t begin = 0, end = 0;
  bool of_a_file = false;
};

// Gives back what was the program's: its heap, its threads' stacks. Files stay (they cost nothing), so does the stack
// we are on, and the thread control block: the kernel itself writes there (rseq) and ends a process that has none any
// more. From here on nothing may be called but the kernel: libc's own data is gone.
[[gnu::noinline]] void shed_memory() noexcept {
  char text[2048];
  const auto here = reinterpret_cast<std::uintptr_t>(&text);
  const auto thread = reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
  const long maps = sys::call(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY);
  if (maps < 0) return;
  Mapping line;
  std::uintptr_t number = 0;
  int field = 0;
  bool special = false;
  for (long size; (size = sys::call(SYS_read, maps, text, sizeof text)) > 0;) {
    for (long i = 0; i < size; ++i) {
      const char c = text[i];
      if (c == '\n') {
        const auto has = [&](std::uintptr_t address) { return address >= line.begin && address < line.end; };
        const bool wanted = line.of_a_file || special || has(here) || has(thread);
        if (!wanted) sys::call(SYS_munmap, line.begin, line.end - line.begin);
        line = {};
        number = 0;
        field = 0;
        special = false;
      } else if (field == 0 && c == '-') {
        line.begin = number;
        number = 0;
      } else if (c == ' ') {
        if (field == 0) line.end = number;
        ++field;
      } else if (field == 0) {
        number = number * 16 + static_cast<std::uintptr_t>(c <= '9' ? c - '0' : c - 'a' + 10);
      } else if (field == 4 && c != '0') {
        line.of_a_file = true;  // its inode
      } else if (field > 4 && (c == 'v' || c == 's')) {
        special = true;  // [vdso], [vvar], [vsyscall], [stack]; the heap has no such letter
      }
    }
  }
  sys::call(SYS_close, maps);
}

[[noreturn]] __attribute__((noinline)) void stay(const Told& told) noexcept {
  if (sys::raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD) == 0) {
    told.become(told.context);
    for (;;) sys::call(SYS_exit_group, 127);
  }
  sys::call(SYS_prctl, PR_SET_NAME, "towpath-foster", 0, 0, 0);
  sys::call(SYS_prctl, PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  sys::call(SYS_close_range, 0, ~0u, 0);
  sys::call(SYS_chdir, "/");
  shed_memory();
  for (long reaped = 0; reaped >= 0 || reaped == -EINTR;) reaped = sys::call(SYS_wait4, -1, 0, 0, 0);
  for (;;) sys::call(SYS_exit_group, 0);
}

}  // namespace

bool adopts_orphans() noexcept {
  int subreaper = 0;
  return sys::call(SYS_getpid) == 1 ||
         (sys::call(SYS_prctl, PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0) == 0 && subreaper != 0);
}

void start_fostered(void (*become)(void*), void* context) noexcept {
  // The one before has ended together with its agent, or will: no wait of the program's ever takes it away.
  if (const int old = foster_parent.exchange(0); old != 0) sys::call(SYS_wait4, old, 0, __WALL | WNOHANG, 0);
  const Told told{become, context};
  const long pid = sys::raw(SYS_clone, 0);
  if (pid == 0) stay(told);
  if (pid > 0) foster_parent.store(static_cast<int>(pid));
}

}  // namespace towpath
