// Fact: a sock_diag dump needs no privilege and lists the TCP sockets of all users of the network namespace with their
// cookies (SO_COOKIE) as long as they are connected or listen; one that was reset is listed no longer. Two limits: what
// TCP still keeps of a closed socket (FIN_WAIT2 and the like) is listed with its cookie, and an open socket that is
// neither connected nor bound is not listed.
// Leans on it: agent/open_sockets.cpp. Cookies in a dump since 3.3, the same as SO_COOKIE since 4.12.
#include "tests/platform/fact.h"

#include <grp.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

static bool is_listed(uint64_t cookie) {
  static char buffer[64 * 1024] __attribute__((aligned(8)));
  const int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink == -1) leave(cannot_be_shown, "no sock_diag here: %m");
  struct {
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
  } request = {.head = {.nlmsg_len = sizeof request,
                        .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
               .body = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u}};
  expect(send(netlink, &request, sizeof request, 0) == sizeof request, "cannot ask: %m");
  for (bool found = false;;) {
    expect(becomes_ready(netlink, POLLIN), "the dump does not end");
    const ssize_t size = recv(netlink, buffer, sizeof buffer, 0);
    expect(size > 0, "recv: %m");
    unsigned left = (unsigned)size;
    for (struct nlmsghdr* head = (struct nlmsghdr*)buffer; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
      if (head->nlmsg_type == NLMSG_DONE) {
        close(netlink);
        return found;
      }
      if (head->nlmsg_type == NLMSG_ERROR)
        leave(cannot_be_shown, "no dump here: %s", strerror(-((struct nlmsgerr*)NLMSG_DATA(head))->error));
      const struct inet_diag_msg* one = NLMSG_DATA(head);
      found |= (one->id.idiag_cookie[0] | (uint64_t)one->id.idiag_cookie[1] << 32) == cookie;
    }
  }
}

static void become_somebody_else(void) {
  enum { nobody = 65534 };
  if (setgroups(0, NULL) != 0 || setresgid(nobody, nobody, nobody) != 0 || setresuid(nobody, nobody, nobody) != 0)
    leave(cannot_be_shown, "cannot become another user: %m");
}

int main(void) {
  begin();
  struct place at;
  int ends[2];
  make_pair(SOCK_STREAM, ends);
  const pid_t other = start_child();
  if (other == 0) {
    uint64_t cookies[3];
    become_somebody_else();
    if (read(ends[1], cookies, sizeof cookies) != sizeof cookies) return cannot_be_shown;  // it has told why
    expect(is_listed(cookies[0]), "the connected socket of another user is not listed");
    expect(!is_listed(cookies[1]), "a socket without an address is listed");
    say(ends[1], 'l');
    hear(ends[1]);
    expect(!is_listed(cookies[0]), "a closed socket is listed");
    expect(is_listed(cookies[2]), "TCP keeps nothing of a socket whose peer has not closed");
    return holds;
  }
  close(ends[1]);
  // Made after the fork: the other process holds none of them.
  const int listening = listener(&at), fd = tcp_socket(AF_INET, 0), idle = tcp_socket(AF_INET, 0);
  const int polite = tcp_socket(AF_INET, 0);
  expect(dial(fd, &at) == 0, "connect: %m");
  const int peer = accepted(listening);
  expect(dial(polite, &at) == 0, "connect: %m");
  const int peer_of_polite = accepted(listening);
  const uint64_t cookies[3] = {cookie_of(fd), cookie_of(idle), cookie_of(polite)};
  if (write(ends[0], cookies, sizeof cookies) == sizeof cookies && becomes_ready(ends[0], POLLIN)) {
    char byte;
    const struct linger reset = {.l_onoff = 1};  // nothing of it stays in TIME_WAIT
    expect(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0, "SO_LINGER: %m");
    close(fd);
    close(polite);
    if (read(ends[0], &byte, 1) == 1) say(ends[0], 'c');
  }
  close(peer);
  close(peer_of_polite);
  finish_child(other);
  return holds;
}
