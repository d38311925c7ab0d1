// The proxy of the benchmarks: HTTP CONNECT and SOCKS5, one epoll loop, no checks that cost time. It plays the origin
// itself, so that nothing but client, towpath and this process is measured. The target's port says what it does then:
//   1   the tunnel is refused (403, or SOCKS5 "not allowed")
//   7   sends one byte at once
//   8   echoes
//   9   discards
//   19  sends zeros until the peer closes
//   80  answers `GET /SIZE` with that many bytes, and closes
// A third port, on every address, needs no handshake and behaves like 7: the origin of direct connections.
//
// usage: minimal_proxy [DELAY_MS]: answers so much later; prints http=PORT socks5=PORT origin=PORT.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum state { listening, clock_tick, http_head, socks_greeting, socks_request, answering, origin };

struct connection {
  int fd;
  enum state state;
  bool is_socks, closed;
  unsigned port;
  size_t have;
  int64_t left;  // bytes of an HTTP answer still to be sent; -1: its request is not complete
  int64_t due;   // nanoseconds
  struct connection* next;
  char bytes[1024];
};

static int loop, timer;
static int64_t delay;
static struct connection *oldest, *newest;  // answers that wait; the delay is the same for all, so it is a queue
static char zeros[256 * 1024];

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void die(const char* what) {
  perror(what);
  exit(1);
}

static void watch(struct connection* c, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(loop, operation, c->fd, &event) != 0) die("epoll_ctl");
}

static void drop(struct connection* c) {
  close(c->fd);
  if (c->state == answering) c->closed = true;  // still in the queue
  else free(c);
}

static void put(struct connection* c, const void* bytes, size_t size) {
  // Small, and first on the connection: always fits.
  if (send(c->fd, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) shutdown(c->fd, SHUT_RDWR);
}

static void begin_origin(struct connection* c) {
  c->state = origin;
  c->have = 0;
  c->left = -1;
  if (c->port == 7) put(c, "x", 1);
  watch(c, c->port == 19 ? EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
}

static void answer(struct connection* c) {
  static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";
  static const char no[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
  if (c->is_socks) put(c, c->port == 1 ? "\5\2\0\1\0\0\0\0\0\0" : "\5\0\0\1\0\0\0\0\0\0", 10);
  else if (c->port == 1) put(c, no, sizeof no - 1);
  else put(c, ok, sizeof ok - 1);
  if (c->port == 1) shutdown(c->fd, SHUT_WR);
  begin_origin(c);
}

static void set_timer(void) {
  if (oldest == NULL) return;
  struct itimerspec when = {.it_value = {oldest->due / 1000000000, oldest->due % 1000000000}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void answer_soon(struct connection* c) {
  if (delay == 0) {
    answer(c);
    return;
  }
  c->state = answering;
  c->due = now() + delay;
  c->next = NULL;
  watch(c, 0, EPOLL_CTL_MOD);
  if (oldest == NULL) {
    oldest = newest = c;
    set_timer();
  } else {
    newest = newest->next = c;
  }
}

static void answer_due(void) {
  uint64_t ticks;
  if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timerfd");
  while (oldest != NULL && oldest->due <= now()) {
    struct connection* c = oldest;
    oldest = c->next;
    if (c->closed) free(c);
    else answer(c);
  }
  set_timer();
}

static void read_http(struct connection* c) {
  if (c->have < 4 || memcmp(c->bytes + c->have - 4, "\r\n\r\n", 4) != 0) return;
  c->bytes[c->have - 1] = 0;
  const char* space = strchr(c->bytes + 8, ' ');  // behind "CONNECT "
  const char* colon = space;
  while (colon != NULL && colon > c->bytes && *colon != ':') --colon;
  c->port = colon == NULL ? 1 : (unsigned)atoi(colon + 1);
  answer_soon(c);
}

static void read_socks(struct connection* c) {
  const unsigned char* in = (const unsigned char*)c->bytes;
  if (c->state == socks_greeting) {
    if (c->have < 2 || c->have < 2u + in[1]) return;
    c->have -= 2u + in[1];
    memmove(c->bytes, c->bytes + 2 + in[1], c->have);
    c->state = socks_request;
    put(c, "\5\0", 2);
  }
  if (c->have < 5) return;
  const size_t address = in[3] == 1 ? 4 : in[3] == 4 ? 16 : 1u + in[4];
  if (c->have < 4 + address + 2) return;
  c->port = in[4 + address] * 256u + in[4 + address + 1];
  answer_soon(c);
}

static void send_zeros(struct connection* c) {
  for (int i = 0; i < 8 && c->left != 0; ++i) {
    const size_t size = c->left > 0 && c->left < (int64_t)sizeof zeros ? (size_t)c->left : sizeof zeros;
    const ssize_t sent = send(c->fd, zeros, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) return drop(c);
    if (c->left > 0) c->left -= sent;
  }
  if (c->left == 0) drop(c);
}

static void serve_http(struct connection* c) {
  if (c->have < 4 || memcmp(c->bytes + c->have - 4, "\r\n\r\n", 4) != 0) return;
  char head[128];
  c->left = atoll(c->bytes + 5);  // behind "GET /"
  const int size = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\nConnection: close\r\n\r\n",
                            (long long)c->left);
  put(c, head, (size_t)size);
  watch(c, EPOLLOUT, EPOLL_CTL_MOD);
}

static void ready(struct connection* c, uint32_t events) {
  if (c->state == answering) {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0 && !c->closed) drop(c);
    return;
  }
  if (c->state == origin && (events & EPOLLOUT) != 0) return send_zeros(c);
  if (c->state == origin && c->port == 9) {
    if (recv(c->fd, NULL, 1 << 30, MSG_TRUNC | MSG_DONTWAIT) <= 0) drop(c);
    return;
  }
  if (c->state == origin && c->port != 80) c->have = 0;
  const ssize_t got = recv(c->fd, c->bytes + c->have, sizeof c->bytes - c->have, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  if (got <= 0) return drop(c);
  c->have += (size_t)got;
  if (c->state == http_head) read_http(c);
  else if (c->state != origin) read_socks(c);
  else if (c->port == 80) serve_http(c);
  else if (c->port == 8) put(c, c->bytes, c->have);
}

static void take(struct connection* listener) {
  for (int i = 0; i < 16; ++i) {
    const int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) return;
    const int at_once = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    struct connection* c = calloc(1, sizeof *c);
    if (c == NULL) die("calloc");
    c->fd = fd;
    c->port = listener->port;
    c->is_socks = listener->is_socks;
    c->state = c->port != 0 ? origin : c->is_socks ? socks_greeting : http_head;
    watch(c, EPOLLIN, EPOLL_CTL_ADD);
    if (c->port != 0) begin_origin(c);
  }
}

static unsigned listen_on(uint32_t address, bool is_socks, unsigned target_port) {
  struct connection* c = calloc(1, sizeof *c);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
  socklen_t size = sizeof at;
  if (c == NULL) die("calloc");
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  c->state = listening;
  c->is_socks = is_socks;
  c->port = target_port;
  if (c->fd < 0 || bind(c->fd, (struct sockaddr*)&at, size) != 0 || listen(c->fd, 4096) != 0 ||
      getsockname(c->fd, (struct sockaddr*)&at, &size) != 0)
    die("listen");
  watch(c, EPOLLIN, EPOLL_CTL_ADD);
  return ntohs(at.sin_port);
}

int main(int argc, char** argv) {
  delay = argc > 1 ? atoll(argv[1]) * 1000000 : 0;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  loop = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  struct connection tick = {.fd = timer, .state = clock_tick};
  watch(&tick, EPOLLIN, EPOLL_CTL_ADD);
  const unsigned http = listen_on(INADDR_LOOPBACK, false, 0), socks = listen_on(INADDR_LOOPBACK, true, 0);
  printf("http=%u socks5=%u origin=%u\n", http, socks, listen_on(INADDR_ANY, false, 7));
  fflush(stdout);
  for (;;) {
    struct epoll_event events[128];
    const int count = epoll_wait(loop, events, 128, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    bool tick_due = false;  // last: an answer may free a connection that another event of this batch names
    for (int i = 0; i < count; ++i) {
      struct connection* c = events[i].data.ptr;
      if (c->state == clock_tick) tick_due = true;
      else if (c->state == listening) take(c);
      else ready(c, events[i].events);
    }
    if (tick_due) answer_due();
  }
}
