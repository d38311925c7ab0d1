#include "launcher/doctor/child.h"

#include <cerrno>

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace towpath::doctor {

pid_t Child::begin() noexcept {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  signal(SIGALRM, SIG_DFL);
  alarm(patience_seconds);  // stays over an exec
  return 0;
}

void Child::end() noexcept { _exit(0); }

Child::~Child() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) == -1 && errno == EINTR) {
  }
}

int become(uid_t user) noexcept {
  if (user == geteuid()) return 0;
  if (setgroups(0, nullptr) != 0 || setgid(user) != 0 || setuid(user) != 0) return errno;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of user takes it away
  prctl(PR_SET_DUMPABLE, 1);
  return 0;
}

}  // namespace towpath::doctor
