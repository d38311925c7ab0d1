// Fact: a child made by clone(CLONE_VM | CLONE_VFORK) with exit signal 0 raises no SIGCHLD and is invisible to a
// program that waits for any child; only __WCLONE and __WALL see it. exec gives it SIGCHLD back.
// Leans on it: preload/standalone.cpp (step_between). Since 2.4.
#include "tests/platform/fact.h"

#include <sched.h>

static char* const again[] = {"clone_silent", "again", NULL};

static int ends_at_once(void* unused) {
  (void)unused;
  _exit(3);
}

static int executes(void* unused) {
  (void)unused;
  execv("/proc/self/exe", again);
  _exit(cannot_be_shown);
}

// What the program sees of a child that has ended and that nobody has reaped.
struct view {
  bool signalled;
  pid_t any_child;
  int any_child_errno;
};

static struct view look_at_end_of(int (*child)(void*), int* status) {
  static char stack[64 * 1024] __attribute__((aligned(16)));
  const pid_t pid = clone(child, stack + sizeof stack, CLONE_VM | CLONE_VFORK, NULL);
  expect(pid != -1, "clone: %m");
  siginfo_t end;
  expect(waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT | __WALL) == 0, "waitid(__WALL): %m");
  struct view out = {0};
  sigset_t waiting;
  sigpending(&waiting);
  out.signalled = sigismember(&waiting, SIGCHLD) == 1;
  out.any_child = waitpid(-1, status, WNOHANG);
  out.any_child_errno = out.any_child == -1 ? errno : 0;
  if (out.any_child != pid) expect(waitpid(pid, status, __WALL) == pid, "waitpid(__WALL): %m");
  return out;
}

int main(int count, char** arguments) {
  (void)arguments;
  if (count > 1) return 4;
  begin();
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, NULL);  // and not ignored: a blocked one stays pending
  int status = 0;

  struct view seen = look_at_end_of(ends_at_once, &status);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 3, "the child ends with %#x", status);
  expect(!seen.signalled, "SIGCHLD was raised");
  expect(seen.any_child == -1 && seen.any_child_errno == ECHILD, "wait(-1) sees %d, error %d", seen.any_child,
         seen.any_child_errno);

  seen = look_at_end_of(executes, &status);
  expect(WIFEXITED(status) && WEXITSTATUS(status) == 4, "the child that executes ends with %#x", status);
  expect(seen.signalled && seen.any_child > 0, "a child that executes stays silent: signal %d, wait(-1) %d",
         seen.signalled, seen.any_child);
  return holds;
}
