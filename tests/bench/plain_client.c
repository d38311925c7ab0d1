// An ordinary program: it looks a name up and connects, and has never heard of a proxy.
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"

static struct target target;
static struct addrinfo found;
static struct sockaddr_storage address;

void look_up(void) {
  char port[8];
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo* list;
  snprintf(port, sizeof port, "%u", target.port);
  const int error = getaddrinfo(target.name, port, &hints, &list);
  if (error != 0) {
    fprintf(stderr, "%s: %s\n", target.name, gai_strerror(error));
    exit(1);
  }
  found = *list;
  memcpy(&address, list->ai_addr, list->ai_addrlen);
  freeaddrinfo(list);
}

int prepare(int count, char** words, struct target to) {
  (void)count, (void)words;
  target = to;
  look_up();
  return 0;
}

int dial(void) {
  const int fd = socket(found.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&address, found.ai_addrlen) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

int dial_begin(struct dialling* d) {
  d->fd = socket(found.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (d->fd < 0) return -1;
  if (connect(d->fd, (struct sockaddr*)&address, found.ai_addrlen) == 0) return 0;
  return errno == EINPROGRESS ? EPOLLOUT : -1;
}

int dial_go_on(struct dialling* d) {
  int error = 0;
  socklen_t size = sizeof error;
  if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return -1;
  if (error == 0) return 0;
  errno = error;
  return -1;
}
