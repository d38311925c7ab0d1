// What the programs about seccomp user notification share. The call that is trapped is acct: nobody else makes it.
#pragma once

#include "tests/platform/fact.h"

#include <fcntl.h>
#include <stddef.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

// From here on acct is trapped in this process and in its children. The listener.
static inline int trap(unsigned long flags) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_acct, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
  expect(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs: %m");
  const long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &program);
  if (fd == -1 && errno == EBUSY) leave(cannot_be_shown, "somebody above us has the listener of this tree");
  if (fd == -1) leave(cannot_be_shown, "no seccomp listener with these flags here: %m");
  return (int)fd;
}

static inline long trapped_call(void) { return syscall(SYS_acct, NULL); }

// The next notification's number and the thread it comes from.
static inline struct seccomp_notif received(int listener) {
  struct seccomp_notif notification;
  memset(&notification, 0, sizeof notification);
  expect(becomes_ready(listener, POLLIN), "no notification comes");
  expect(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0, "RECV: %m");
  return notification;
}

// 0, or errno.
static inline int answered(int listener, uint64_t id, int64_t value, int error) {
  struct seccomp_notif_resp response = {.id = id, .val = value, .error = error};
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0 ? 0 : errno;
}

static inline bool valid(int listener, uint64_t id) { return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0; }

// 0 and the number in the other process, or errno.
static inline int added(int listener, uint64_t id, int fd, int* number) {
  struct seccomp_notif_addfd add = {
      .id = id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (uint32_t)fd, .newfd_flags = O_CLOEXEC};
  *number = ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
  return *number >= 0 ? 0 : errno;
}
