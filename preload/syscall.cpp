// syscall(): libuv and others reach some calls this way. The few that matter take the same road as their functions.
#include <cerrno>
#include <cstdarg>

#include <sys/syscall.h>

#include "preload/connect.h"
#include "preload/epoll.h"
#include "preload/real.h"
#include "preload/process.h"
#include "base/sys.h"

using namespace towpath;

TOWPATH_EXPORT long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& each : a) each = va_arg(list, long);
  va_end(list);
  if (active()) {
    const auto fd = static_cast<int>(a[0]);
    switch (number) {
      case SYS_connect: return connect_hook(fd, reinterpret_cast<sockaddr*>(a[1]), static_cast<socklen_t>(a[2]));
      case SYS_epoll_ctl:
        return epoll_ctl_hook(fd, static_cast<int>(a[1]), static_cast<int>(a[2]), reinterpret_cast<epoll_event*>(a[3]));
      case SYS_close: return ::close(fd);
      case SYS_read: return ::read(fd, reinterpret_cast<void*>(a[1]), static_cast<size_t>(a[2]));
      case SYS_readv: return ::readv(fd, reinterpret_cast<iovec*>(a[1]), static_cast<int>(a[2]));
      case SYS_recvfrom:
        return ::recvfrom(fd, reinterpret_cast<void*>(a[1]), static_cast<size_t>(a[2]), static_cast<int>(a[3]),
                          reinterpret_cast<sockaddr*>(a[4]), reinterpret_cast<socklen_t*>(a[5]));
      case SYS_recvmmsg:
        return ::recvmmsg(fd, reinterpret_cast<mmsghdr*>(a[1]), static_cast<unsigned>(a[2]), static_cast<int>(a[3]),
                          reinterpret_cast<timespec*>(a[4]));
      case SYS_recvmsg: return ::recvmsg(fd, reinterpret_cast<msghdr*>(a[1]), static_cast<int>(a[2]));
      case SYS_writev: return ::writev(fd, reinterpret_cast<iovec*>(a[1]), static_cast<int>(a[2]));
      case SYS_write: return ::write(fd, reinterpret_cast<void*>(a[1]), static_cast<size_t>(a[2]));
      case SYS_sendto:
        return ::sendto(fd, reinterpret_cast<void*>(a[1]), static_cast<size_t>(a[2]), static_cast<int>(a[3]),
                        reinterpret_cast<sockaddr*>(a[4]), static_cast<socklen_t>(a[5]));
      case SYS_sendmsg: return ::sendmsg(fd, reinterpret_cast<msghdr*>(a[1]), static_cast<int>(a[2]));
      case SYS_sendmmsg:
        return ::sendmmsg(fd, reinterpret_cast<mmsghdr*>(a[1]), static_cast<unsigned>(a[2]), static_cast<int>(a[3]));
      case SYS_accept: return ::accept(fd, reinterpret_cast<sockaddr*>(a[1]), reinterpret_cast<socklen_t*>(a[2]));
      case SYS_accept4:
        return ::accept4(fd, reinterpret_cast<sockaddr*>(a[1]), reinterpret_cast<socklen_t*>(a[2]),
                         static_cast<int>(a[3]));
      case SYS_getpeername:
        return ::getpeername(fd, reinterpret_cast<sockaddr*>(a[1]), reinterpret_cast<socklen_t*>(a[2]));
      case SYS_getsockopt:
        return ::getsockopt(fd, static_cast<int>(a[1]), static_cast<int>(a[2]), reinterpret_cast<void*>(a[3]),
                            reinterpret_cast<socklen_t*>(a[4]));
      case SYS_execve:
        return ::execve(reinterpret_cast<char*>(a[0]), reinterpret_cast<char**>(a[1]), reinterpret_cast<char**>(a[2]));
      case SYS_execveat:
        return ::execveat(fd, reinterpret_cast<char*>(a[1]), reinterpret_cast<char**>(a[2]),
                          reinterpret_cast<char**>(a[3]), static_cast<int>(a[4]));
#ifdef SYS_poll
      case SYS_poll: return ::poll(reinterpret_cast<pollfd*>(a[0]), static_cast<nfds_t>(a[1]), static_cast<int>(a[2]));
#endif
      case SYS_dup3: return ::dup3(fd, static_cast<int>(a[1]), static_cast<int>(a[2]));
#ifdef SYS_dup2
      case SYS_dup2: return ::dup2(fd, static_cast<int>(a[1]));
#endif
      case SYS_close_range:
        return ::close_range(static_cast<unsigned>(a[0]), static_cast<unsigned>(a[1]), static_cast<int>(a[2]));
      // A ring could connect without any of these functions: programs fall back when there is none.
      case SYS_io_uring_setup: errno = ENOSYS; return -1;
      default: break;
    }
  }
  return real().syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
