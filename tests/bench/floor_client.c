// The floor: a client that speaks the proxy's protocol itself, by hand and without a wasted call.
// Its own words: http|socks5 PROXY_PORT (on 127.0.0.1).
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"

static struct sockaddr_in proxy;
static int is_socks;
static char request[512];
static size_t request_size;

void look_up(void) {}  // that is the proxy's business

int prepare(int count, char** words, struct target to) {
  if (count < 2) return -1;
  is_socks = strcmp(words[0], "socks5") == 0;
  proxy = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
  proxy.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (is_socks) {
    const size_t size = strlen(to.name);
    const char head[] = {5, 1, 0, 3, (char)size}, port[] = {(char)(to.port >> 8), (char)to.port};
    memcpy(request, head, sizeof head);
    memcpy(request + sizeof head, to.name, size);
    memcpy(request + sizeof head + size, port, sizeof port);
    request_size = sizeof head + size + sizeof port;
  } else {
    request_size = (size_t)snprintf(request, sizeof request, "CONNECT %s:%u HTTP/1.1\r\nHost: %s:%u\r\n\r\n", to.name,
                                    to.port, to.name, to.port);
  }
  return 2;
}

// The whole reply and nothing behind it: 1, 0 when it is not there yet, -1 when it is a refusal or the end.
static int take_reply(int fd, int step, int flags) {
  char reply[1024];
  ssize_t size;
  if (is_socks) {
    const size_t wanted = step == 1 ? 2 : 10;
    size = recv(fd, reply, wanted, flags | MSG_WAITALL);  // the lab's proxy sends each reply in one piece
    if (size == (ssize_t)wanted && reply[1] == 0) return 1;
  } else {
    size = recv(fd, reply, sizeof reply - 1, flags | MSG_PEEK);
    if (size > 0) {
      reply[size] = 0;
      const char* last = strstr(reply, "\r\n\r\n");
      if (last == NULL) return 0;
      size = last + 4 - reply;
      if (recv(fd, reply, (size_t)size, 0) == size && strncmp(reply + 8, " 200", 4) == 0) return 1;
    }
  }
  if (size < 0 && errno == EAGAIN) return 0;
  if (size >= 0) errno = ECONNREFUSED;
  return -1;
}

static int say(int fd, const void* bytes, size_t size) {
  return send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

int dial(void) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int step = is_socks ? 1 : 2, good = connect(fd, (struct sockaddr*)&proxy, sizeof proxy);
  for (; good == 0 && step <= 2; ++step) {
    good = step == 1 ? say(fd, "\5\1\0", 3) : say(fd, request, request_size);
    int taken = 0;
    while (good == 0 && taken == 0) taken = take_reply(fd, step, 0);
    if (taken != 1) good = -1;
  }
  if (good == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int dial_begin(struct dialling* d) {
  d->step = 0;
  d->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (d->fd < 0) return -1;
  return connect(d->fd, (struct sockaddr*)&proxy, sizeof proxy) == 0 || errno == EINPROGRESS ? EPOLLOUT : -1;
}

int dial_go_on(struct dialling* d) {
  if (d->step == 0) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return errno = error, -1;
  } else {
    const int taken = take_reply(d->fd, d->step, MSG_DONTWAIT);
    if (taken != 1) return taken == 0 ? EPOLLIN : -1;
    if (d->step == 2) return 0;
  }
  d->step = d->step == 0 && is_socks ? 1 : 2;
  const int good = d->step == 1 ? say(d->fd, "\5\1\0", 3) : say(d->fd, request, request_size);
  return good == 0 ? EPOLLIN : -1;
}
