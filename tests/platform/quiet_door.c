// A listener whose queue is full drops every SYN: a socket that connects to it stays in SYN_SENT and shows nothing, in
// poll and in an edge-triggered set made before, also when the SYN is repeated. A socket from the listener's own port
// (SO_REUSEPORT) that connects to it is a simultaneous open: both are established, with one event. A connection that is
// gone meets nobody (agent/quiet_door).
#include "fact.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>

enum { many = 64, after_a_repetition_ms = 1300 };

static struct tcp_info info_of(int fd) {
  struct tcp_info info = {0};
  socklen_t size = sizeof info;
  expect(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0, "TCP_INFO: %m");
  return info;
}

static int from_port(int domain, const struct place* at) {
  const int fd = tcp_socket(domain, 0), on = 1;
  expect(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0, "SO_REUSEPORT: %m");
  expect(bind(fd, (const struct sockaddr*)&at->address, at->size) == 0, "bind to the listener's port: %m");
  return fd;
}

static struct place own_end(int fd) {
  struct place out = {.size = sizeof out.address};
  expect(getsockname(fd, (struct sockaddr*)&out.address, &out.size) == 0, "getsockname: %m");
  return out;
}

static int waiting(int domain, const struct place* door) {
  const int fd = tcp_socket(domain, SOCK_NONBLOCK), error = dial(fd, door);
  expect(error == EINPROGRESS, "connect to the full listener: error %d", error);
  expect(info_of(fd).tcpi_state == TCP_SYN_SENT, "state %d instead of SYN_SENT", info_of(fd).tcpi_state);
  return fd;
}

static int events_of(int fd, int timeout_ms) {
  struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
  expect(poll(&one, 1, timeout_ms) >= 0, "poll: %m");
  return one.revents;
}

static void show(int domain) {
  struct place door;
  int any = bound_socket(domain, -1, &door);
  if (any == -1) {
    printf("no ::1 here: shown for AF_INET only\n");
    return;
  }
  close(any);
  ((struct sockaddr_in*)&door.address)->sin_port = 0;  // where sin6_port is, too
  const int listening = from_port(domain, &door), filler = tcp_socket(domain, 0);
  door = own_end(listening);
  expect(listen(listening, 1) == 0 && dial(filler, &door) == 0, "listener: %m");
  expect(becomes_ready(listening, POLLIN) && listen(listening, 0) == 0, "listen(0): %m");
  const struct tcp_info queue = info_of(listening);
  expect(queue.tcpi_unacked > queue.tcpi_sacked, "TCP_INFO says %u of %u", queue.tcpi_unacked, queue.tcpi_sacked);

  const int set = epoll_create1(EPOLL_CLOEXEC);
  int fds[many];
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
  fds[0] = tcp_socket(domain, SOCK_NONBLOCK);
  expect(epoll_ctl(set, EPOLL_CTL_ADD, fds[0], &event) == 0, "epoll_ctl: %m");
  (void)epoll_wait(set, &event, 1, 0);  // HUP: not connecting yet
  expect(dial(fds[0], &door) == EINPROGRESS, "connect");
  for (int i = 1; i < many; ++i) fds[i] = waiting(domain, &door);
  expect(events_of(fds[many - 1], after_a_repetition_ms) == 0, "a waiting socket is ready");
  expect(info_of(fds[0]).tcpi_state == TCP_SYN_SENT && info_of(fds[0]).tcpi_total_retrans > 0, "no SYN was repeated");
  expect(epoll_wait(set, &event, 1, 0) == 0, "an event of a waiting socket: %#x", event.events);
  for (int i = 0; i < many; ++i) {
    const struct place own = own_end(fds[i]);
    const int other = from_port(domain, &door), error = dial(other, &own);
    expect(error == 0, "no simultaneous open: error %d", error);
    expect(events_of(fds[i], patience_ms) == POLLOUT && socket_error(fds[i]) == 0, "not connected");
    char byte = 0;
    expect(write(fds[i], "a", 1) == 1 && read(other, &byte, 1) == 1 && byte == 'a', "to the other end: %m");
    expect(write(other, "b", 1) == 1 && becomes_ready(fds[i], POLLIN) && read(fds[i], &byte, 1) == 1 && byte == 'b',
           "from the other end: %m");
    close(other);
    if (i == 0) expect(epoll_wait(set, &event, 1, patience_ms) == 1 && (event.events & EPOLLOUT), "no event");
    close(fds[i]);
  }
  // One that is gone: nobody is met.
  const int gone = waiting(domain, &door);
  const struct place own = own_end(gone);
  close(gone);
  const int error = dial(from_port(domain, &door), &own);
  expect(error == ECONNREFUSED, "to a socket that is gone: error %d", error);
}

int main(void) {
  begin();
  show(AF_INET);
  show(AF_INET6);
  return holds;
}
