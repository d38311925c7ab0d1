// usage: CLIENT [the client's own words] MODE NAME PORT N
//   connect N     one after the other, to the first byte         median_us p99_us
//   lookup N      the same, the name looked up every time        median_us p99_us
//   at_once N     non-blocking, from one epoll loop, to the first byte of each
//                 total_ms, held_ms: the longest turn of the loop, first_errno, stale: events of closed sockets
//                 (errors as well)
//   down BYTES    receives                                       mb_s cpu_ms parent_cpu_ms
//   up BYTES      sends
//   hold N        opens N, says open=N, checks each when stdin ends
// Prints key=value lines; `errors` is always among them.
#include "client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[256 * 1024];

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

// Without TIME_WAIT: thousands of connections to one address would use up its ports.
static void end(int fd) {
  const struct linger at_once = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
}

static void one_by_one(long count, bool every_name) {
  double* took = calloc((size_t)count, sizeof *took);
  long good = 0, errors = 0;
  for (long i = -10; i < count; ++i) {  // the first few are not counted
    const double begin = now_us();
    if (every_name) look_up();
    const int fd = dial();
    char byte;
    const bool works = fd >= 0 && recv(fd, &byte, 1, 0) == 1;
    const double duration = now_us() - begin;
    if (fd >= 0) end(fd);
    if (!works) ++errors;
    else if (i >= 0) took[good++] = duration;
  }
  qsort(took, (size_t)good, sizeof *took, by_size);
  if (good > 0) printf("median_us=%.1f\np99_us=%.1f\n", took[good / 2], took[good * 99 / 100]);
  printf("errors=%ld\n", errors);
  free(took);
}

static bool wait_for(int loop, struct dialling* d, int events, int operation) {
  struct epoll_event event = {.events = (uint32_t)events, .data.ptr = d};
  return epoll_ctl(loop, operation, d->fd, &event) == 0;
}

enum { wants_byte = -100, over };  // steps after the client's own

static long stale;  // events of sockets that were closed: another program would have freed their memory

// One non-blocking connection moves on. True when it is over.
static bool move_on(int loop, struct dialling* d, long* errors, int* first_errno) {
  int wants = -1;
  if (d->step == over) return ++stale, false;
  if (d->step == wants_byte) {
    char byte;
    const ssize_t got = recv(d->fd, &byte, 1, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return false;
    if (got == 1) wants = 0;
    else if (got == 0) errno = ECONNRESET;
  } else if ((wants = dial_go_on(d)) == 0) {
    d->step = wants_byte;
    wants = EPOLLIN;
  }
  if (wants > 0 && wait_for(loop, d, wants, EPOLL_CTL_MOD)) return false;
  if (wants != 0) {
    ++*errors;
    if (*first_errno == 0) *first_errno = errno;
  }
  d->step = over;
  end(d->fd);
  return true;
}

static void at_once(long count) {
  struct dialling* all = calloc((size_t)count, sizeof *all);
  struct epoll_event events[256];
  const int loop = epoll_create1(EPOLL_CLOEXEC);
  long open = 0, errors = 0;
  int first_errno = 0;
  const double begin = now_us();
  double turn = begin, held = 0;
  for (long i = 0; i < count; ++i) {
    const int wants = dial_begin(&all[i]);
    if (wants > 0 && wait_for(loop, &all[i], wants, EPOLL_CTL_ADD)) {
      ++open;
      continue;
    }
    if (wants == 0) {
      all[i].step = wants_byte;
      if (wait_for(loop, &all[i], EPOLLIN, EPOLL_CTL_ADD)) {
        ++open;
        continue;
      }
    }
    ++errors;
    if (first_errno == 0) first_errno = errno;
    if (all[i].fd >= 0) end(all[i].fd);
  }
  while (open > 0) {
    if (now_us() - turn > held) held = now_us() - turn;
    const int ready = epoll_wait(loop, events, 256, 20000);
    turn = now_us();
    if (ready <= 0) {
      errors += open;
      break;
    }
    for (int i = 0; i < ready; ++i)
      if (move_on(loop, events[i].data.ptr, &errors, &first_errno)) --open;
  }
  if (now_us() - turn > held) held = now_us() - turn;
  printf("total_ms=%.2f\nheld_ms=%.2f\nerrors=%ld\nstale=%ld\nfirst_errno=%d\n", (now_us() - begin) / 1e3, held / 1e3,
         errors + stale, stale, first_errno);
  if (stale > 0) fprintf(stderr, "%ld events of closed sockets\n", stale);
  free(all);
}

// The agent is the parent of the program that it serves.
static double parent_cpu_ms(void) {
  char path[64];
  unsigned long long nanoseconds = 0;
  snprintf(path, sizeof path, "/proc/%d/schedstat", (int)getppid());
  FILE* file = fopen(path, "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%llu", &nanoseconds) != 1) nanoseconds = 0;
  fclose(file);
  return (double)nanoseconds / 1e6;
}

static double own_cpu_ms(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
}

static void move_bytes(long long count, bool down) {
  const int fd = dial();
  if (fd < 0) {
    printf("errors=1\nfirst_errno=%d\n", errno);
    return;
  }
  const double begin = now_us(), cpu = own_cpu_ms(), parent = parent_cpu_ms();
  long long left = count;
  while (left > 0) {
    const size_t size = left < (long long)sizeof buffer ? (size_t)left : sizeof buffer;
    const ssize_t moved = down ? recv(fd, buffer, size, 0) : send(fd, buffer, size, MSG_NOSIGNAL);
    if (moved <= 0) break;
    left -= moved;
  }
  printf("mb_s=%.0f\ncpu_ms=%.1f\nparent_cpu_ms=%.2f\nerrors=%d\n", (double)(count - left) / (now_us() - begin),
         own_cpu_ms() - cpu, parent_cpu_ms() - parent, left > 0);
  end(fd);
}

static void hold(long count) {
  int* all = calloc((size_t)count, sizeof *all);
  long open = 0, wrong = 0;
  while (open < count && (all[open] = dial()) >= 0) ++open;
  printf("open=%ld\n", open);
  fflush(stdout);
  while (read(0, buffer, sizeof buffer) > 0) continue;
  for (long i = 0; i < open; ++i) {
    char byte = 'a';
    if (send(all[i], &byte, 1, MSG_NOSIGNAL) != 1 || recv(all[i], &byte, 1, 0) != 1 || byte != 'a') ++wrong;
  }
  printf("errors=%ld\n", count - open + wrong);
  free(all);
}

int main(int argc, char** argv) {
  if (argc < 5) return fprintf(stderr, "usage: CLIENT [...] MODE NAME PORT N\n"), 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const struct target target = {argv[argc - 3], (uint16_t)atoi(argv[argc - 2])};
  const char* mode = argv[argc - 4];
  const long long count = atoll(argv[argc - 1]);
  if (prepare(argc - 5, argv + 1, target) != argc - 5) return fprintf(stderr, "wrong arguments\n"), 2;
  if (strcmp(mode, "connect") == 0) one_by_one((long)count, false);
  else if (strcmp(mode, "lookup") == 0) one_by_one((long)count, true);
  else if (strcmp(mode, "at_once") == 0) at_once((long)count);
  else if (strcmp(mode, "down") == 0) move_bytes(count, true);
  else if (strcmp(mode, "up") == 0) move_bytes(count, false);
  else if (strcmp(mode, "hold") == 0) hold((long)count);
  else return fprintf(stderr, "no such mode\n"), 2;
  return 0;
}
