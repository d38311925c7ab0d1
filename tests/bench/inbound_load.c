/* Requests over many connections at once: inbound_load PORT COUNT AT_ONCE [OPTION...]
 *
 *   proxy    every connection begins with a PROXY v1 header     keep     connections are kept, else one per request
 *   many     every request has another client                   check    the answer must name the client
 *
 * Without `proxy` the client stands in X-Forwarded-For. Prints per_s=, errors=. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct one {
  int fd;
  int number;
  size_t used;
  char in[2048];
};

static int port, total, started, finished, errors, with_header, keep, many, check, set;

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void client_of(const struct one* one, char* out, size_t size) {
  int number = many ? one->number : one->number % 50;
  snprintf(out, size, "10.%d.%d.%d", number >> 16 & 255, number >> 8 & 255, (number & 255) % 250 + 1);
}

static void ask(struct one* one, int first) {
  char client[32], out[512];
  client_of(one, client, sizeof client);
  int size = 0;
  if (first && with_header) size = snprintf(out, sizeof out, "PROXY TCP4 %s 127.0.0.1 1000 80\r\n", client);
  size += snprintf(out + size, sizeof out - (size_t)size, "GET /x HTTP/1.1\r\nHost: h\r\n");
  if (!with_header) size += snprintf(out + size, sizeof out - (size_t)size, "X-Forwarded-For: %s\r\n", client);
  size += snprintf(out + size, sizeof out - (size_t)size, "%s\r\n", keep ? "" : "Connection: close\r\n");
  one->used = 0;
  if (send(one->fd, out, (size_t)size, MSG_NOSIGNAL) != size) ++errors;
}

static void begin(struct one* one) {
  struct sockaddr_in at = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  one->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  struct linger reset = {1, 0}; /* or the ports run out */
  setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (connect(one->fd, (void*)&at, sizeof at) != 0) {
    perror("connect");
    exit(1);
  }
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
  epoll_ctl(set, EPOLL_CTL_ADD, one->fd, &event);
  ask(one, 1);
}

/* The next request, on this connection or another. */
static void next(struct one* one, int broken) {
  ++finished;
  errors += broken;
  if (!keep || broken) close(one->fd), one->fd = -1;
  if (started >= total) {
    if (one->fd >= 0) close(one->fd);
    one->fd = -1;
    return;
  }
  int before = one->number;
  one->number = started++;
  if (!many && keep) one->number = before;
  if (one->fd < 0) begin(one);
  else ask(one, 0);
}

static void hear(struct one* one) {
  ssize_t got = recv(one->fd, one->in + one->used, sizeof one->in - 1 - one->used, MSG_DONTWAIT);
  if (got <= 0) {
    if (got < 0 && errno == EAGAIN) return;
    next(one, 1);
    return;
  }
  one->used += (size_t)got;
  one->in[one->used] = 0;
  char* body = strstr(one->in, "\r\n\r\n");
  if (!body || !strchr(body + 4, '\n')) return;
  char wanted[64] = "client=", client[32];
  client_of(one, client, sizeof client);
  strcat(strcat(wanted, client), "\n");
  next(one, check && !strstr(body, wanted));
}

int main(int count, char** words) {
  if (count < 4) return 2;
  port = atoi(words[1]);
  total = atoi(words[2]);
  int at_once = atoi(words[3]);
  for (int i = 4; i < count; ++i) {
    with_header |= !strcmp(words[i], "proxy");
    keep |= !strcmp(words[i], "keep");
    many |= !strcmp(words[i], "many");
    check |= !strcmp(words[i], "check");
  }
  set = epoll_create1(EPOLL_CLOEXEC);
  struct one* all = calloc((size_t)at_once, sizeof *all);
  double begun = now();
  for (int i = 0; i < at_once && started < total; ++i) {
    all[i].number = started++;
    begin(&all[i]);
  }
  struct epoll_event events[64];
  while (finished < total) {
    int ready = epoll_wait(set, events, 64, 20000);
    if (ready == 0) {
      fprintf(stderr, "%d of %d answered, nothing more for 20 s\n", finished, total);
      errors += total - finished;
      break;
    }
    for (int i = 0; i < ready; ++i) hear(events[i].data.ptr);
  }
  printf("per_s=%.0f\nerrors=%d\n", finished / (now() - begun), errors);
  return 0;
}
