// Puts itself under a filter that kills at every system call but the few that it makes itself, and then makes them: a
// hook that asks the kernel for more ends it with SIGSYS. Before that it has done as its tree does: a look-up, a connect.
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

// linux/filter.h and linux/seccomp.h, which musl-gcc does not find.
struct instruction {
  unsigned short code;
  unsigned char yes, no;
  unsigned value;
};
struct program {
  unsigned short size;
  const struct instruction* first;
};
enum { load = 0x20, equal = 0x15, verdict = 0x06, filter_mode = 2 };
static const unsigned allow = 0x7fff0000u, kill_process = 0x80000000u;

static const int allowed[] = {
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_read, SYS_write, SYS_close, SYS_exit_group, SYS_rt_sigreturn,
#ifdef SYS_epoll_wait
    SYS_epoll_wait, SYS_poll,
#endif
};

static int lock_up(void) {
  struct instruction code[64];
  unsigned short n = 0;
  code[n++] = (struct instruction){load, 0, 0, 0};  // the call's number
  for (size_t i = 0; i < sizeof allowed / sizeof *allowed; ++i) {
    code[n++] = (struct instruction){equal, 0, 1, (unsigned)allowed[i]};
    code[n++] = (struct instruction){verdict, 0, 0, allow};
  }
  code[n++] = (struct instruction){verdict, 0, 0, kill_process};
  const struct program filter = {n, code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, filter_mode, &filter) == 0;
}

int main(void) {
  // A connect that ends at once: the process knows the tree's page from here on.
  const struct sockaddr_in there = {
      .sin_family = AF_INET, .sin_port = htons(23), .sin_addr = {inet_addr("192.0.2.8")}};
  const int first = socket(AF_INET, SOCK_STREAM, 0);
  const int result = connect(first, (const struct sockaddr*)&there, sizeof there);
  close(first);
  int pipe_ends[2];
  const int set = epoll_create1(0), tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct epoll_event* event = malloc(sizeof *event);
  struct pollfd* one = malloc(sizeof *one);
  if (pipe(pipe_ends) != 0 || set < 0 || tcp < 0 || !event || !one || !lock_up()) return 2;
  char text[64];
  for (int i = 0; i < 100; ++i) {
    *event = (struct epoll_event){.events = EPOLLIN};
    if (epoll_ctl(set, EPOLL_CTL_ADD, pipe_ends[0], event) != 0) return 3;
    if (epoll_ctl(set, EPOLL_CTL_ADD, tcp, event) != 0) return 4;
    if (write(pipe_ends[1], "x", 1) != 1 || epoll_wait(set, event, 1, 0) != 1) return 5;
    *one = (struct pollfd){.fd = pipe_ends[0], .events = POLLIN};
    if (poll(one, 1, 0) != 1 || read(pipe_ends[0], text, sizeof text) != 1) return 6;
    if (epoll_ctl(set, EPOLL_CTL_MOD, tcp, event) != 0 || epoll_ctl(set, EPOLL_CTL_DEL, tcp, event) != 0) return 7;
    if (epoll_ctl(set, EPOLL_CTL_DEL, pipe_ends[0], event) != 0) return 8;
  }
  close(tcp);
  const int size = snprintf(text, sizeof text, "through connect=%d\n", result);
  return write(1, text, (size_t)size) == size ? 0 : 9;
}
