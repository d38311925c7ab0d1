// Fact: who has received a FIN reads what came before it and then an end, and no error, also when a reset comes right
// behind. The side that sent both keeps no TIME_WAIT: its port can be bound again at once. Leans on it:
// agent/inbound_doors.cpp (close_without_trace).
#include "tests/platform/fact.h"

int main(void) {
  begin();
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  expect(bind(listener, (struct sockaddr*)&at, size) == 0 && listen(listener, 8) == 0, "listen: %m");
  expect(getsockname(listener, (struct sockaddr*)&at, &size) == 0, "getsockname: %m");
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  expect(connect(client, (struct sockaddr*)&at, size) == 0, "connect: %m");
  struct sockaddr_in own;
  size = sizeof own;
  expect(getsockname(client, (struct sockaddr*)&own, &size) == 0, "getsockname: %m");
  const int server = accept(listener, NULL, NULL);
  expect(server != -1, "accept: %m");
  expect(send(client, "data", 4, 0) == 4, "send: %m");
  const struct linger now = {1, 0};
  expect(shutdown(client, SHUT_WR) == 0 && setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0,
         "shutdown: %m");
  close(client);
  char room[16];
  expect(recv(server, room, sizeof room, 0) == 4, "the data is gone: %m");
  const ssize_t end = recv(server, room, sizeof room, 0);
  expect(end == 0, "instead of an end: %m");
  const int again = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  expect(bind(again, (struct sockaddr*)&own, sizeof own) == 0, "the port is still in use: %m");
  leave(holds, "an end and no error, and no TIME_WAIT");
}
