// The functions that stand behind ours: libc's, or another interposer's. The only way from a hook to libc.
#pragma once

#include <ctime>

#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// Functions that only glibc has, or that its headers declare only under conditions.
extern "C" {
int close_range(unsigned first, unsigned last, int flags) noexcept;
void closefrom(int first) noexcept;
ssize_t __read_chk(int fd, void* to, size_t size, size_t room);
ssize_t __recv_chk(int fd, void* to, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void* to, size_t size, size_t room, int flags, sockaddr* from, socklen_t* from_size);
int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room);
int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, size_t room);
}

namespace towpath {

struct Real {
#define HOOK(name) decltype(&::name) name;
#define HOOK_GLIBC(name) HOOK(name)
#define HOOK_LATE(name)
#include "preload/hooks.def"
#undef HOOK_LATE
#undef HOOK_GLIBC
#undef HOOK
  // No hook, and never called behind one.
  decltype(&::pthread_setcanceltype) pthread_setcanceltype;
};

// Bound on first use, constant from then on; a function that this libc lacks is null.
const Real& real() noexcept;

// Any other function of the program's libc, null when it has none of that name.
void* libc_symbol(const char* name) noexcept;
// What stands behind a hook that is bound late.
void* next_symbol(const char* name) noexcept;

}  // namespace towpath

#define TOWPATH_EXPORT extern "C" __attribute__((visibility("default")))
