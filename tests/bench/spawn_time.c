// How long a command takes from start to end. usage: spawn_time N COMMAND...: median_us, errors.
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char** environ;

static int by_size(const void* a, const void* b) {
  const double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const int count = atoi(argv[1]);
  double* took = calloc((size_t)count, sizeof *took);
  int errors = 0;
  for (int i = 0; i < count; ++i) {
    struct timespec begin, end;
    pid_t pid;
    int status = 0;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ) != 0 || waitpid(pid, &status, 0) != pid) status = -1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    errors += status != 0;
    took[i] = (double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3;
  }
  qsort(took, (size_t)count, sizeof *took, by_size);
  printf("median_us=%.1f\nerrors=%d\n", took[count / 2], errors);
  free(took);
  return 0;
}
