// Fact: an orphan becomes the child of the nearest ancestor that is a child subreaper, at once when its parent ends;
// when that one dies, of the next. PR_SET_CHILD_SUBREAPER is not inherited.
// Leans on it: launcher/processes.h (the program outlives an agent that dies, as a child of P). Since 3.4.
#include "tests/platform/fact.h"

#include <fcntl.h>

// P is main; A, its child, is a subreaper as well; B, A's child, is none and ends first; C, B's child, is the orphan.
static _Noreturn void be_c(int asked) {
  alarm(patience_s);
  for (;;) {
    char byte;
    if (read(asked, &byte, 1) != 1) _exit(holds);
    const pid_t parent = getppid();
    if (write(asked, &parent, sizeof parent) != sizeof parent) _exit(does_not_hold);
  }
}

static pid_t parent_of_c(int ask) {
  pid_t parent;
  say(ask, '?');
  expect(becomes_ready(ask, POLLIN) && read(ask, &parent, sizeof parent) == sizeof parent, "C does not answer");
  return parent;
}

static _Noreturn void be_a(int ask, int asked, int p) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t b = start_child();
  if (b == 0) {
    int inherited = -1;
    prctl(PR_GET_CHILD_SUBREAPER, &inherited);
    expect(inherited == 0, "the attribute was inherited");
    const pid_t c = fork();
    expect(c != -1, "fork: %m");
    if (c != 0) _exit(holds);
    close(ask);
    close(p);
    be_c(asked);
  }
  close(asked);
  finish_child(b);
  const pid_t parent = parent_of_c(ask);
  expect(parent == getpid(), "the orphan's parent is %d, not the nearest subreaper %d", parent, getpid());
  say(p, 'a');
  for (;;) pause();
}

int main(void) {
  begin();
  int ends[2], from_a[2], status;
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) leave(cannot_be_shown, "no subreapers: %m");
  make_pair(SOCK_STREAM, ends);
  expect(pipe2(from_a, O_CLOEXEC) == 0, "pipe2: %m");
  const pid_t a = start_child();
  if (a == 0) be_a(ends[0], ends[1], from_a[1]);
  close(ends[1]);
  close(from_a[1]);
  hear(from_a[0]);
  kill(a, SIGKILL);
  expect(waitpid(a, &status, 0) == a && WIFSIGNALED(status), "A does not die: %#x", status);
  const pid_t parent = parent_of_c(ends[0]);
  expect(parent == getpid(), "after that the parent is %d, not the next subreaper %d", parent, getpid());
  close(ends[0]);
  const pid_t c = waitpid(-1, &status, 0);
  expect(c > 0 && status == holds, "C cannot be reaped: %d, %#x", c, status);
  return holds;
}
