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
static void* by_name(const char* name) {
#define ROW(function) \
  { #function, (void*)(function) }
  static const struct {
    const char* name;
    void* address;
  } known[] = {
      ROW(accept),      ROW(accept4),    ROW(alarm),       ROW(bind),         ROW(close),         ROW(connect),
      ROW(dup),         ROW(dup2),       ROW(dup3),        ROW(epoll_create), ROW(epoll_create1), ROW(epoll_ctl),
      ROW(epoll_pwait), ROW(epoll_wait), ROW(execve),      ROW(fcntl),        ROW(free),          ROW(getpeername),
      ROW(getpid),      ROW(getppid),    ROW(getsockname), ROW(getsockopt),   ROW(kill),          ROW(listen),
      ROW(malloc),      ROW(memset),     ROW(open),        ROW(pipe),         ROW(poll),          ROW(ppoll),
      ROW(prctl),       ROW(pselect),    ROW(read),        ROW(readv),        ROW(recv),          ROW(recvfrom),
      ROW(recvmmsg),    ROW(recvmsg),    ROW(select),      ROW(send),         ROW(sendfile),      ROW(sendmmsg),
      ROW(sendmsg),     ROW(sendto),     ROW(setitimer),   ROW(setns),        ROW(setsockopt),    ROW(shutdown),
      ROW(socket),      ROW(socketpair), ROW(syscall),     ROW(unshare),      ROW(write),         ROW(writev)};
#undef ROW
  for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
    if (strcmp(known[i].name, name) == 0) return known[i].address;
  return NULL;
}
#else
static void* by_name(const char* name) { return dlsym(RTLD_DEFAULT, name); }
#endif
