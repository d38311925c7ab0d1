/* around WAY [WORD...] ADDRESS PORT: a connect that a supervisor could lose sight of. Prints 0 or the errno.
 *   leader   from a thread whose process's first thread has ended
 *   table    from a thread with a table of descriptors of its own
 *   many     as many non-blocking ones at once as there are descriptors; prints the worst
 *   (else)   from the first thread; the words in between are what scripts add
 *   storm    from eight processes, half of which are interrupted by timers all the time; prints how many ended */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in target;

static int attempt(int flags) {
  const int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
  if (fd < 0) return errno;
  return connect(fd, (struct sockaddr*)&target, sizeof target) == 0 ? 0 : errno;
}

static void* in_thread(void* leader) {
  if (leader != NULL) pthread_join(*(pthread_t*)leader, NULL);
  else if (unshare(CLONE_FILES) != 0) exit(125);
  printf("%d\n", attempt(0));
  fflush(stdout);
  _exit(0);
}

static void handle(int number) { (void)number; }

/* Odd ones hear nothing of signals, and must end all the same. */
static void storming(int number) {
  struct sigaction action = {.sa_handler = handle};
  sigaction(SIGALRM, &action, NULL);
  srand((unsigned)number);
  for (int i = 0; i < 40; ++i) {
    const struct itimerval soon = {{0, 0}, {0, 22000 + rand() % 8000}}, never = {{0, 0}, {0, 0}};
    if (number % 2 == 0) setitimer(ITIMER_REAL, &soon, NULL);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)!connect(fd, (struct sockaddr*)&target, sizeof target);
    setitimer(ITIMER_REAL, &never, NULL);
    close(fd);
  }
  _exit(0);
}

int main(int argc, char** argv) {
  static pthread_t self, thread;
  if (argc < 4) return 125;
  target.sin_family = AF_INET;
  target.sin_addr.s_addr = inet_addr(argv[argc - 2]);
  target.sin_port = htons((unsigned short)atoi(argv[argc - 1]));
  if (strcmp(argv[1], "leader") == 0 || strcmp(argv[1], "table") == 0) {
    self = pthread_self();
    if (pthread_create(&thread, NULL, in_thread, strcmp(argv[1], "leader") == 0 ? &self : NULL) != 0) return 125;
    if (strcmp(argv[1], "leader") == 0) pthread_exit(NULL);
    pthread_join(thread, NULL);
  } else if (strcmp(argv[1], "many") == 0) {
    int worst = 0;
    for (int i = 0; i < 80; ++i) {
      const int error = attempt(SOCK_NONBLOCK);
      if (error == 0) worst = -1;
    }
    printf("%d\n", worst);
  } else if (strcmp(argv[1], "storm") != 0) {
    printf("%d\n", attempt(0));
  } else {
    int ended = 0, status;
    for (int i = 0; i < 8; ++i)
      if (fork() == 0) storming(i);
    while (wait(&status) > 0) ended += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%d\n", ended);
  }
  return 0;
}
