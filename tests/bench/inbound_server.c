/* The server of the inbound rows: inbound_server [header]
 *
 * One thread, level-triggered epoll, an answer of a few bytes to every request that it reads (up to a blank line) with
 * the address that accept told: `client=A`. Keeps connections unless the request says close. With `header` it reads a
 * PROXY v1 header from the begin of every connection by itself: what a server that was written for it does at best.
 * Prints `port=N`. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
  int fd;
  int header; /* still to be read */
  size_t used;
  char client[64];
  char in[2048];
};

static int reads_header;

/* 1: there is none to wait for any more; 0: not whole; -1: bad. */
static int take_header(struct peer* one) {
  char bytes[108];
  ssize_t got = recv(one->fd, bytes, sizeof bytes - 1, MSG_PEEK | MSG_DONTWAIT);
  if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
  bytes[got] = 0;
  char* end = strstr(bytes, "\r\n");
  if (!end) return got < 107 ? 0 : -1;
  *end = 0;
  char from[64], to[64];
  int from_port, to_port;
  if (sscanf(bytes, "PROXY TCP4 %63s %63s %d %d", from, to, &from_port, &to_port) != 4) return -1;
  struct in_addr check;
  if (inet_pton(AF_INET, from, &check) != 1 || inet_pton(AF_INET, to, &check) != 1) return -1;
  if (recv(one->fd, bytes, (size_t)(end - bytes) + 2, MSG_DONTWAIT) != end - bytes + 2) return -1;
  snprintf(one->client, sizeof one->client, "%s", from);
  one->header = 0;
  return 1;
}

/* 0: the connection goes on. */
static int serve(struct peer* one) {
  if (one->header) {
    int state = take_header(one);
    if (state <= 0) return state;
  }
  ssize_t got = recv(one->fd, one->in + one->used, sizeof one->in - 1 - one->used, MSG_DONTWAIT);
  if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
  one->used += (size_t)got;
  one->in[one->used] = 0;
  char* end = strstr(one->in, "\r\n\r\n");
  if (!end) return one->used + 1 < sizeof one->in ? 0 : -1;
  int close_after = strstr(one->in, "Connection: close") != NULL;
  char out[256], body[80];
  int size = snprintf(body, sizeof body, "client=%s\n", one->client);
  size = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", size,
                  close_after ? "Connection: close\r\n" : "", body);
  one->used = 0;
  return send(one->fd, out, (size_t)size, MSG_NOSIGNAL) == size && !close_after ? 0 : -1;
}

int main(int count, char** words) {
  reads_header = count > 1 && !strcmp(words[1], "header");
  signal(SIGPIPE, SIG_IGN);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (bind(listener, (void*)&at, sizeof at) || listen(listener, 4096) || getsockname(listener, (void*)&at, &size))
    return 1;
  printf("port=%d\n", ntohs(at.sin_port));
  fflush(stdout);
  int set = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN}, events[64];
  epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int ready = epoll_wait(set, events, 64, -1);
    for (int i = 0; i < ready; ++i) {
      struct peer* one = events[i].data.ptr;
      if (one) {
        if (serve(one) != 0) close(one->fd), free(one);
        continue;
      }
      for (;;) {
        size = sizeof at;
        int fd = accept4(listener, (void*)&at, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) break;
        one = calloc(1, sizeof *one);
        one->fd = fd;
        one->header = reads_header;
        inet_ntop(AF_INET, &at.sin_addr, one->client, sizeof one->client);
        if (serve(one) != 0) {
          close(fd), free(one);
          continue;
        }
        event.data.ptr = one;
        epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
      }
    }
  }
}
