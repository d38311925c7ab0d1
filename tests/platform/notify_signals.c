// Fact: a signal whose handler runs ends a held call: its number is no longer valid, answering gives ENOENT, and with
// SA_RESTART the call comes again as a new notification. With WAIT_KILLABLE_RECV, once received, the handler waits
// until the call is answered, and only what kills ends it. Leans on it: the supervisor, for Go's preemption by SIGURG
// and for alarm() around connect. Since 5.19.
#include "tests/platform/notify.h"

static volatile sig_atomic_t handled;

static void handler(int number) { (void)number, ++handled; }

static void handle(int flags) {
  const struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  expect(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction: %m");
}

static pid_t caller(int expected, int handler_flags) {
  const pid_t child = start_child();
  if (child != 0) return child;
  handle(handler_flags);
  const long result = trapped_call();
  const int seen = result == -1 ? errno : 0;
  expect(seen == expected, "the call: %d", seen);
  expect(handled == 1, "the handler ran %d times", (int)handled);
  exit(holds);
}

static void without_the_flag(int listener) {
  pid_t child = caller(EINTR, 0);
  uint64_t id = received(listener).id;
  kill(child, SIGUSR1);
  finish_child(child);
  expect(!valid(listener, id), "the number of an interrupted call is valid");
  expect(answered(listener, id, 0, 0) == ENOENT, "SEND to an interrupted call: %m");

  child = caller(0, SA_RESTART);
  id = received(listener).id;
  kill(child, SIGUSR1);
  const uint64_t again = received(listener).id;
  expect(again != id && !valid(listener, id), "the restarted call has the old number");
  expect(answered(listener, again, 0, 0) == 0, "SEND: %m");
  finish_child(child);
}

// The State and ShdPnd lines of /proc/PID/status.
static void look(pid_t pid, char* state, unsigned long long* pending) {
  char path[64], line[256];
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  FILE* file = fopen(path, "re");
  expect(file != NULL, "%s: %m", path);
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "State:\t", 7) == 0) *state = line[7];
    if (strncmp(line, "ShdPnd:\t", 8) == 0) *pending = strtoull(line + 8, NULL, 16);
  }
  fclose(file);
}

static void wait_until_held(pid_t pid) {
  char state = 0;
  unsigned long long pending;
  for (int looks = 0; looks < patience_ms && state != 'D'; ++looks) {
    look(pid, &state, &pending);
    if (state != 'D') poll(NULL, 0, 1);
  }
  expect(state == 'D', "process %d is in state %c", pid, state);
}

static void with_the_flag(void) {
  const int listener = trap(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  pid_t child = caller(0, 0);
  uint64_t id = received(listener).id;
  kill(child, SIGUSR1);
  wait_until_held(child);
  char state = 0;
  unsigned long long pending = 0;
  look(child, &state, &pending);
  expect(state == 'D' && pending == 1ull << (SIGUSR1 - 1), "state %c with %llx pending", state, pending);
  expect(valid(listener, id), "the call ended by a signal");
  expect(answered(listener, id, 0, 0) == 0, "SEND: %m");
  finish_child(child);

  child = caller(0, 0);
  id = received(listener).id;
  kill(child, SIGKILL);
  int status;
  expect(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "SIGKILL does not end a held call");
  expect(!valid(listener, id), "the number of a killed caller is valid");
}

int main(void) {
  begin();
  const pid_t first = start_child();
  if (first == 0) {
    without_the_flag(trap(0));
    return holds;
  }
  finish_child(first);
  with_the_flag();
  return holds;
}
