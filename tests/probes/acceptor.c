/* A server in every style of accepting: acceptor STYLE ADDRESS PORT [OPTION...]
 *
 *   block     one thread, blocking accept                 threads   eight of them on one listener
 *   lt et     epoll, level- or edge-triggered             poll      poll, then one blocking accept
 *   select    select, then one accept                     prefork   four processes, blocking accept on one listener
 *   shared    four processes, EPOLLEXCLUSIVE on one set each
 *   reuseport four processes with a listener each
 *
 *   greet     speaks first          null      accept without room for an address
 *   short     16 bytes of room      v6only    IPV6_V6ONLY
 *   syscall   through syscall()     defer     TCP_DEFER_ACCEPT
 *   keep      one line after the other on a connection, each answered
 *
 * Prints `port=N` when it listens. Each line of a client is answered by one line: what accept, getpeername and
 * SO_PEERNAME say and what came: `accept=A peer=B name=C own=D pid=P data=LINE`; then the connection ends. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1u << 28)
#endif

static int greet, no_room, short_room, by_syscall, keep;

static void fail(const char* what) {
  perror(what);
  exit(1);
}

static void text(const struct sockaddr_storage* from, char* out, size_t size) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (from->ss_family == AF_INET6) {
    const struct sockaddr_in6* in = (const void*)from;
    inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
    if (in->sin6_scope_id) snprintf(out, size, "[%s%%%u]:%d", host, in->sin6_scope_id, ntohs(in->sin6_port));
    else snprintf(out, size, "[%s]:%d", host, ntohs(in->sin6_port));
  } else if (from->ss_family == AF_INET) {
    const struct sockaddr_in* in = (const void*)from;
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    snprintf(out, size, "%s:%d", host, ntohs(in->sin_port));
  } else {
    snprintf(out, size, "family%d", from->ss_family);
  }
}

struct client {
  int fd;
  char accepted[80];
};

static int answer(struct client* one, const char* line) {
  char peer[80] = "-", name[80] = "-", own[80] = "-", out[1024];
  struct sockaddr_storage at = {0};
  socklen_t size = sizeof at;
  if (getpeername(one->fd, (struct sockaddr*)&at, &size) == 0) text(&at, peer, sizeof peer);
  memset(&at, 0, sizeof at);
  size = strchr(peer, '[') ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
#ifdef SO_PEERNAME
  if (getsockopt(one->fd, SOL_SOCKET, SO_PEERNAME, &at, &size) == 0) text(&at, name, sizeof name);
#endif
  memset(&at, 0, sizeof at);
  size = sizeof at;
  if (getsockname(one->fd, (struct sockaddr*)&at, &size) == 0) text(&at, own, sizeof own);
  int length = snprintf(out, sizeof out, "accept=%s peer=%s name=%s own=%s pid=%d data=%.300s\n", one->accepted, peer,
                        name, own, getpid(), line);
  return send(one->fd, out, (size_t)length, MSG_NOSIGNAL) == length ? 0 : -1;
}

static void* serve(void* argument) {
  struct client* one = argument;
  fcntl(one->fd, F_SETFL, fcntl(one->fd, F_GETFL) & ~O_NONBLOCK);
  if (greet) answer(one, "hello");
  char line[512];
  size_t used = 0;
  while (used + 1 < sizeof line) {
    ssize_t got = recv(one->fd, line + used, 1, 0);
    if (got <= 0) break;
    if (line[used] != '\n') {
      ++used;
      continue;
    }
    line[used] = 0;
    used = 0;
    answer(one, line);
    if (!keep) break;
  }
  close(one->fd);
  free(one);
  return NULL;
}

static int take(int listener, int flags) {
  struct sockaddr_storage at = {0};
  socklen_t size = short_room ? sizeof(struct sockaddr_in) : sizeof at;
  struct sockaddr* room = no_room ? NULL : (struct sockaddr*)&at;
  socklen_t* room_size = no_room ? NULL : &size;
  int fd = by_syscall ? (int)syscall(SYS_accept4, listener, room, room_size, flags)
           : flags    ? accept4(listener, room, room_size, flags)
                      : accept(listener, room, room_size);
  if (fd < 0) return -1;
  struct client* one = calloc(1, sizeof *one);
  one->fd = fd;
  snprintf(one->accepted, sizeof one->accepted, "-");
  if (!no_room) text(&at, one->accepted, sizeof one->accepted);
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  if (pthread_create(&thread, &attributes, serve, one) != 0) close(fd), free(one);
  return 0;
}

static void* accept_for_ever(void* listener) {
  for (;;)
    if (take(*(int*)listener, 0) != 0 && errno != EINTR && errno != ECONNABORTED) {
      if (errno == EMFILE || errno == ENFILE) usleep(1000);
      else fail("accept");
    }
  return NULL;
}

static void by_epoll(int listener, unsigned events) {
  fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
  int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN | events};
  if (epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) != 0) fail("epoll_ctl");
  for (;;) {
    if (epoll_wait(set, &event, 1, -1) < 0 && errno != EINTR) fail("epoll_wait");
    /* Level-triggered: one per wake-up, which is the hardest. */
    while (take(listener, SOCK_NONBLOCK) == 0 && (events & EPOLLET)) {
    }
    if (errno != EAGAIN && errno != ECONNABORTED && (events & EPOLLET)) fail("accept4");
  }
}

static void by_poll(int listener, int use_select) {
  for (;;) {
    if (use_select) {
      fd_set in;
      FD_ZERO(&in);
      FD_SET(listener, &in);
      struct timeval half = {0, 500000};
      if (select(listener + 1, &in, NULL, NULL, &half) <= 0) continue;
    } else {
      struct pollfd in = {listener, POLLIN, 0};
      if (poll(&in, 1, 500) <= 0) continue;
    }
    take(listener, 0);
  }
}

static int listen_at(const char* address, int port, int shared, int v6only, int defer) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int is_six = strchr(address, ':') != NULL, on = 1;
  inet_pton(is_six ? AF_INET6 : AF_INET, address, is_six ? (void*)&six.sin6_addr : (void*)&four.sin_addr);
  int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (is_six) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only);
  if (shared) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (defer) setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer, sizeof defer);
  if (bind(fd, is_six ? (void*)&six : (void*)&four, is_six ? sizeof six : sizeof four) != 0) fail("bind");
  if (listen(fd, 1024) != 0) fail("listen");
  return fd;
}

static int port_of(int fd) {
  struct sockaddr_in6 at;
  socklen_t size = sizeof at;
  getsockname(fd, (struct sockaddr*)&at, &size);
  return ntohs(at.sin6_port);
}

int main(int count, char** words) {
  if (count < 4) return 2;
  const char* style = words[1];
  int v6only = 0, defer = 0;
  for (int i = 4; i < count; ++i) {
    greet |= !strcmp(words[i], "greet");
    no_room |= !strcmp(words[i], "null");
    short_room |= !strcmp(words[i], "short");
    by_syscall |= !strcmp(words[i], "syscall");
    keep |= !strcmp(words[i], "keep");
    v6only |= !strcmp(words[i], "v6only");
    if (!strcmp(words[i], "defer")) defer = 1;
  }
  signal(SIGPIPE, SIG_IGN);
  int shared = !strcmp(style, "reuseport");
  int listener = listen_at(words[2], atoi(words[3]), shared, v6only, defer), port = port_of(listener);
  printf("port=%d\n", port);
  fflush(stdout);
  if (!strcmp(style, "prefork") || !strcmp(style, "shared") || shared)
    for (int i = 0; i < 3; ++i)
      if (fork() == 0) {
        if (shared) listener = listen_at(words[2], port, 1, v6only, defer);
        break;
      }
  if (!strcmp(style, "threads"))
    for (int i = 0; i < 7; ++i) {
      pthread_t thread;
      pthread_create(&thread, NULL, accept_for_ever, &listener);
    }
  if (!strcmp(style, "lt")) by_epoll(listener, 0);
  else if (!strcmp(style, "et")) by_epoll(listener, EPOLLET);
  else if (!strcmp(style, "shared")) by_epoll(listener, EPOLLEXCLUSIVE);
  else if (!strcmp(style, "poll")) by_poll(listener, 0);
  else if (!strcmp(style, "select")) by_poll(listener, 1);
  else accept_for_ever(&listener);
  return 0;
}
