// System calls that are none of towpath's business: nanoseconds each, the best of several batches.
// usage: other_calls [NAME PORT]: with a target, one non-blocking connect to it is made before.
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { batches = 40, calls = 3000 };

static int ends[2], pair[2], loop;
static long errors;

static void check(int good) { errors += !good; }

static void pipe_calls(void) {
  char byte = 0;
  check(write(ends[1], &byte, 1) == 1 && read(ends[0], &byte, 1) == 1);
}

static void socket_calls(void) {
  char byte = 0;
  check(send(pair[1], &byte, 1, 0) == 1 && recv(pair[0], &byte, 1, 0) == 1);
}

static void stat_call(void) {
  struct stat status;
  check(stat("/", &status) == 0);
}

static void open_calls(void) {
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  check(fd >= 0 && close(fd) == 0);
}

static void new_socket(void) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(fd >= 0 && close(fd) == 0);
}

static void unix_connect(void) {
  static struct sockaddr_un to = {.sun_family = AF_UNIX};
  static socklen_t size;
  static int listener = -1;
  if (listener == -1) {
    size = sizeof(sa_family_t);  // the kernel chooses an abstract name
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(bind(listener, (struct sockaddr*)&to, size) == 0 && listen(listener, 8) == 0);
    size = sizeof to;
    check(getsockname(listener, (struct sockaddr*)&to, &size) == 0);
  }
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(connect(fd, (struct sockaddr*)&to, size) == 0);
  close(accept(listener, NULL, NULL));
  close(fd);
}

static void poll_call(void) {
  struct pollfd one = {.fd = ends[0], .events = POLLIN};
  check(poll(&one, 1, 0) == 0);
}

static void epoll_calls(void) {
  struct epoll_event event = {.events = EPOLLIN};
  check(epoll_ctl(loop, EPOLL_CTL_ADD, ends[0], &event) == 0 && epoll_wait(loop, &event, 1, 0) == 0 &&
        epoll_ctl(loop, EPOLL_CTL_DEL, ends[0], NULL) == 0);
}

static double measure(void (*call)(void)) {
  double best = 1e18;
  for (int batch = 0; batch < batches; ++batch) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; i < calls; ++i) call();
    clock_gettime(CLOCK_MONOTONIC, &end);
    const double each = ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / calls;
    if (each < best) best = each;
  }
  return best;
}

static int tunnel(const char* name, const char* port) {
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found;
  if (getaddrinfo(name, port, &hints, &found) != 0) return 0;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct pollfd one = {.fd = fd, .events = POLLOUT};
  const int connected = connect(fd, found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return (connected == 0 || errno == EINPROGRESS) && poll(&one, 1, 10000) == 1;
}

int main(int argc, char** argv) {
  loop = epoll_create1(EPOLL_CLOEXEC);
  if (loop < 0 || pipe(ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return perror("setup"), 1;
  if (argc > 2) check(tunnel(argv[1], argv[2]));
  printf("pipe_ns=%.0f\n", measure(pipe_calls));
  printf("socketpair_ns=%.0f\n", measure(socket_calls));
  printf("stat_ns=%.0f\n", measure(stat_call));
  printf("open_ns=%.0f\n", measure(open_calls));
  printf("socket_ns=%.0f\n", measure(new_socket));
  printf("unix_ns=%.0f\n", measure(unix_connect));
  printf("poll_ns=%.0f\n", measure(poll_call));
  printf("epoll_ns=%.0f\n", measure(epoll_calls));
  printf("errors=%ld\n", errors);
  return 0;
}
