// Fact: MSG_PEEK takes nothing, and a receive of exactly the reply's bytes leaves what follows in the same segment for
// the other holder of the socket, whose poll sees it.
// Leans on it: agent/attempt.cpp (carrier_peek, carrier_take): servers that speak first do so right behind the reply.
#include "tests/platform/fact.h"

static const char reply[] = "HTTP/1.1 200 OK\r\n\r\n", payload[] = "SSH-2.0-first\r\n";

int main(void) {
  begin();
  enum { reply_size = sizeof reply - 1, payload_size = sizeof payload - 1 };
  struct place at;
  int ends[2];
  char bytes[256];
  const int listening = listener(&at), fd = tcp_socket(AF_INET, 0);
  expect(dial(fd, &at) == 0, "connect: %m");
  const int proxy = accepted(listening);
  make_pair(SOCK_STREAM, ends);
  const pid_t program = start_child();
  if (program == 0) {
    hear(ends[1]);
    expect(becomes_ready(fd, POLLIN), "poll of the other holder sees nothing");
    const ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    expect(size == payload_size && memcmp(bytes, payload, payload_size) == 0, "the other holder reads %zd bytes: %.*s",
           size, size > 0 ? (int)size : 0, bytes);
    return holds;
  }
  snprintf(bytes, sizeof bytes, "%s%s", reply, payload);
  expect(write(proxy, bytes, reply_size + payload_size) == reply_size + payload_size, "write: %m");
  for (int look = 0; look < 2; ++look) {
    memset(bytes, 0, sizeof bytes);
    expect(becomes_ready(fd, POLLIN), "nothing arrives");
    const ssize_t seen = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    expect(seen == reply_size + payload_size, "look %d sees %zd bytes", look, seen);
    expect(strcmp(bytes + reply_size, payload) == 0, "look %d sees other bytes", look);
  }
  expect(recv(fd, bytes, reply_size, MSG_DONTWAIT) == reply_size, "the reply cannot be taken: %m");
  expect(memcmp(bytes, reply, reply_size) == 0, "not the reply was taken");
  say(ends[0], 'g');
  finish_child(program);
  return holds;
}
