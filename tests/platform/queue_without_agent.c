// Fact: as long as any process holds a listening AF_UNIX SEQPACKET socket, connections to it succeed and queue with
// their first message (descriptors included) though nobody accepts; a process that takes over serves them in order.
// With the last holder gone, those that wait get an error and new ones are refused.
// Leans on it: agent/kept.h and launcher/supervise.cpp (P holds the socket while there is no agent), preload/ask.cpp.
#include "tests/platform/fact.h"

#include <stddef.h>
#include <sys/un.h>

enum { askers = 3 };

static int connect_to(const struct place* at) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  expect(fd != -1 && dial(fd, at) == 0, "connect: %m");
  return fd;
}

static void serve(int listening) {
  for (int i = 0; i < askers; ++i) {
    const int asker = accepted(listening);
    int passed = -1;
    receive_descriptors(asker, &passed, 1);
    const char number = hear(asker);
    expect(number == (char)i, "asker %d comes in place %d", number, i);
    say(passed, 'p');
    say(asker, number);
    close(passed);
    close(asker);
  }
}

int main(void) {
  begin();
  // Binding the family alone: the kernel chooses an abstract name.
  struct place at = {.address.ss_family = AF_UNIX, .size = offsetof(struct sockaddr_un, sun_path)};
  const int listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  expect(listening != -1 && bind(listening, (struct sockaddr*)&at.address, at.size) == 0, "bind: %m");
  at.size = sizeof at.address;
  expect(listen(listening, 16) == 0 && getsockname(listening, (struct sockaddr*)&at.address, &at.size) == 0,
         "listen: %m");

  const pid_t first_agent = start_child();  // inherits the socket and dies without a word
  if (first_agent == 0) return holds;
  finish_child(first_agent);

  int asking[askers], passed[askers][2];
  for (int i = 0; i < askers; ++i) {
    asking[i] = connect_to(&at);
    make_pair(SOCK_STREAM, passed[i]);
    send_descriptors(asking[i], &passed[i][1], 1);
    close(passed[i][1]);
    say(asking[i], (char)i);
  }
  const pid_t second_agent = start_child();
  if (second_agent == 0) {
    serve(listening);
    return holds;
  }
  for (int i = 0; i < askers; ++i) {
    expect(hear(passed[i][0]) == 'p', "nothing through the descriptor that was queued");
    expect(hear(asking[i]) == (char)i, "the wrong answer");
  }
  finish_child(second_agent);

  const int unserved = connect_to(&at);
  say(unserved, 'x');
  close(listening);
  char byte;
  expect(becomes_ready(unserved, POLLIN) && read(unserved, &byte, 1) == -1 && errno == ECONNRESET,
         "one that waits when the last holder goes: %m");
  const int late = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  expect(dial(late, &at) == ECONNREFUSED, "one that comes after that: %m");
  return holds;
}
