// A few descriptors more than the process may have, for as long as a question to the agent takes.
#pragma once

#include <atomic>
#include <cerrno>

#include <fcntl.h>
#include <sys/resource.h>

#include "base/sys.h"

namespace towpath {

// A process at its limit of descriptors can still get its connection, or pass one on: the limit is raised for that
// long, where it may be. Several threads at once are one raise.
class RoomForMore {
 public:
  explicit RoomForMore(bool wanted) noexcept : wanted_(wanted) {
    if (!wanted_ || users_.fetch_add(1) != 0 || sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &before_) != 0) return;
    rlimit more = before_;
    more.rlim_cur = before_.rlim_max - before_.rlim_cur < 8 ? before_.rlim_max : before_.rlim_cur + 8;
    sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, 0);
  }
  ~RoomForMore() {
    if (wanted_ && users_.fetch_sub(1) == 1) sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, &before_, 0);
  }
  RoomForMore(const RoomForMore&) = delete;
  RoomForMore& operator=(const RoomForMore&) = delete;

 private:
  static constinit inline std::atomic<int> users_{0};
  static constinit inline rlimit before_{};
  bool wanted_;
};

// Is there room for another one beside `fd`?
inline bool room_beside(int fd) noexcept {
  const long other = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
  if (other >= 0) sys::call(SYS_close, other);
  return other != -EMFILE;
}

}  // namespace towpath
