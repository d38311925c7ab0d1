#include "preload/gate.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/resource.h>

#include "preload/ask.h"
#include "preload/process.h"
#include "base/sys.h"

namespace towpath {

bool held_back(int fd) noexcept {
  if (!anything_pending()) return false;
  const std::uint64_t cookie = cookie_of(fd);
  const PageEntry* entry = known_socket_entry(cookie);
  if (entry == nullptr) return false;
  SocketState state = settled_state(*entry);
  if (state == SocketState::pending) {
    const long flags = sys::call(SYS_fcntl, fd, F_GETFL);
    if (flags >= 0 && (flags & O_NONBLOCK) != 0) {
      errno = EAGAIN;
      return true;
    }
    wait_until_decided(cookie);
    state = settled_state(*entry);
  }
  if (state != SocketState::lost && state != SocketState::pending) return false;
  errno = ENETDOWN;
  return true;
}

void disconnected_socket(int fd) noexcept {
  const Page* known = mapped_page();
  const std::uint64_t cookie = known != nullptr ? cookie_of(fd) : 0;
  if (known == nullptr || find_socket(*known, cookie) == nullptr) return;
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::closing;
  ask.closing.cookie = cookie;
  ask.closing.fd = -1;
  if (talk.say(ask)) (void)talk.hear(reply, false);
}

void closing_socket(int fd) noexcept {
  Conversation talk;
  wire::Message ask{};
  wire::Reply reply;
  ask.kind = wire::Ask::closing;
  ask.closing.cookie = cookie_of(fd);
  ask.closing.fd = fd;
  if (talk.say(ask)) (void)talk.hear(reply, false);
}

void closing_range(unsigned first, unsigned last) noexcept {
  if (!anything_pending()) return;
  rlimit limit{};
  sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &limit);
  // A range to the end of the table: the numbers in use are found faster than all numbers are tried.
  const long directory = sys::call(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) {
    for (unsigned fd = first; fd <= last && fd < limit.rlim_cur; ++fd)
      if (agent_holds(static_cast<int>(fd))) closing_socket(static_cast<int>(fd));
    return;
  }
  alignas(8) char entries[4096];
  for (long size; (size = sys::call(SYS_getdents64, directory, entries, sizeof entries)) > 0;) {
    for (long at = 0; at < size;) {
      // struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name
      std::uint16_t length;
      std::memcpy(&length, entries + at + 16, sizeof length);
      unsigned fd = 0;
      const char* digit = entries + at + 19;
      const bool number = *digit >= '0' && *digit <= '9';
      for (; *digit >= '0' && *digit <= '9'; ++digit) fd = fd * 10 + static_cast<unsigned>(*digit - '0');
      if (number && fd >= first && fd <= last && agent_holds(static_cast<int>(fd)))
        closing_socket(static_cast<int>(fd));
      at += length;
    }
  }
  sys::call(SYS_close, directory);
}

}  // namespace towpath
