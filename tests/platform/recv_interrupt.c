// Fact: signals end a receive and a connect by the same rule. With a timeout of its own (SO_RCVTIMEO, SO_SNDTIMEO) a
// handled signal ends the call with EINTR, also under SA_RESTART; without one SA_RESTART restarts it, and EINTR ends it
// otherwise. A timeout that passes ends the receive with EAGAIN and the connect with EINPROGRESS. The connection
// attempt goes on in all these cases.
// Leans on it: preload/ask.cpp (hear) and preload/connect.cpp: a hook that waits in a receive for a verdict behaves as
// the connect in its place would. signal(7); since 2.6.
#include "tests/platform/fact.h"

#include <fcntl.h>
#include <sys/time.h>

struct call {
  bool connects;  // else receives
  struct timeval timeout;
  int handler_flags;
};

static int handled_out;
static void tell_handled(int number) {
  (void)number;
  const int kept = errno;
  if (write(handled_out, "h", 1) != 1) _exit(does_not_hold);
  errno = kept;
}

static _Noreturn void make_the_call(const struct call* call, int fd, const struct place* to, int result_out) {
  struct sigaction action = {.sa_handler = tell_handled, .sa_flags = call->handler_flags};
  sigaction(SIGUSR1, &action, NULL);
  char byte;
  const int option = call->connects ? SO_SNDTIMEO : SO_RCVTIMEO;
  expect(setsockopt(fd, SOL_SOCKET, option, &call->timeout, sizeof call->timeout) == 0, "the timeout: %m");
  const int result = call->connects ? dial(fd, to) : recv(fd, &byte, 1, 0) == 1 ? 0 : errno;
  if (call->connects && result != 0) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    const int again = dial(fd, to);
    expect(again == EALREADY, "the attempt does not go on: error %d", again);
  }
  say(result_out, (char)result);
  exit(holds);
}

// `wanted`: the errno, after a signal when `signalled`; 0 for a call that goes on and then succeeds.
static void show(const char* name, struct call call, bool signalled, int wanted) {
  struct place at = {0};
  int bytes[2], results[2], handled[2];
  const int full = call.connects ? full_listener(&at) : -1;
  make_pair(SOCK_SEQPACKET, bytes);
  expect(pipe2(results, O_CLOEXEC) == 0 && pipe2(handled, O_CLOEXEC) == 0, "pipe2: %m");
  const pid_t caller = start_child();
  if (caller == 0) {
    handled_out = handled[1];
    make_the_call(&call, call.connects ? tcp_socket(AF_INET, 0) : bytes[1], &at, results[1]);
  }
  if (signalled) {
    wait_until_asleep(caller);
    expect(kill(caller, SIGUSR1) == 0, "kill: %m");
    hear(handled[0]);
  }
  if (wanted == 0) {
    wait_until_asleep(caller);
    struct pollfd ended = {.fd = results[0], .events = POLLIN};
    expect(poll(&ended, 1, 0) == 0, "%s: the call was ended, error %d", name, hear(results[0]));
    if (call.connects) close(accepted(full));
    else say(bytes[0], 'b');
  }
  expect(becomes_ready(results[0], POLLIN), "%s: the call goes on", name);
  const int seen = hear(results[0]);
  expect(seen == wanted, "%s: error %d, not %d", name, seen, wanted);
  finish_child(caller);
  for (int i = 0; i < 2; ++i) close(bytes[i]), close(results[i]), close(handled[i]);
  close(full);
}

int main(void) {
  begin();
  const struct timeval none = {0}, never_reached = {30, 0}, short_one = {.tv_usec = 50000};
  show("recv, timeout, SA_RESTART", (struct call){false, never_reached, SA_RESTART}, true, EINTR);
  show("connect, timeout, SA_RESTART", (struct call){true, never_reached, SA_RESTART}, true, EINTR);
  show("recv, timeout", (struct call){false, never_reached, 0}, true, EINTR);
  show("connect, timeout", (struct call){true, never_reached, 0}, true, EINTR);
  show("recv", (struct call){false, none, 0}, true, EINTR);
  show("connect", (struct call){true, none, 0}, true, EINTR);
  show("recv, SA_RESTART", (struct call){false, none, SA_RESTART}, true, 0);
  show("connect, SA_RESTART", (struct call){true, none, SA_RESTART}, true, 0);
  show("recv, timeout passes", (struct call){false, short_one, 0}, false, EAGAIN);
  show("connect, timeout passes", (struct call){true, short_one, 0}, false, EINPROGRESS);
  return holds;
}
