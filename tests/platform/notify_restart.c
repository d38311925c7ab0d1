// Fact: answering with error -512 (ERESTARTSYS) lets a pending signal's handler run: the call then gives EINTR, or with
// SA_RESTART comes again. Where no signal is pending the program itself sees errno 512, which no program knows.
// Leans on it: a supervisor that releases held calls for signals, and why it has to look for a pending one first.
// Since 5.19.
#include "tests/platform/notify.h"

enum { restart = 512 };

static volatile sig_atomic_t handled;

static void handler(int number) { (void)number, ++handled; }

static pid_t caller(int expected, int flags, int wanted) {
  const pid_t child = start_child();
  if (child != 0) return child;
  const struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  sigaction(SIGUSR1, &action, NULL);
  const long result = trapped_call();
  const int seen = result == -1 ? errno : 0;
  expect(seen == expected && handled == wanted, "the call: %d, the handler ran %d times", seen, (int)handled);
  exit(holds);
}

int main(void) {
  begin();
  const int listener = trap(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  pid_t child = caller(EINTR, 0, 1);
  uint64_t id = received(listener).id;
  kill(child, SIGUSR1);
  expect(answered(listener, id, 0, -restart) == 0, "SEND: %m");
  finish_child(child);

  child = caller(0, SA_RESTART, 1);
  id = received(listener).id;
  kill(child, SIGUSR1);
  expect(answered(listener, id, 0, -restart) == 0, "SEND: %m");
  id = received(listener).id;
  expect(answered(listener, id, 0, 0) == 0, "SEND to the restarted call: %m");
  finish_child(child);

  child = caller(restart, 0, 0);
  id = received(listener).id;
  expect(answered(listener, id, 0, -restart) == 0, "SEND: %m");
  finish_child(child);
  return holds;
}
