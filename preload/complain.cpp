#include "preload/complain.h"

#include <atomic>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/sys.h"

namespace towpath {

namespace {

constexpr int standard_error = 2;

constinit std::atomic<bool> complained{false};
constinit std::atomic<std::uint64_t> device{0}, inode{0};
constinit std::atomic<bool> noted{false};

bool look(struct stat& out) noexcept { return sys::call(SYS_fstat, standard_error, &out) == 0; }

// A character device is a terminal, or a place where nothing is kept. A server that inetd started has its client there.
bool takes_lines(const struct stat& is) noexcept {
  if (S_ISCHR(is.st_mode) || S_ISFIFO(is.st_mode)) return true;
  if (S_ISREG(is.st_mode)) return (sys::call(SYS_fcntl, standard_error, F_GETFL) & O_APPEND) != 0;
  int domain = -1;
  socklen_t size = sizeof domain;
  return S_ISSOCK(is.st_mode) &&
         sys::call(SYS_getsockopt, standard_error, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

// It may be a pipe that nobody reads any more, or that is full: neither a signal nor a wait is ours to cause.
bool can_be_written() noexcept {
  constexpr short writable = 4;
  struct {
    int fd;
    short events, revents;
  } watched{standard_error, writable, 0};
  const timespec now{};
  return sys::call(SYS_ppoll, &watched, 1, &now, 0, 8) == 1 && watched.revents == writable;
}

}  // namespace

void note_standard_error() noexcept {
  struct stat is;
  if (look(is)) {
    device.store(is.st_dev, std::memory_order_relaxed);
    inode.store(is.st_ino, std::memory_order_relaxed);
  }
  noted.store(true, std::memory_order_release);
}

void complain(std::string_view what, std::string_view why) noexcept {
  struct stat is;
  if (!look(is) || !takes_lines(is)) return;
  // Another library's constructor may call a hook before ours has run.
  if (noted.load(std::memory_order_acquire) &&
      (is.st_dev != device.load(std::memory_order_relaxed) || is.st_ino != inode.load(std::memory_order_relaxed)))
    return;
  char line[512];
  std::size_t size = 0;
  for (const std::string_view part :
       {std::string_view("towpath: "), what, std::string_view(": "), why, std::string_view("\n")})
    for (const char c : part)
      if (size < sizeof line) line[size++] = c;
  if (can_be_written()) sys::call(SYS_write, standard_error, line, size);
}

void complain_once(std::string_view what, std::string_view why) noexcept {
  if (!complained.exchange(true, std::memory_order_relaxed)) complain(what, why);
}

}  // namespace towpath
