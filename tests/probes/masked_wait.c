// pselect or ppoll on a socket whose connect is pending, with a mask that lets SIGALRM in only while it waits:
// once with the signal already pending, once with one that comes during the wait.
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t handled;
static void on_alarm(int number) {
  (void)number;
  ++handled;
}

static const char* word(int result) {
  return result == 0 ? "timeout" : result > 0 ? "ready" : errno == EINTR ? "EINTR" : strerror(errno);
}

static int wait_for(int fd, const char* how, const sigset_t* mask) {
  const struct timespec limit = {20, 0};
  if (strcmp(how, "ppoll") == 0) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    return ppoll(&one, 1, &limit, mask);
  }
  fd_set out;
  FD_ZERO(&out);
  FD_SET(fd, &out);
  return pselect(fd + 1, NULL, &out, NULL, &limit, mask);
}

int main(int count, char** words) {
  if (count < 2) return 2;
  struct addrinfo* found;
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  if (getaddrinfo("db.example", "9", &hints, &found) != 0) return 3;
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, NULL);
  sigset_t blocked, inside;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGALRM);
  sigprocmask(SIG_BLOCK, &blocked, &inside);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int result = connect(fd, found->ai_addr, found->ai_addrlen);
  printf("connect=%s\n", result == -1 && errno == EINPROGRESS ? "EINPROGRESS" : "other");
  raise(SIGALRM);
  printf("early=%s\n", word(wait_for(fd, words[1], &inside)));
  const struct itimerval soon = {.it_value = {0, 50000}};
  setitimer(ITIMER_REAL, &soon, NULL);
  printf("late=%s\n", word(wait_for(fd, words[1], &inside)));
  printf("handled=%d\n", (int)handled);
  return 0;
}
