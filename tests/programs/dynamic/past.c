/* past WAY HOW HOST PORT PATH: fetches past the symbols that a preloaded library has.
 *   deep        errand.so, opened with RTLD_DEEPBIND, as PHP opens its extensions
 *   private     errand.so in a name space of its own (dlmopen), with a libc of its own
 *   underscore  glibc's second name for connect
 *   bare        the system calls by instructions of our own, as io_uring's and Rust's libraries make them; HOW is
 *               blocking or poll
 *   ring        io_uring for the connect where there is one, and what programs fall back to where there is none */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int __connect(int fd, const struct sockaddr* address, socklen_t size);
typedef int Fetch(const char*, const char*, const char*, const char*);

static int in_plugin(void* library, char** words) {
  Fetch* const fetch = library != NULL ? (Fetch*)dlsym(library, "fetch") : NULL;
  if (fetch == NULL) return fprintf(stderr, "%s\n", dlerror()), 1;
  const int result = fetch(words[0], words[1], words[2], words[3]);
  fflush(stdout);
  return result;
}

static long instruction(long number, long a, long b, long c) {
#if defined(__x86_64__)
  long out;
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  register long r9 __asm__("r9") = 0;
  __asm__ volatile("syscall" : "=a"(out) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return out;
#else
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = 0;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}

static int by_instructions(int fd, const struct addrinfo* to, int waits) {
  long result = instruction(SYS_connect, fd, (long)to->ai_addr, to->ai_addrlen);
  if (!waits && result == -EINPROGRESS) {
    struct pollfd watched = {fd, POLLOUT, 0};
#ifdef SYS_poll
    if (instruction(SYS_poll, (long)&watched, 1, -1) != 1) return 1;
#else
    if (poll(&watched, 1, -1) != 1) return 1;
#endif
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return 1;
    result = -error;
  }
  errno = (int)-result;
  return result != 0;
}

static int by_ring(int fd, const struct addrinfo* to) {
  struct io_uring ring;
  const int error = io_uring_queue_init(4, &ring, 0);
  if (error != 0) {
    fprintf(stderr, "no ring: %s\n", strerror(-error));
    return connect(fd, to->ai_addr, to->ai_addrlen);
  }
  struct io_uring_cqe* done;
  io_uring_prep_connect(io_uring_get_sqe(&ring), fd, to->ai_addr, to->ai_addrlen);
  if (io_uring_submit_and_wait(&ring, 1) != 1 || io_uring_wait_cqe(&ring, &done) != 0) return 1;
  errno = -done->res;
  return done->res != 0;
}

int main(int argc, char** argv) {
  if (argc != 6) return 125;
  char plugin[4096];
  snprintf(plugin, sizeof plugin, "%.*serrand.so", (int)(strrchr(argv[0], '/') + 1 - argv[0]), argv[0]);
  if (strcmp(argv[1], "deep") == 0) return in_plugin(dlopen(plugin, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND), argv + 2);
  if (strcmp(argv[1], "private") == 0) return in_plugin(dlmopen(LM_ID_NEWLM, plugin, RTLD_NOW), argv + 2);
  const int waits = strcmp(argv[2], "poll") != 0;
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *to;
  if (getaddrinfo(argv[3], argv[4], &hints, &to) != 0) return fprintf(stderr, "%s: no address\n", argv[3]), 1;
  const int fd = socket(AF_INET, SOCK_STREAM | (waits ? 0 : SOCK_NONBLOCK), 0);
  int failed;
  if (strcmp(argv[1], "underscore") == 0) failed = __connect(fd, to->ai_addr, to->ai_addrlen);
  else if (strcmp(argv[1], "ring") == 0) failed = by_ring(fd, to);
  else failed = by_instructions(fd, to, waits);
  if (failed != 0) return fprintf(stderr, "%s: %s\n", argv[1], strerror(errno)), 1;
  char text[1024];
  const int length = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", argv[5], argv[3]);
  if (write(fd, text, (size_t)length) != length) return 1;
  for (struct pollfd watched = {fd, POLLIN, 0}; poll(&watched, 1, -1) == 1;) {
    const ssize_t got = read(fd, text, sizeof text);
    if (got <= 0) break;
    fwrite(text, 1, (size_t)got, stdout);
  }
  return 0;
}
