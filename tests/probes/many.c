/* many THREADS TIMES ADDRESS PORT: each thread connects as often, by turns blocking and non-blocking, reads the
 * server's greeting byte by byte and compares it. Prints ok=N, and one errno=N line per kind of failure. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in target;
static int times;
static atomic_int ok, failed[256];
static pthread_barrier_t start;

static int once(int nonblocking) {
  static const char greeting[] = "220 lab\r\n";
  const int fd = socket(AF_INET, SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0), 0);
  int error = 0;
  if (connect(fd, (struct sockaddr*)&target, sizeof target) != 0) error = errno;
  if (error == EINPROGRESS) {
    struct pollfd one = {fd, POLLOUT, 0};
    socklen_t size = sizeof error;
    if (poll(&one, 1, 20000) != 1) error = ETIMEDOUT;
    else getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  }
  for (size_t i = 0; error == 0 && i < sizeof greeting - 1; ++i) {
    char byte;
    struct pollfd one = {fd, POLLIN, 0};
    if (poll(&one, 1, 20000) != 1 || read(fd, &byte, 1) != 1 || byte != greeting[i]) error = EPROTO;
  }
  close(fd);
  return error;
}

static void* run(void* number) {
  pthread_barrier_wait(&start);
  for (int i = 0; i < times; ++i) {
    const int error = once((int)((long)number + i) % 2);
    ++*(error == 0 ? &ok : &failed[error & 255]);
  }
  return NULL;
}

int main(int argc, char** argv) {
  (void)argc;
  const int threads = atoi(argv[1]);
  times = atoi(argv[2]);
  target.sin_family = AF_INET;
  inet_pton(AF_INET, argv[3], &target.sin_addr);
  target.sin_port = htons((unsigned short)atoi(argv[4]));
  pthread_t each[256];
  pthread_barrier_init(&start, NULL, (unsigned)threads);
  for (long i = 0; i < threads; ++i) pthread_create(&each[i], NULL, run, (void*)i);
  for (int i = 0; i < threads; ++i) pthread_join(each[i], NULL);
  printf("ok=%d\n", ok);
  for (int i = 0; i < 256; ++i)
    if (failed[i] != 0) printf("%s=%d\n", strerror(i), failed[i]);
  return 0;
}
