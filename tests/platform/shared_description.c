// Fact: SO_COOKIE names the open socket, not the descriptor: it is the same through dup, fork, exec, SCM_RIGHTS and a
// connect, and never the same for a new socket that gets a number that was used before.
// Leans on it: proto/page.h, preload/process.cpp (cookie_of), agent/agent.cpp. Since 4.12; before 5.4 two network
// namespaces count on their own.
#include "tests/platform/fact.h"

enum { rounds = 2000 };

static void expect_same(const char* way, uint64_t seen, uint64_t cookie) {
  expect(seen == cookie, "%s: %#llx became %#llx", way, (unsigned long long)cookie, (unsigned long long)seen);
}

static void show_through_fork_and_exec(int fd, uint64_t cookie) {
  const pid_t child = start_child();
  if (child == 0) {
    expect_same("fork", cookie_of(fd), cookie);
    char number[16], wanted[32];
    const int inherited = dup(fd);
    snprintf(number, sizeof number, "%d", inherited);
    snprintf(wanted, sizeof wanted, "%llu", (unsigned long long)cookie);
    execl("/proc/self/exe", "shared_description", number, wanted, (char*)NULL);
    leave(cannot_be_shown, "cannot exec /proc/self/exe: %m");
  }
  finish_child(child);
}

// The socket is made after the fork, so that the other process has it from nowhere else.
static void show_through_scm_rights(void) {
  int ends[2];
  make_pair(SOCK_SEQPACKET, ends);
  const pid_t child = start_child();
  if (child == 0) {
    int received = -1;
    uint64_t cookie;
    receive_descriptors(ends[1], &received, 1);
    expect(becomes_ready(ends[1], POLLIN) && read(ends[1], &cookie, sizeof cookie) == sizeof cookie, "read: %m");
    expect_same("SCM_RIGHTS", cookie_of(received), cookie);
    exit(holds);
  }
  const int fd = tcp_socket(AF_INET, 0);
  const uint64_t cookie = cookie_of(fd);
  send_descriptors(ends[0], &fd, 1);
  expect(write(ends[0], &cookie, sizeof cookie) == sizeof cookie, "write: %m");
  close(fd);
  finish_child(child);
}

static void show_reused_numbers(void) {
  static uint64_t seen[rounds];
  int number = -1;
  for (int i = 0; i < rounds; ++i) {
    const int fd = tcp_socket(i % 2 == 0 ? AF_INET : AF_UNIX, 0);
    if (number == -1) number = fd;
    expect(fd == number, "the number was not reused");
    seen[i] = cookie_of(fd);
    for (int earlier = 0; earlier < i; ++earlier)
      expect(seen[earlier] != seen[i], "sockets %d and %d have the same cookie", earlier, i);
    close(fd);
  }
}

int main(int count, char** arguments) {
  begin();
  if (count == 3) {
    expect_same("exec", cookie_of(atoi(arguments[1])), strtoull(arguments[2], NULL, 10));
    return holds;
  }
  struct place at;
  const int listening = listener(&at), fd = tcp_socket(AF_INET, 0), copy = dup(fd);
  const uint64_t cookie = cookie_of(fd);
  expect(cookie != 0, "a cookie of 0");
  expect_same("dup", cookie_of(copy), cookie);
  expect(dial(fd, &at) == 0, "connect: %m");
  expect_same("connect", cookie_of(fd), cookie);
  expect(cookie_of(accepted(listening)) != cookie, "the accepted socket has the same cookie");
  show_through_fork_and_exec(fd, cookie);
  show_through_scm_rights();
  close(copy);
  close(fd);
  show_reused_numbers();
  return holds;
}
