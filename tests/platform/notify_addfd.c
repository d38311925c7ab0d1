// Fact: SECCOMP_ADDFD_FLAG_SEND puts a descriptor into the process and ends its call with the number, in one step; both
// processes then share the description. Where there is no room it fails, and the call is still there to be answered;
// for a call that is gone it fails with ENOENT. Leans on it: the supervisor where pidfd_getfd is refused: it makes the
// program's sockets and epoll sets itself. Since 5.14.
#include "tests/platform/notify.h"

#include <sys/resource.h>

int main(void) {
  begin();
  int ends[2];
  make_pair(SOCK_STREAM, ends);
  const int listener = trap(0);
  const pid_t child = start_child();
  if (child == 0) {
    const long fd = trapped_call();
    expect(fd >= 0, "the call with a descriptor: %m");
    expect(fcntl((int)fd, F_GETFD) == FD_CLOEXEC, "it is not close-on-exec");
    say((int)fd, 'a');
    say((int)fd, 'b');
    const struct rlimit none = {0, 0};
    expect(setrlimit(RLIMIT_NOFILE, &none) == 0, "setrlimit: %m");
    expect(trapped_call() == -1 && errno == EXFULL, "the call without room: %m");
    return holds;
  }
  int pair[2], number;
  make_pair(SOCK_STREAM, pair);
  struct seccomp_notif one = received(listener);
  expect(added(listener, one.id, pair[0], &number) == 0, "ADDFD: %m");
  expect(hear(pair[1]) == 'a', "what came is something else");
  close(pair[0]);
  expect(hear(pair[1]) == 'b', "the description is gone with our copy");
  expect(added(listener, one.id, pair[1], &number) == ENOENT, "ADDFD for a call that has ended: %m");
  one = received(listener);
  expect(added(listener, one.id, pair[1], &number) == EMFILE, "ADDFD without room: %m");
  expect(valid(listener, one.id), "the call is gone with the failure");
  expect(answered(listener, one.id, 0, -EXFULL) == 0, "SEND after a failed ADDFD: %m");
  finish_child(child);
  return holds;
}
