// Fact: a process tree has room for one seccomp user notification listener: who inherits a filter that has one gets
// EBUSY for a second. When the listener is closed, the place is free again.
// Leans on it: the supervisor, which shares the listener of its own tree and refuses below a foreign one. Since 5.0.
#include "tests/platform/fact.h"

#include <stddef.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

// Reports a call that nobody here makes. The descriptor, -1 and errno when there is none.
static int install(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

int main(void) {
  begin();
  expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %m");
  const int first = install();
  if (first == -1 && errno == EBUSY) leave(cannot_be_shown, "somebody above us has the listener of this tree");
  if (first == -1) leave(cannot_be_shown, "no seccomp listener here: %m");
  expect(install() == -1 && errno == EBUSY, "a second one in the same process: %m");
  const pid_t child = start_child();
  if (child == 0) {
    expect(install() == -1 && errno == EBUSY, "a second one in a child: %m");
    close(first);
    expect(install() == -1 && errno == EBUSY, "in a child, with its copy closed: %m");
    return holds;
  }
  finish_child(child);
  close(first);
  expect(install() != -1, "after the first was closed: %m");
  return holds;
}
