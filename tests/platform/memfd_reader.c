// Fact: a memfd that is opened again with O_RDONLY through /proc/self/fd is a descriptor that cannot be written, mapped
// writable or made writable by mprotect, in whichever process it ends up, and that shows what its owner writes later.
// This keeps accidents out, not an enemy of the same user: that one can open it through /proc once more.
// Leans on it: agent/page_writer.cpp (adopt), preload/process.cpp (page). Since 3.17 (memfd_create).
#include "tests/platform/fact.h"

#include <fcntl.h>
#include <sys/mman.h>

static void be_the_reader(int owner) {
  int fd = -1;
  receive_descriptors(owner, &fd, 1);
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  expect(mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EACCES,
         "a writable mapping: %m");
  expect(write(fd, "x", 1) == -1 && errno == EBADF, "write: %m");
  expect(ftruncate(fd, 0) == -1, "ftruncate of the reader works");
  const volatile char* seen = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
  expect(seen != MAP_FAILED, "a mapping to read: %m");
  expect(mprotect((void*)seen, page, PROT_READ | PROT_WRITE) == -1 && errno == EACCES, "mprotect: %m");
  close(fd);
  expect(seen[0] == 'a' && seen[1] == 0, "not what was written before: %d %d", seen[0], seen[1]);
  say(owner, 'm');
  hear(owner);
  expect(seen[0] == 'b' && seen[1] == 'c', "not what was written later: %d %d", seen[0], seen[1]);
}

int main(void) {
  begin();
  int ends[2];
  char path[64];
  make_pair(SOCK_SEQPACKET, ends);
  const pid_t child = start_child();
  if (child == 0) {
    close(ends[0]);
    be_the_reader(ends[1]);
    return holds;
  }
  close(ends[1]);
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const int fd = memfd_create("fact", MFD_CLOEXEC);
  expect(fd != -1 && ftruncate(fd, (off_t)page) == 0, "memfd_create: %m");
  char* const own = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  expect(own != MAP_FAILED, "mmap: %m");
  own[0] = 'a';
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  const int reader = open(path, O_RDONLY | O_CLOEXEC);
  if (reader == -1) leave(cannot_be_shown, "%s: %m", path);
  send_descriptors(ends[0], &reader, 1);
  close(reader);
  hear(ends[0]);
  own[0] = 'b';
  expect(pwrite(fd, "c", 1, 1) == 1, "pwrite: %m");
  say(ends[0], 'w');
  finish_child(child);
  return holds;
}
