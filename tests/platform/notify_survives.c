// Fact: a notification that was received by a process that has died stays as long as another copy of the listener is
// open: whoever has that copy can answer it by its number, but RECV does not give it a second time. Numbers count up by
// one, so what is still open can be found below the next. When the last copy is closed, calls that wait and later ones
// get ENOSYS. Leans on it: P, which keeps the listener, and an agent that takes over from one that died. Since 5.0.
#include "tests/platform/notify.h"

int main(void) {
  begin();
  int ends[2];
  make_pair(SOCK_STREAM, ends);
  const int listener = trap(0);
  const pid_t child = start_child();
  if (child == 0) {
    close(listener);
    expect(trapped_call() == 7, "the call whose supervisor died: %m");
    expect(trapped_call() == 8, "the call after it: %m");
    say(ends[1], 'l');
    expect(trapped_call() == -1 && errno == ENOSYS, "held when the last copy is closed: %m");
    expect(trapped_call() == -1 && errno == ENOSYS, "without a listener: %m");
    return holds;
  }
  const pid_t supervisor = start_child();
  if (supervisor == 0) {
    const uint64_t id = received(listener).id;
    expect(write(ends[1], &id, sizeof id) == sizeof id, "write: %m");
    pause();
  }
  uint64_t id;
  expect(becomes_ready(ends[0], POLLIN) && read(ends[0], &id, sizeof id) == sizeof id, "read: %m");
  expect(kill(supervisor, SIGKILL) == 0 && waitpid(supervisor, NULL, 0) == supervisor, "waitpid: %m");
  struct pollfd one = {.fd = listener, .events = POLLIN};
  expect(poll(&one, 1, 0) == 0, "it can be received again");
  expect(valid(listener, id), "its number is gone");
  expect(answered(listener, id, 7, 0) == 0, "SEND by another process: %m");
  const uint64_t next = received(listener).id;
  expect(next == id + 1, "numbers do not count up by one");
  expect(answered(listener, next, 8, 0) == 0, "SEND: %m");
  hear(ends[0]);
  received(listener);
  close(listener);
  finish_child(child);
  return holds;
}
