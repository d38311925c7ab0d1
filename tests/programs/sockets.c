/* What programs without libc's help in the middle do with sockets. Linked statically, against glibc and against musl.
 *
 *   get HOW HOST PORT PATH    prints the answer; HOW is blocking, poll, select, epoll, epoll-first or fastopen
 *   alarm ADDRESS PORT        connect in a program of one thread, interrupted by SIGALRM without SA_RESTART: prints
 * errno= rewrite A B PORT TIMES    connects while another thread changes the address from A to B and back: prints how
 * often each answered, by the banner that it sends foreign ADDRESS PORT      connect by the entries of other ABIs: int
 * 0x80, and x32 numbers count TIMES               socket and close exec PROGRAM ARGUMENT...  in a child; its status
 * becomes this one's */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { patience_ms = 30000 };

static struct sockaddr_in numeric(const char* host, const char* port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, host, &to.sin_addr);
  return to;
}

static int so_error(int fd) {
  int error = -1;
  socklen_t size = sizeof error;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

/* Until the connect of a non-blocking socket has ended. */
static int wait_writable(int fd, const char* how, int loop) {
  struct epoll_event event = {.events = EPOLLOUT};
  if (strcmp(how, "poll") == 0) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    return poll(&one, 1, patience_ms) == 1;
  }
  if (strcmp(how, "select") == 0) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval limit = {.tv_sec = patience_ms / 1000};
    return select(fd + 1, NULL, &set, NULL, &limit) == 1;
  }
  if (strcmp(how, "epoll") == 0 && epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) return 0;
  return epoll_wait(loop, &event, 1, patience_ms) == 1;
}

static int connected(const struct sockaddr* to, socklen_t size, const char* how, const char* early) {
  const int blocking = strcmp(how, "blocking") == 0 || strcmp(how, "fastopen") == 0;
  const int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
  const int loop = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
  if (strcmp(how, "epoll-first") == 0) {
    epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    epoll_wait(loop, &event, 1, 0); /* HUP, as every unconnected socket shows */
  }
  if (strcmp(how, "fastopen") == 0) {
    if (sendto(fd, early, strlen(early), MSG_FASTOPEN, to, size) == (ssize_t)strlen(early)) return fd;
    if (errno != EOPNOTSUPP) return -1;
    fprintf(stderr, "no fast open\n");
  }
  int failed = connect(fd, to, size) == 0 ? 0 : errno;
  if (failed == EINPROGRESS && !blocking) failed = wait_writable(fd, how, loop) ? so_error(fd) : ETIMEDOUT;
  close(loop);
  errno = failed;
  if (failed == 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0) {
    for (const char* at = early; *at != 0;) at += write(fd, at, strlen(at));
    return fd;
  }
  return -1;
}

static int get(char** words) {
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found;
  const int unknown = getaddrinfo(words[1], words[2], &hints, &found);
  if (unknown != 0) return printf("lookup=%s\n", gai_strerror(unknown)), 1;
  char text[1024];
  snprintf(text, sizeof text, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", words[3], words[1]);
  const int fd = connected(found->ai_addr, found->ai_addrlen, words[0], text);
  freeaddrinfo(found);
  if (fd == -1) return printf("errno=%d\n", errno), 1;
  struct sockaddr_in peer;
  socklen_t size = sizeof peer;
  if (getpeername(fd, (struct sockaddr*)&peer, &size) == 0) printf("connected=%s\n", inet_ntoa(peer.sin_addr));
  ssize_t count;
  while ((count = read(fd, text, sizeof text)) > 0) fwrite(text, 1, (size_t)count, stdout);
  return count != 0;
}

static void ring(int number) { (void)number; }

static int alarmed(char** words) {
  const struct sigaction action = {.sa_handler = ring};
  sigaction(SIGALRM, &action, NULL);
  const struct sockaddr_in to = numeric(words[0], words[1]);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  /* Again and again: one that came before the connect would interrupt nothing. */
  const struct itimerval every = {.it_interval = {.tv_usec = 200000}, .it_value = {.tv_usec = 200000}};
  setitimer(ITIMER_REAL, &every, NULL);
  const int result = connect(fd, (const struct sockaddr*)&to, sizeof to);
  printf("errno=%d\n", result == 0 ? 0 : errno);
  return 0;
}

static struct sockaddr_in shared;
static struct in_addr choices[2];
static atomic_int finished;

static void* rewrite_address(void* unused) {
  volatile struct sockaddr_in* target = &shared;
  for (unsigned turn = 0; !finished; ++turn) target->sin_addr.s_addr = choices[turn & 1].s_addr;
  return unused;
}

static int rewritten(char** words) {
  const int times = atoi(words[3]);
  int answers[256] = {0}, failures = 0;
  shared = numeric(words[0], words[2]);
  choices[0] = shared.sin_addr;
  inet_pton(AF_INET, words[1], &choices[1]);
  pthread_t thread;
  pthread_create(&thread, NULL, rewrite_address, NULL);
  for (int i = 0; i < times; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unsigned char banner;
    if (connect(fd, (const struct sockaddr*)&shared, sizeof shared) == 0 && read(fd, &banner, 1) == 1)
      ++answers[banner]; /* whoever answered says who it is */
    else ++failures;
    close(fd);
  }
  finished = 1;
  pthread_join(thread, NULL);
  for (int i = 0; i < 256; ++i)
    if (answers[i] != 0) printf("%c=%d\n", i, answers[i]);
  printf("failures=%d\n", failures);
  return 0;
}

#if defined(__x86_64__)
/* Each in a child: where the kernel does not have that entry, the instruction itself is a fault. */
static void try_entry(const char* name, long number, const struct sockaddr_in* to) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    uint32_t* arguments = (uint32_t*)(to + 1);
    arguments[0] = (uint32_t)fd, arguments[1] = (uint32_t)(uintptr_t)to, arguments[2] = sizeof *to;
    const int by_array = number == 102;
    const long one = by_array ? 3 : fd, two = by_array ? (long)(uintptr_t)arguments : (long)(uintptr_t)to;
    long result = number;
    if (number < 0x40000000)
      __asm__ volatile("int $0x80" : "+a"(result) : "b"(one), "c"(two), "d"(sizeof *to) : "memory");
    else __asm__ volatile("syscall" : "+a"(result) : "D"(one), "S"(two), "d"(sizeof *to) : "memory", "rcx", "r11");
    printf("%s=%d\n", name, (int)result);
    exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) printf("%s=signal\n", name);
}
#endif

static int foreign(char** words) {
  /* Below 4 GB, where the entry of 32-bit programs can point to. */
  struct sockaddr_in* to = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  if (to == MAP_FAILED) return perror("mmap"), 1;
  *to = numeric(words[0], words[1]);
#if defined(__x86_64__)
  try_entry("i386_connect", 362, to);
  try_entry("i386_socketcall", 102, to);
  try_entry("x32_connect", 0x40000000 + 42, to);
#endif
  return 0;
}

static int count(char** words) {
  int failures = 0;
  for (int i = atoi(words[0]); i > 0; --i) {
    const int fd = socket(i & 1 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    failures += fd == -1 || close(fd) != 0;
  }
  return printf("failures=%d\n", failures), failures != 0;
}

static int run(char** words) {
  const pid_t child = fork();
  if (child == 0) {
    execvp(words[0], words);
    printf("exec=%d\n", errno);
    exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    int words;
    int (*what)(char**);
  } commands[] = {{"get", 4, get},         {"alarm", 2, alarmed}, {"rewrite", 4, rewritten},
                  {"foreign", 2, foreign}, {"count", 1, count},   {"exec", 1, run}};
  signal(SIGPIPE, SIG_IGN);
  for (size_t i = 0; argc > 2 && i < sizeof commands / sizeof *commands; ++i)
    if (strcmp(argv[1], commands[i].name) == 0 && argc - 2 >= commands[i].words) return commands[i].what(argv + 2);
  fprintf(stderr, "usage: see the head of sockets.c\n");
  return 2;
}
