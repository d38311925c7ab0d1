// Fact: the listener can be told to wake the supervisor on the caller's CPU (SYNC_WAKE_UP); flags that it does not know
// are refused with EINVAL, and calls are answered as before. Where the kernel does not have it the first is refused,
// too. Leans on it: the supervisor's latency on more than one CPU. Since 6.6.
#include "tests/platform/notify.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#endif

int main(void) {
  begin();
  const int listener = trap(0);
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) != 0)
    leave(cannot_be_shown, "the kernel is older: %m");
  expect(ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1UL << 40) == -1 && errno == EINVAL, "an unknown flag: %m");
  const pid_t child = start_child();
  if (child == 0) {
    for (int i = 0; i < 100; ++i) expect(trapped_call() == i, "the call: %m");
    return holds;
  }
  for (int i = 0; i < 100; ++i) expect(answered(listener, received(listener).id, i, 0) == 0, "SEND: %m");
  finish_child(child);
  return holds;
}
