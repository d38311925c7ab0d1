// Fact: a process that was handed a program's socket and epoll set can add the socket to that set, and take it out, for
// the program: the kernel keys a registration by (open file, descriptor number), so it has to hold the socket at the
// program's number while it calls epoll_ctl. The program that sleeps in epoll_wait wakes up with its own data, and can
// change and delete the registration as its own. What sits at that number of the other process may be moved aside
// with F_DUPFD and back with dup3: its registrations elsewhere stay valid.
// Leans on it: agent/deferred.cpp, preload/epoll.cpp. Since epoll is (2.6).
#include "tests/platform/fact.h"

#include <fcntl.h>
#include <sys/epoll.h>

enum { number = 200, first_data = 0xabcdef, second_data = 5, own_data = 77 };

static bool control(int set, int operation, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return epoll_ctl(set, operation, fd, &event) == 0;
}

static void expect_event(int set, int timeout, uint32_t events, uint64_t data) {
  struct epoll_event event = {0};
  const int count = epoll_wait(set, &event, 1, timeout);
  if (events == 0) expect(count == 0, "an event came too early: %#x", event.events);
  else
    expect(count == 1 && event.events == events && event.data.u64 == data, "epoll_wait: %d, events %#x, data %#llx",
           count, event.events, (unsigned long long)event.data.u64);
}

static void be_the_program(int agent, const struct place* to) {
  const int any = tcp_socket(AF_INET, SOCK_NONBLOCK);
  const int fd = dup3(any, number, O_CLOEXEC), set = epoll_create1(EPOLL_CLOEXEC);
  close(any);
  expect(fd == number && set != -1, "dup3, epoll_create1: %m");
  const int error = dial(fd, to);
  expect(error == 0 || error == EINPROGRESS, "connect: error %d", error);
  expect(becomes_ready(fd, POLLOUT), "no connection");
  expect_event(set, 0, 0, 0);
  send_descriptors(agent, (int[]){fd, set}, 2);

  expect_event(set, patience_ms, EPOLLOUT, first_data);
  expect(!control(set, EPOLL_CTL_ADD, fd, EPOLLIN, 0) && errno == EEXIST, "a second ADD: %m");
  expect(control(set, EPOLL_CTL_MOD, fd, EPOLLIN, second_data), "MOD under the own number: %m");
  expect_event(set, 0, 0, 0);
  say(agent, 'm');
  expect_event(set, patience_ms, EPOLLIN, second_data);
  expect(control(set, EPOLL_CTL_DEL, fd, 0, 0), "DEL under the own number: %m");
  expect_event(set, 0, 0, 0);
  expect(control(set, EPOLL_CTL_ADD, fd, EPOLLIN, second_data), "ADD after DEL: %m");

  say(agent, 'w');
  hear(agent);
  expect_event(set, 0, 0, 0);
  expect(!control(set, EPOLL_CTL_DEL, fd, 0, 0) && errno == ENOENT, "DEL of what was taken out: %m");
}

// The other process' own descriptor of that number steps aside meanwhile.
static void control_at_number(int set, int operation, int fd, uint32_t events, uint64_t data) {
  const int aside = fcntl(number, F_DUPFD_CLOEXEC, number + 1);
  expect(aside > number && dup3(fd, number, O_CLOEXEC) == number, "moving aside: %m");
  expect(control(set, operation, number, events, data), "epoll_ctl on the program's set: %m");
  expect(dup3(aside, number, O_CLOEXEC) == number, "moving back: %m");
  close(aside);
}

int main(void) {
  begin();
  struct place at;
  int ends[2], fds[2], own[2];
  const int listening = listener(&at);
  make_pair(SOCK_SEQPACKET, ends);
  const pid_t program = start_child();
  if (program == 0) {
    be_the_program(ends[1], &at);
    return holds;
  }
  close(ends[1]);
  make_pair(SOCK_STREAM, own);
  const int own_set = epoll_create1(EPOLL_CLOEXEC);
  expect(dup3(own[0], number, O_CLOEXEC) == number, "dup3: %m");
  close(own[0]);
  expect(control(own_set, EPOLL_CTL_ADD, number, EPOLLIN, own_data), "the own registration: %m");

  const int connection = accepted(listening);
  receive_descriptors(ends[0], fds, 2);
  const int fd = fds[0], set = fds[1];
  wait_until_asleep(program);
  control_at_number(set, EPOLL_CTL_ADD, fd, EPOLLOUT, first_data);
  expect(hear(ends[0]) == 'm' && write(connection, "hello", 5) == 5, "write: %m");
  expect(hear(ends[0]) == 'w', "the program does not get so far");
  control_at_number(set, EPOLL_CTL_DEL, fd, 0, 0);
  say(ends[0], 'g');

  expect_event(own_set, 0, 0, 0);
  say(own[1], 'o');
  expect_event(own_set, patience_ms, EPOLLIN, own_data);
  expect(control(own_set, EPOLL_CTL_DEL, number, 0, 0), "the own registration after moving: %m");
  finish_child(program);
  return holds;
}
