#include "launcher/descriptors.h"

#include <algorithm>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace towpath {

namespace {

// Also where there is no /dev.
int open_nothing() {
  const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  return fd != -1 ? fd : memfd_create("towpath-null", MFD_CLOEXEC);
}

}  // namespace

void occupy_standard_descriptors() {
  for (const int fd : {0, 1, 2})
    if (fcntl(fd, F_GETFD) == -1) (void)open_nothing();  // takes the lowest free number, which is this one
}

void silence(int fd) {
  UniqueFd nothing(open_nothing());
  if (nothing.get() != fd) dup2(nothing.get(), fd);
  else (void)nothing.release();
}

void close_all_but(std::vector<int> wanted) {
  std::sort(wanted.begin(), wanted.end());
  unsigned first = 3;
  for (const int fd : wanted) {
    if (fd < 3) continue;
    if (static_cast<unsigned>(fd) > first) syscall(SYS_close_range, first, static_cast<unsigned>(fd) - 1, 0);
    first = static_cast<unsigned>(fd) + 1;
  }
  syscall(SYS_close_range, first, ~0u, 0);
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

bool enough_descriptors(const rlimit& limit, std::string& why) {
  constexpr rlim_t least = 40;
  if (limit.rlim_max >= least) return true;
  why = "the hard limit of open files (ulimit -Hn) is " + std::to_string(limit.rlim_max) + ", and towpath needs " +
        std::to_string(least);
  return false;
}

bool raise_stack_limit(std::string& why) {
  // A buffer of 64 KB for a name server's message, and what stands above it. The kernel looks at the limit of now when
  // a stack grows.
  constexpr rlim_t wanted = 1024 * 1024, least = 256 * 1024;
  rlimit limit{};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= wanted) return true;
  limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
  if (limit.rlim_cur >= least) return setrlimit(RLIMIT_STACK, &limit) == 0;
  why = "the hard limit of the stack (ulimit -Hs) is " + std::to_string(limit.rlim_max / 1024) +
        " KB, and the agent needs " + std::to_string(least / 1024);
  return false;
}

}  // namespace towpath
