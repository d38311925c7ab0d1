// What the programs of this folder share: how one tells what it saw, children that cannot outlive it, and the sockets
// that most of them begin with. Whatever fails here ends the program. Waits for what must happen have a deadline that
// only a fact that does not hold reaches.
#pragma once

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { holds = 0, does_not_hold = 1, cannot_be_shown = 77, patience_ms = 10000, patience_s = 40 };

__attribute__((format(printf, 2, 3), noreturn)) static inline void leave(int status, const char* format, ...) {
  va_list values;
  va_start(values, format);
  vprintf(format, values);
  va_end(values);
  printf("\n");
  exit(status);
}

// What was seen instead, with %m for errno, is told only when `as_expected` is false.
#define expect(as_expected, ...)                           \
  do {                                                     \
    if (!(as_expected)) leave(does_not_hold, __VA_ARGS__); \
  } while (false)

// First in main. Whoever started us may have left signals blocked or ignored.
static inline void begin(void) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGCHLD, SIG_DFL);
  signal(SIGALRM, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  alarm(patience_s);
}

// fork, for a child that dies with us.
static inline pid_t start_child(void) {
  const pid_t parent = getpid(), child = fork();
  expect(child != -1, "fork: %m");
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(patience_s);
  if (getppid() != parent) _exit(does_not_hold);
  return 0;
}

// The child has told already what it saw.
static inline void finish_child(pid_t child) {
  int status;
  expect(waitpid(child, &status, 0) == child, "waitpid: %m");
  if (!WIFEXITED(status)) leave(does_not_hold, "a child ended by signal %d", WTERMSIG(status));
  if (WEXITSTATUS(status) != holds) exit(WEXITSTATUS(status));
}

static inline bool becomes_ready(int fd, short events) {
  struct pollfd one = {.fd = fd, .events = events};
  return poll(&one, 1, patience_ms) == 1;
}

// Until the process sleeps in a system call; the caller knows which.
static inline void wait_until_asleep(pid_t pid) {
  char path[64], line[256], state = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  for (int looks = 0; looks < patience_ms && state != 'S' && state != 'Z'; ++looks) {
    FILE* file = fopen(path, "re");
    expect(file != NULL, "%s: %m", path);
    const char* name_end = fgets(line, sizeof line, file) != NULL ? strrchr(line, ')') : NULL;
    fclose(file);
    state = name_end != NULL ? name_end[2] : 0;
    if (state != 'S' && state != 'Z') poll(NULL, 0, 1);
  }
  expect(state == 'S', "process %d is not asleep: state %c", pid, state);
}

static inline void say(int fd, char byte) { expect(write(fd, &byte, 1) == 1, "write: %m"); }

static inline char hear(int fd) {
  char byte;
  expect(becomes_ready(fd, POLLIN), "the other process says nothing");
  expect(read(fd, &byte, 1) == 1, "the other process is gone");
  return byte;
}

static inline void make_pair(int type, int ends[2]) {
  expect(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0, "socketpair: %m");
}

enum { most_descriptors = 2 };

static inline void send_descriptors(int to, const int* fds, size_t count) {
  union {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int) * most_descriptors)];
  } control = {.room = {0}};
  struct iovec data = {"d", 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control};
  message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  control.head.cmsg_level = SOL_SOCKET;
  control.head.cmsg_type = SCM_RIGHTS;
  control.head.cmsg_len = CMSG_LEN(sizeof(int) * count);
  memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * count);
  expect(sendmsg(to, &message, MSG_NOSIGNAL) == 1, "sendmsg with descriptors: %m");
}

static inline void receive_descriptors(int from, int* fds, size_t count) {
  union {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int) * most_descriptors)];
  } control = {.room = {0}};
  char byte;
  struct iovec data = {&byte, 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control};
  message.msg_controllen = sizeof control;
  expect(becomes_ready(from, POLLIN) && recvmsg(from, &message, MSG_CMSG_CLOEXEC) == 1, "no message: %m");
  expect(message.msg_controllen != 0 && control.head.cmsg_len == CMSG_LEN(sizeof(int) * count), "no descriptors came");
  memcpy(fds, CMSG_DATA(&control.head), sizeof(int) * count);
}

struct place {
  struct sockaddr_storage address;
  socklen_t size;
};

// connect's errno, 0 when it says 0.
static inline int dial(int fd, const struct place* to) {
  return connect(fd, (const struct sockaddr*)&to->address, to->size) == 0 ? 0 : errno;
}

static inline int tcp_socket(int domain, int flags) {
  const int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  expect(fd != -1, "socket: %m");
  return fd;
}

// Bound to a port of loopback that the kernel chooses; listens unless backlog is negative. -1: there is no ::1.
static inline int bound_socket(int domain, int backlog, struct place* at) {
  *at = (struct place){.size = domain == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)};
  at->address.ss_family = (sa_family_t)domain;
  if (domain == AF_INET6) ((struct sockaddr_in6*)&at->address)->sin6_addr = in6addr_loopback;
  if (domain == AF_INET) ((struct sockaddr_in*)&at->address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0), route = socket(domain, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool usable = fd != -1 && bind(fd, (struct sockaddr*)&at->address, at->size) == 0 &&
                      getsockname(fd, (struct sockaddr*)&at->address, &at->size) == 0 && dial(route, at) == 0;
  if (!usable && domain == AF_INET) leave(cannot_be_shown, "127.0.0.1 cannot be used here: %m");
  close(route);
  if (!usable) {
    close(fd);
    return -1;
  }
  expect(backlog < 0 || listen(fd, backlog) == 0, "listen: %m");
  return fd;
}

static inline int listener(struct place* at) { return bound_socket(AF_INET, 16, at); }

static inline int accepted(int from) {
  expect(becomes_ready(from, POLLIN), "nobody connects");
  const int fd = accept4(from, NULL, NULL, SOCK_CLOEXEC);
  expect(fd != -1, "accept: %m");
  return fd;
}

// A listener whose queue is full: a SYN that comes now gets no answer, as from a black hole. Whoever accepts the one
// connection in the queue opens it again, for the SYN that TCP repeats after a second.
static inline int full_listener(struct place* at) {
  const int fd = bound_socket(AF_INET, 0, at);
  expect(dial(tcp_socket(AF_INET, 0), at) == 0, "connect: %m");
  expect(becomes_ready(fd, POLLIN), "the connection does not reach the queue");
  return fd;
}

static inline int socket_error(int fd) {
  int error = -1;
  socklen_t size = sizeof error;
  expect(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0, "SO_ERROR: %m");
  return error;
}

static inline uint64_t cookie_of(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) leave(cannot_be_shown, "no SO_COOKIE: %m");
  return cookie;
}
