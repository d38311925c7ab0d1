// Fact: rt_sigprocmask with an impossible `how` copies the eight bytes of the set in and then gives up: EFAULT when
// they cannot be read, else EINVAL, and the mask is what it was. (A null set is not copied: success.)
// Leans on it: preload/process.cpp (readable). Since 2.2.
#include "tests/platform/fact.h"

#include <sys/mman.h>
#include <sys/syscall.h>

static int probe(const void* at) {
  enum { impossible = 99, set_size = 8 };
  return syscall(SYS_rt_sigprocmask, impossible, at, NULL, set_size) == -1 ? errno : 0;
}

static void expect_error(const char* what, const void* at, int wanted) {
  const int seen = probe(at);
  expect(seen == wanted, "%s: error %d, not %d", what, seen, wanted);
}

int main(void) {
  begin();
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char* const pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  expect(pages != MAP_FAILED, "mmap: %m");
  memset(pages, 0xff, page);  // as a set it would block everything
  expect(mprotect(pages + page, page, PROT_NONE) == 0, "mprotect: %m");
  expect(mprotect(pages + 2 * page, page, PROT_READ) == 0, "mprotect: %m");
  expect(munmap(pages + 3 * page, page) == 0, "munmap: %m");
  sigset_t before, after;
  sigemptyset(&before);
  sigaddset(&before, SIGUSR2);
  sigprocmask(SIG_SETMASK, &before, NULL);
  sigprocmask(SIG_SETMASK, NULL, &before);

  expect_error("readable", pages, EINVAL);
  expect_error("the last eight bytes before an unreadable page", pages + page - 8, EINVAL);
  expect_error("one byte over", pages + page - 7, EFAULT);
  expect_error("no access", pages + page, EFAULT);
  expect_error("read only, never touched", pages + 2 * page, EINVAL);
  expect_error("not mapped", pages + 3 * page, EFAULT);
  expect_error("the last bytes of the address space", (const void*)(uintptr_t)-8, EFAULT);
  expect_error("an odd address", pages + 1, EINVAL);
  expect_error("null", NULL, 0);

  sigprocmask(SIG_SETMASK, NULL, &after);
  for (int number = 1; number < NSIG; ++number)
    expect(sigismember(&before, number) == sigismember(&after, number), "the probe changed the mask of %d", number);
  return holds;
}
