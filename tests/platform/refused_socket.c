// Fact: a non-blocking socket that is taken off its peer with connect(AF_UNSPEC) and then connected to a port of
// loopback that is bound and does not listen is in the state of a natively refused one: what poll, SO_ERROR, read,
// write and a further connect say is the same. Nothing that the program writes reaches the peer that it was taken off,
// nothing that the peer sent before is read, and the second connect after that starts anew.
// Leans on it: agent/attempt.cpp (take_off_the_proxy), preload/connect.cpp (known_socket). Since 2.6 at least.
#include "tests/platform/fact.h"

struct seen {
  int events, errors[2], connects[3];                  // by asking SO_ERROR
  int read_error, write_errors[2], connect_errors[2];  // one socket each: whoever asks first clears the error
};

static int refused(int domain, const struct place* closed, const struct place* peer, int peers_listener) {
  const int fd = tcp_socket(domain, SOCK_NONBLOCK);
  if (peer != NULL) {
    int error = dial(fd, peer);
    expect(error == 0 || error == EINPROGRESS, "connect to the peer: error %d", error);
    const int other = accepted(peers_listener);
    expect(write(other, "no", 2) == 2 && becomes_ready(fd, POLLIN), "the peer's word does not come: %m");
    const struct place nowhere = {.address.ss_family = AF_UNSPEC, .size = sizeof(struct sockaddr)};
    error = dial(fd, &nowhere);
    expect(error == 0, "connect(AF_UNSPEC): error %d", error);
    expect(write(fd, "secret", 6) == -1, "a socket that was taken off its peer takes bytes");
    char byte;
    expect(becomes_ready(other, POLLIN) && read(other, &byte, 1) <= 0, "a byte of the program reached the peer");
    close(other);
  }
  const int error = dial(fd, closed);
  expect(error == EINPROGRESS, "connect to the closed port: error %d", error);
  expect(becomes_ready(fd, POLLOUT), "the closed port does not answer");
  return fd;
}

static int error_of(ssize_t result) { return result == -1 ? errno : 0; }

static struct seen look(int domain, const struct place* closed, const struct place* peer, int peers_listener,
                        const struct place* open) {
  struct seen out = {0};
  char byte;
  int fd = refused(domain, closed, peer, peers_listener);
  struct pollfd one = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
  poll(&one, 1, 0);
  out.events = one.revents;
  for (int i = 0; i < 2; ++i) out.errors[i] = socket_error(fd);
  for (int i = 0; i < 2; ++i) out.connects[i] = dial(fd, open);
  expect(becomes_ready(fd, POLLOUT), "the new attempt does not end");
  out.connects[2] = socket_error(fd);
  close(fd);
  fd = refused(domain, closed, peer, peers_listener);
  out.read_error = error_of(read(fd, &byte, 1));
  close(fd);
  fd = refused(domain, closed, peer, peers_listener);
  for (int i = 0; i < 2; ++i) out.write_errors[i] = error_of(send(fd, "x", 1, 0));
  close(fd);
  fd = refused(domain, closed, peer, peers_listener);
  for (int i = 0; i < 2; ++i) out.connect_errors[i] = dial(fd, open);
  close(fd);
  return out;
}

static void tell(const char* who, const struct seen* s) {
  printf("%s: poll %#x, SO_ERROR %d %d, connect %d %d (%d), read %d, write %d %d, connect at once %d %d\n", who,
         s->events, s->errors[0], s->errors[1], s->connects[0], s->connects[1], s->connects[2], s->read_error,
         s->write_errors[0], s->write_errors[1], s->connect_errors[0], s->connect_errors[1]);
}

static void compare(int domain) {
  struct place closed, open, peer;
  const int unheard = bound_socket(domain, -1, &closed), listening = bound_socket(domain, 16, &open);
  const int peers_listener = bound_socket(domain, 16, &peer);
  if (unheard == -1) {
    printf("no ::1 here: shown for AF_INET only\n");
    return;
  }
  const struct seen wanted = {.events = POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP,
                              .errors = {ECONNREFUSED, 0},
                              .connects = {ECONNABORTED, EINPROGRESS, 0},
                              .read_error = ECONNREFUSED,
                              .write_errors = {ECONNREFUSED, EPIPE},
                              .connect_errors = {ECONNREFUSED, EINPROGRESS}};
  const struct seen native = look(domain, &closed, NULL, -1, &open);
  const struct seen made = look(domain, &closed, &peer, peers_listener, &open);
  const bool same = memcmp(&native, &made, sizeof made) == 0 && memcmp(&wanted, &made, sizeof made) == 0;
  if (!same) {
    tell("wanted", &wanted);
    tell("native", &native);
    tell("made", &made);
    leave(does_not_hold, "family %d: not the same", domain);
  }
  close(unheard);
  close(listening);
  close(peers_listener);
}

int main(void) {
  begin();
  compare(AF_INET);
  compare(AF_INET6);
  return holds;
}
