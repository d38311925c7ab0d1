/* A plug-in that fetches over HTTP/1.0 with its own libc's functions: fetch(HOW, HOST, PORT, PATH), HOW is blocking,
 * poll, select, epoll (edge triggered, registered before connect) or ask (getaddrinfo_a). Whoever loads it says how its
 * symbols are bound (past.c). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

int fetch(const char* how, const char* host, const char* port, const char* path);

static int complain(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  return 1;
}

static struct addrinfo* look_up(const char* how, const char* host, const char* port) {
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
  struct gaicb asked = {.ar_name = host, .ar_service = port, .ar_request = &hints}, *list[] = {&asked};
  if (strcmp(how, "ask") != 0) return getaddrinfo(host, port, &hints, &found) == 0 ? found : NULL;
  return getaddrinfo_a(GAI_WAIT, list, 1, NULL) == 0 && gai_error(&asked) == 0 ? asked.ar_result : NULL;
}

static int wait_for(const char* how, int fd, int set) {
  struct epoll_event event;
  struct pollfd watched = {fd, POLLOUT, 0};
  fd_set writable;
  FD_ZERO(&writable);
  FD_SET(fd, &writable);
  if (strcmp(how, "select") == 0) return select(fd + 1, NULL, &writable, NULL, NULL);
  if (strcmp(how, "epoll") == 0) return epoll_wait(set, &event, 1, -1);
  return poll(&watched, 1, -1);
}

int fetch(const char* how, const char* host, const char* port, const char* path) {
  const int waits = strcmp(how, "blocking") == 0 || strcmp(how, "ask") == 0;
  struct addrinfo* const found = look_up(how, host, port);
  if (found == NULL) return fprintf(stderr, "%s: no address\n", host), 1;
  const int fd = socket(AF_INET, SOCK_STREAM | (waits ? 0 : SOCK_NONBLOCK), 0), set = epoll_create1(0);
  struct epoll_event wanted = {.events = EPOLLOUT | EPOLLIN | EPOLLET};
  if (strcmp(how, "epoll") == 0 && epoll_ctl(set, EPOLL_CTL_ADD, fd, &wanted) != 0) return complain("epoll_ctl");
  if (strcmp(how, "epoll") == 0) epoll_wait(set, &wanted, 1, 0); /* "hung up", as every fresh socket */
  if (connect(fd, found->ai_addr, found->ai_addrlen) != 0 && (waits || errno != EINPROGRESS)) return complain("connect");
  int error = 0;
  socklen_t size = sizeof error;
  if (!waits && wait_for(how, fd, set) != 1) return complain(how);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || (errno = error) != 0) return complain("SO_ERROR");
  char text[1024];
  const int length = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path, host);
  if (write(fd, text, (size_t)length) != length) return complain("write");
  for (struct pollfd watched = {fd, POLLIN, 0}; poll(&watched, 1, -1) == 1;) {
    const ssize_t got = read(fd, text, sizeof text);
    if (got < 0) return complain("read");
    if (got == 0) break;
    fwrite(text, 1, (size_t)got, stdout);
  }
  fflush(stdout);
  close(fd);
  return 0;
}
