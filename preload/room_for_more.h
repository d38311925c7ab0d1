// A few descriptors more than the process may have, for as long as a question to the agent takes.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <fcntl.h>
#include <sys/resource.h>

#include "base/sys.h"

namespace towpath {

// A process at its limit of descriptors can still get its connection, or pass one on: the limit is raised for that
// long, where it may be. Several threads at once are one raise. What the limit was before stands in the same word as
// the number of those who use the room, so that nobody takes the raised limit for the program's own. A child that was
// forked meanwhile sees by the process id that nobody is left who would lower its limit. No lock: a signal handler may
// connect, too.
class RoomForMore {
 public:
  explicit RoomForMore(bool wanted) noexcept : wanted_(wanted) {
    if (!wanted_) return;
    const auto process = static_cast<std::uint64_t>(sys::call(SYS_getpid)) % pids;
    std::uint64_t before = use_.load(), after;
    do {
      const rlimit now = limit();
      // Restored before the last user has gone, and read after that.
      std::uint64_t own = now.rlim_cur < limits ? now.rlim_cur : limits - 1;
      const bool inherited = process_in(before) != process && now.rlim_cur == raised(limit_in(before), now);
      if (users_in(before) != 0 && (process_in(before) == process || inherited)) own = limit_in(before);
      const std::uint64_t users = process_in(before) == process ? users_in(before) : 0;
      after = word(own, users + 1, process, turn_in(before) + 1);
    } while (!use_.compare_exchange_weak(before, after));
    raise(limit_in(after));
  }
  ~RoomForMore() {
    if (!wanted_) return;
    std::uint64_t before = use_.load();
    for (;;) {
      const bool last = users_in(before) == 1;
      if (last) lower(limit_in(before));
      if (use_.compare_exchange_weak(
              before, word(limit_in(before), users_in(before) - 1, process_in(before), turn_in(before) + 1)))
        return;
      if (last) raise(limit_in(before));  // somebody came in between
    }
  }
  RoomForMore(const RoomForMore&) = delete;
  RoomForMore& operator=(const RoomForMore&) = delete;

 private:
  static constexpr std::uint64_t more = 8;
  // The fields of the word, from above: the limit, users, the process, and a number that tells one use from the next.
  static constexpr std::uint64_t limits = 1 << 20, most_users = 1 << 12, pids = 1 << 22, turns = 1 << 10;

  static std::uint64_t word(std::uint64_t limit, std::uint64_t users, std::uint64_t process,
                            std::uint64_t turn) noexcept {
    return ((limit * most_users + users % most_users) * pids + process) * turns + turn % turns;
  }
  static std::uint64_t limit_in(std::uint64_t word) noexcept { return word / turns / pids / most_users; }
  static std::uint64_t users_in(std::uint64_t word) noexcept { return word / turns / pids % most_users; }
  static std::uint64_t process_in(std::uint64_t word) noexcept { return word / turns % pids; }
  static std::uint64_t turn_in(std::uint64_t word) noexcept { return word % turns; }

  static rlimit limit() noexcept {
    rlimit now{};
    sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, &now);
    return now;
  }
  static std::uint64_t raised(std::uint64_t own, const rlimit& now) noexcept {
    return now.rlim_max < own + more ? now.rlim_max : own + more;
  }
  static void set(rlimit now, std::uint64_t soft) noexcept {
    now.rlim_cur = soft;
    sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, &now, 0);
  }
  static void raise(std::uint64_t own) noexcept {
    if (const rlimit now = limit(); now.rlim_cur == own) set(now, raised(own, now));
  }
  // One that the program has set meanwhile stays.
  static void lower(std::uint64_t own) noexcept {
    if (const rlimit now = limit(); now.rlim_cur == raised(own, now)) set(now, own);
  }

  static constinit inline std::atomic<std::uint64_t> use_{0};
  bool wanted_;
};

// Is there room for another one beside `fd`?
inline bool room_beside(int fd) noexcept {
  const long other = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
  if (other >= 0) sys::call(SYS_close, other);
  return other != -EMFILE;
}

}  // namespace towpath
