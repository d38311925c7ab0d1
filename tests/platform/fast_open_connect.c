// Fact: sendto(fd, "", 0, MSG_FASTOPEN | MSG_DONTWAIT, to) starts a connect on a blocking socket without waiting for it
// and without O_NONBLOCK, a flag that all holders of the socket share; connect has no flag for one call. It sends no
// byte of data, also to a peer that gave out a fast open cookie, and is refused with EOPNOTSUPP where
// net.ipv4.tcp_fastopen has no bit 1.
// Leans on it: agent/attempt.cpp (begin_connect), preload/connect.cpp (dial, for EOPNOTSUPP). Since 3.7.
#include "tests/platform/fact.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>

// If this waited, the alarm would end us.
static int begin_connect(int fd, const struct place* to) {
  const struct sockaddr* address = (const struct sockaddr*)&to->address;
  const int flags = MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL;
  const int error = sendto(fd, "", 0, flags, address, to->size) == -1 ? errno : 0;
  expect((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0, "the socket became non-blocking");
  return error;
}

static void shows_at_a_black_hole(void) {
  struct place at;
  const int full = full_listener(&at), fd = tcp_socket(AF_INET, 0);
  const int error = begin_connect(fd, &at);
  struct tcp_info info = {0};
  socklen_t size = sizeof info;
  expect(error == EINPROGRESS, "black hole: error %d", error);
  expect(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == TCP_SYN_SENT,
         "black hole: TCP state %d", info.tcpi_state);
  close(fd);
  close(full);
}

static void shows_at_a_listener(int listening, const struct place* at) {
  const int fd = tcp_socket(AF_INET, 0);
  const int error = begin_connect(fd, at);
  expect(error == EINPROGRESS && becomes_ready(fd, POLLOUT), "listener: error %d", error);
  expect(socket_error(fd) == 0, "listener: the connect fails");
  const int other = accepted(listening);
  char byte;
  expect(recv(other, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN, "something was sent: %m");
  expect(write(other, "y", 1) == 1 && hear(fd) == 'y', "no bytes");
  close(other);
  close(fd);
}

static void shows_at_a_closed_port(void) {
  struct place at;
  const int bound = bound_socket(AF_INET, -1, &at), fd = tcp_socket(AF_INET, 0);
  const int error = begin_connect(fd, &at);
  expect(error == EINPROGRESS && becomes_ready(fd, POLLOUT), "closed port: error %d", error);
  const int later = socket_error(fd);
  expect(later == ECONNREFUSED, "closed port: SO_ERROR %d", later);
  close(fd);
  close(bound);
}

static bool set_fast_open(const char* to) {
  const int fd = open("/proc/sys/net/ipv4/tcp_fastopen", O_WRONLY | O_CLOEXEC);
  const bool done = fd != -1 && write(fd, to, strlen(to)) == (ssize_t)strlen(to);
  close(fd);
  return done;
}

// In a network namespace of our own, where the setting is ours.
static void shows_with_other_settings(void) {
  if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    printf("not shown for other settings of tcp_fastopen: no network namespace: %m\n");
    return;
  }
  struct place at;
  struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  const int any = tcp_socket(AF_INET, 0), length = 16;
  if (ioctl(any, SIOCSIFFLAGS, &loopback) != 0 || !set_fast_open("3")) {
    printf("not shown for other settings of tcp_fastopen: %m\n");
    return;
  }
  const int listening = listener(&at);
  expect(setsockopt(listening, IPPROTO_TCP, TCP_FASTOPEN, &length, sizeof length) == 0, "TCP_FASTOPEN: %m");
  for (int i = 0; i < 3; ++i) shows_at_a_listener(listening, &at);  // the first one fetches the cookie
  expect(set_fast_open("0"), "tcp_fastopen: %m");
  const int error = begin_connect(any, &at);
  expect(error == EOPNOTSUPP, "with tcp_fastopen=0: error %d", error);
  expect(dial(any, &at) == 0, "a plain connect after that: %m");
}

int main(void) {
  begin();
  struct place at;
  const int listening = listener(&at), fd = tcp_socket(AF_INET, 0);
  if (begin_connect(fd, &at) == EOPNOTSUPP) leave(cannot_be_shown, "net.ipv4.tcp_fastopen is off");
  close(accepted(listening));
  shows_at_a_black_hole();
  shows_at_a_listener(listening, &at);
  shows_at_a_closed_port();
  shows_with_other_settings();
  return holds;
}
