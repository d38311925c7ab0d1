// close(), dup2(), dup3(), close_range(), closefrom(): a number that is given up while its socket is in a handshake.
// Without a pending handshake each of them is one load and the real call.
#include <cerrno>

#include "preload/accept.h"
#include "preload/gate.h"
#include "preload/process.h"
#include "preload/real.h"
#include "preload/registrations.h"
#include "base/sys.h"

using namespace towpath;

TOWPATH_EXPORT int close(int fd) {
  if (agent_holds(fd)) closing_socket(fd);
  forget_listener(fd);
  return real().close(fd);
}

TOWPATH_EXPORT int dup2(int from, int to) noexcept {
  if (from != to && agent_holds(to)) closing_socket(to);
  forget_listener(to);
  const int result = real().dup2(from, to);
  if (result >= 0) registrations_follow(from, to);
  return result;
}

TOWPATH_EXPORT int dup3(int from, int to, int flags) noexcept {
  if (from != to && agent_holds(to)) closing_socket(to);
  forget_listener(to);
  const int result = real().dup3(from, to, flags);
  if (result >= 0) registrations_follow(from, to);
  return result;
}

TOWPATH_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  constexpr int close_on_exec_only = 4;  // CLOSE_RANGE_CLOEXEC
  if ((flags & close_on_exec_only) == 0) closing_range(first, last);
  if (real().close_range != nullptr) return real().close_range(first, last, flags);
  const long result = sys::call(SYS_close_range, first, last, flags);
  if (result >= 0) return static_cast<int>(result);
  errno = static_cast<int>(-result);
  return -1;
}

TOWPATH_EXPORT void closefrom(int first) noexcept {
  closing_range(first < 0 ? 0 : static_cast<unsigned>(first), ~0u);
  if (real().closefrom != nullptr) real().closefrom(first);
  else sys::call(SYS_close_range, first < 0 ? 0 : first, ~0u, 0);
}
