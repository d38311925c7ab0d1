/* starts HOW [-i] PROGRAM ARGUMENT...: starts another program by the libc function HOW; -i: with an empty environment,
 * where the function takes one. exec functions replace this process, the others wait for a child and take its status.
 * Prints failed=ERRNO when the function says so. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

static int ended(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

static int waited(pid_t child) {
  int status = 0;
  return waitpid(child, &status, 0) == child ? ended(status) : 125;
}

static const char* joined(char** words) {
  static char line[4096];
  for (; *words != NULL; ++words) strcat(strcat(strcat(line, " '"), *words), "'");
  return line;
}

static int by_pipe(char** words) {
  FILE* from = popen(joined(words), "r");
  if (from == NULL) return errno;
  for (int byte; (byte = fgetc(from)) != EOF;) putchar(byte);
  fflush(stdout);
  exit(ended(pclose(from)));
}

static int by_spawn(const char* how, char** words, char** environment) {
  pid_t child;
  const int search = strcmp(how, "posix_spawnp") == 0;
  const int failed = (search ? posix_spawnp : posix_spawn)(&child, words[0], NULL, NULL, words, environment);
  if (failed == 0) exit(waited(child));
  return failed;
}

static int by_vfork(char** words, char** environment) {
  volatile int failed = 0;
  const pid_t child = vfork();
  if (child == 0) {
    execve(words[0], words, environment);
    failed = errno;
    _exit(126);
  }
  const int status = waited(child);
  if (failed == 0) exit(status);
  return failed;
}

/* The list functions get up to four words behind the name; what is behind the last one is not looked at. */
static int start(const char* how, char** words, char** environment) {
  char* a[5] = {NULL, NULL, NULL, NULL, NULL};
  for (int i = 0; i < 5 && words[i] != NULL; ++i) a[i] = words[i];
  if (strcmp(how, "system") == 0) exit(ended(system(joined(words))));
  if (strcmp(how, "popen") == 0) return by_pipe(words);
  if (strncmp(how, "posix_spawn", 11) == 0) return by_spawn(how, words, environment);
  if (strcmp(how, "vfork") == 0) return by_vfork(words, environment);
  if (strcmp(how, "execl") == 0) execl(a[0], a[0], a[1], a[2], a[3], a[4], (char*)NULL);
  if (strcmp(how, "execlp") == 0) execlp(a[0], a[0], a[1], a[2], a[3], a[4], (char*)NULL);
  if (strcmp(how, "execle") == 0) {
    if (a[4] == NULL) execle(a[0], a[0], a[1], a[2], a[3], (char*)NULL, environment);
    errno = E2BIG;
  }
  if (strcmp(how, "execv") == 0) execv(a[0], words);
  if (strcmp(how, "execvp") == 0) execvp(a[0], words);
  if (strcmp(how, "execve") == 0) execve(a[0], words, environment);
  if (strcmp(how, "execvpe") == 0) execvpe(a[0], words, environment);
  if (strcmp(how, "fexecve") == 0) fexecve(open(a[0], O_RDONLY | O_CLOEXEC), words, environment);
  if (strcmp(how, "syscall") == 0) syscall(SYS_execve, a[0], words, environment);
#ifdef __GLIBC__
  if (strcmp(how, "execveat") == 0) execveat(AT_FDCWD, a[0], words, environment, 0);
#endif
  return errno;
}

int main(int argc, char** argv) {
  static char* none[] = {NULL};
  const int empty = argc > 3 && strcmp(argv[2], "-i") == 0;
  if (argc < 3 + empty) return 2;
  errno = ENOSYS;
  printf("failed=%d\n", start(argv[1], argv + 2 + empty, empty ? none : environ));
  return 126;
}
