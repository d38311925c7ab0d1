// The functions that a statically linked `calls` knows by name: there is no dlsym to ask.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef CALLS_STATIC
#define NAMES(X)                                                                                                       \
  X(accept)                                                                                                            \
  X(accept4)                                                                                                           \
  X(alarm)                                                                                                             \
  X(bind)                                                                                                              \
  X(close)                                                                                                             \
  X(connect)                                                                                                           \
  X(dup) X(dup2) X(dup3) X(epoll_create) X(epoll_create1) X(epoll_ctl) X(epoll_pwait) X(epoll_wait) X(execve) X(fcntl) \
      X(free) X(getpeername) X(getpid) X(getppid) X(getsockname) X(getsockopt) X(kill) X(listen) X(malloc) X(memset)   \
          X(open) X(pipe) X(poll) X(ppoll) X(prctl) X(pselect) X(read) X(readv) X(recv) X(recvfrom) X(recvmmsg)        \
              X(recvmsg) X(select) X(send) X(sendfile) X(sendmmsg) X(sendmsg) X(sendto) X(setitimer) X(setns)          \
                  X(setsockopt) X(shutdown) X(socket) X(socketpair) X(syscall) X(unshare) X(write) X(writev)
static void* by_name(const char* name) {
  static const struct {
    const char* name;
    void* address;
  } known[] = {
#define ROW(function) {#function, (void*)(function)},
      NAMES(ROW)
#undef ROW
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
    if (strcmp(known[i].name, name) == 0) return known[i].address;
  return NULL;
}
#else
static void* by_name(const char* name) { return dlsym(RTLD_DEFAULT, name); }
#endif
