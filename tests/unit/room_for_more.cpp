#include "preload/room_for_more.h"

#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace towpath {

namespace {

rlimit limit_now() {
  rlimit out{};
  getrlimit(RLIMIT_NOFILE, &out);
  return out;
}

// A process of its own: the limit is the process's.
template <class F>
bool holds_in_a_child(F&& check) {
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit = limit_now();
    limit.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &limit);
    _exit(check() ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("room for more: the limit is raised while one is there, and is the program's own after the last") {
  CHECK(holds_in_a_child([] {
    {
      const RoomForMore one(true), two(true), none(false);
      if (limit_now().rlim_cur != 72) return false;
    }
    return limit_now().rlim_cur == 64;
  }));
}

TEST_CASE("room for more: many threads that come and go leave the limit where it was") {
  CHECK(holds_in_a_child([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back([] {
        for (int turn = 0; turn < 20'000; ++turn) const RoomForMore room(true);
      });
    for (std::thread& each : threads) each.join();
    return limit_now().rlim_cur == 64;
  }));
}

TEST_CASE("room for more: a limit that the program sets meanwhile stays") {
  CHECK(holds_in_a_child([] {
    {
      const RoomForMore room(true);
      rlimit limit = limit_now();
      limit.rlim_cur = 50;
      setrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit_now().rlim_cur == 50;
  }));
}

TEST_CASE("room for more: a child that was forked meanwhile gets its limit back with its own next use") {
  CHECK(holds_in_a_child([] {
    const RoomForMore room(true);
    const pid_t child = fork();
    if (child == 0) {
      { const RoomForMore own(true); }
      _exit(limit_now().rlim_cur == 64 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    return status == 0;
  }));
}

}  // namespace towpath
