/* waits HOW COUNT ADDRESS PORT: COUNT non-blocking connects at once, waited for with HOW (poll, select, level, edge),
 * beside standard input. Says "pending=N" when all have been begun, "served" for every line that comes meanwhile, and
 * in the end how many became what: "ok=N", "ECONNREFUSED=N", ... For each that is there, the banner "220 lab\r\n" is
 * read and three bytes go around. "surprises=N": readiness without an outcome, or a second event after it. The line
 * "close" closes every second socket that is still pending, "drop" leaves without closing anything. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

enum { most = 2048, banner_size = 9 };

static int fds[most], count, epoll_fd = -1;
static bool over[most];
static int outcome[most];
static const char* how;
static struct sockaddr_storage to;
static socklen_t to_size;

static int is(const char* word) { return strcmp(how, word) == 0; }

static int set_to(const char* address, const char* port) {
  struct sockaddr_in* v4 = (struct sockaddr_in*)&to;
  struct sockaddr_in6* v6 = (struct sockaddr_in6*)&to;
  const in_port_t number = htons((in_port_t)atoi(port));
  if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET, v4->sin_port = number, to_size = sizeof *v4;
    return AF_INET;
  }
  inet_pton(AF_INET6, address, &v6->sin6_addr);
  v6->sin6_family = AF_INET6, v6->sin6_port = number, to_size = sizeof *v6;
  return AF_INET6;
}

static int begin(int domain) {
  for (int i = 0; i < count; ++i) {
    fds[i] = socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fds[i] == -1) return perror("socket"), 1;
    if (connect(fds[i], (struct sockaddr*)&to, to_size) != 0 && errno != EINPROGRESS)
      outcome[i] = errno, over[i] = true;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | (is("edge") ? EPOLLET : 0), .data.u32 = (uint32_t)i};
    if (epoll_fd != -1 && !over[i]) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event);
  }
  return 0;
}

/* Indices of what is ready, most for standard input. */
static int wait_for(int* ready) {
  int found = 0;
  if (epoll_fd != -1) {
    static struct epoll_event events[most];
    const int got = epoll_wait(epoll_fd, events, most, -1);
    for (int i = 0; i < got; ++i) ready[found++] = (int)events[i].data.u32;
    return found;
  }
  if (is("select")) {
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(0, &in);
    int last = 0;
    for (int i = 0; i < count; ++i)
      if (!over[i]) {
        FD_SET(fds[i], &out);
        if (fds[i] > last) last = fds[i];
      }
    if (select(last + 1, &in, &out, NULL, NULL) < 0) return -1;
    if (FD_ISSET(0, &in)) ready[found++] = most;
    for (int i = 0; i < count; ++i)
      if (!over[i] && FD_ISSET(fds[i], &out)) ready[found++] = i;
    return found;
  }
  static struct pollfd polled[most + 1];
  polled[count] = (struct pollfd){.fd = 0, .events = POLLIN};
  for (int i = 0; i < count; ++i) polled[i] = (struct pollfd){.fd = over[i] ? -1 : fds[i], .events = POLLIN | POLLOUT};
  if (poll(polled, (nfds_t)count + 1, -1) < 0) return -1;
  for (int i = 0; i <= count; ++i)
    if (polled[i].revents != 0) ready[found++] = i == count ? most : i;
  return found;
}

static bool same_peer(int fd) {
  struct sockaddr_storage peer = {0};
  socklen_t size = sizeof peer;
  return getpeername(fd, (struct sockaddr*)&peer, &size) == 0 && size == to_size && memcmp(&peer, &to, 8) == 0;
}

static bool goes_around(int fd) {
  char bytes[banner_size + 3];
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  if (write(fd, "abc", 3) != 3) return false;
  return recv(fd, bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes &&
         memcmp(bytes, "220 lab\r\nabc", sizeof bytes) == 0;
}

static void tell(void) {
  int good = 0, wrong = 0, left = 0;
  for (int i = 0; i < count; ++i) {
    if (!over[i]) ++left;
    else if (outcome[i] == 0) *(goes_around(fds[i]) ? &good : &wrong) += 1;
  }
  printf("ok=%d\n", good);
  if (wrong != 0) printf("wrong=%d\n", wrong);
  if (left != 0) printf("left=%d\n", left);
  for (int error = 1; error < 4096; ++error) {
    int times = 0;
    for (int i = 0; i < count; ++i) times += over[i] && outcome[i] == error;
    if (times != 0) printf("errno %d=%d\n", error, times);
  }
}

int main(int argc, char** argv) {
  if (argc != 5) return fprintf(stderr, "usage: see the head of waits.c\n"), 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  how = argv[1], count = atoi(argv[2]);
  if (is("level") || is("edge")) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = most};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event);
  }
  if (begin(set_to(argv[3], argv[4])) != 0) return 1;
  int pending = 0, surprises = 0;
  for (int i = 0; i < count; ++i) pending += !over[i];
  printf("pending=%d\n", pending);
  while (pending > 0) {
    static int ready[most + 1];
    const int found = wait_for(ready);
    if (found < 0) return perror(how), 1;
    for (int at = 0; at < found; ++at) {
      const int i = ready[at];
      if (i == most) {
        char line[64] = "";
        const ssize_t size = read(0, line, sizeof line - 1);
        if (size <= 0) return printf("input ends\n"), 1;
        if (strcmp(line, "drop\n") == 0) return printf("dropped\n"), 0;
        if (strcmp(line, "close\n") == 0)
          for (int each = 0; each < count; each += 2)
            if (!over[each]) close(fds[each]), over[each] = true, outcome[each] = -1, --pending;
        printf("served\n");
        continue;
      }
      if (over[i]) {
        if (outcome[i] != 0) ++surprises; /* an established one may have its banner */
        continue;
      }
      socklen_t size = sizeof outcome[i];
      getsockopt(fds[i], SOL_SOCKET, SO_ERROR, &outcome[i], &size);
      if (outcome[i] == 0 && !same_peer(fds[i])) {
        ++surprises;
        continue;
      }
      over[i] = true;
      --pending;
      if (epoll_fd != -1) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fds[i], NULL);
    }
  }
  tell();
  printf("surprises=%d\n", surprises);
  return 0;
}
