#include "preload/standalone.h"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/process.h"
#include "preload/real.h"
#include "preload/sys.h"

namespace towpath {

namespace {

constexpr std::string_view variables[] = {"TOWPATH_CONFIG", "http_proxy",  "https_proxy", "all_proxy",
                                          "HTTP_PROXY",     "HTTPS_PROXY", "ALL_PROXY",   "no_proxy",
                                          "NO_PROXY"};
constexpr std::size_t that_configure = 7;  // an exempt list alone configures nothing

constexpr std::size_t longest_path = 4096;
constinit char library_path[longest_path]{};
constinit std::uint64_t configuration_hash = 0;
constinit std::atomic<int> state{-1};  // -1 not looked yet, 0 no, 1 yes
constinit std::atomic<std::int64_t> failed_at{0};

std::uint64_t mix(std::uint64_t hash, std::string_view text) noexcept {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return (hash ^ 0xff) * 1099511628211ull;
}

void note_own_path() noexcept {
  using Dladdr = int (*)(const void*, Dl_info*);
  const auto find = reinterpret_cast<Dladdr>(libc_symbol("dladdr"));
  Dl_info info{};
  if (find == nullptr || find(reinterpret_cast<void*>(&standalone_configured), &info) == 0) return;
  const std::size_t size = std::strlen(info.dli_fname);
  if (size < sizeof library_path) std::memcpy(library_path, info.dli_fname, size);
}

std::int64_t now_ms() noexcept {
  timespec time{};
  sys::call(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1'000'000;
}

struct Launch {
  const char* const* paths;
  const char* name;
  int ready;  // the writing end of a pipe
};

constexpr int ready_number = 3;  // where `towpath agent --standalone` finds it

// Both run in children that share our memory, on our stack, as after vfork: system calls only, no return.

[[noreturn]] __attribute__((noinline)) void become_agent(const Launch& launch) noexcept {
  // Standard error stays for what the configuration has to say; the agent lets go of it when it is up.
  if (launch.ready != ready_number) sys::call(SYS_dup3, launch.ready, ready_number, 0);
  else sys::call(SYS_fcntl, ready_number, F_SETFD, 0);
  sys::call(SYS_close_range, ready_number + 1, ~0u, 0);
  for (const char* const* path = launch.paths; *path != nullptr; ++path) {
    const char* const arguments[] = {"towpath", "agent", "--standalone", launch.name, nullptr};
    sys::call(SYS_execve, *path, arguments, environ);
  }
  for (;;) sys::call(SYS_exit_group, 127);
}

// A child whose end raises no signal and shows up in no wait(-1) (tests/platform/clone_silent.c). exec would give it
// SIGCHLD back, so it only starts the agent, which thereby is nobody's child.
[[noreturn]] __attribute__((noinline)) void step_between(const Launch& launch) noexcept {
  if (sys::raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD) == 0) become_agent(launch);
  for (;;) sys::call(SYS_exit_group, 0);
}

__attribute__((noinline)) void start_silently(const Launch& launch) noexcept {
  std::uint64_t all = ~0ull, before = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, 8);
  const long pid = sys::raw(SYS_clone, CLONE_VM | CLONE_VFORK);
  if (pid == 0) step_between(launch);
  while (pid > 0 && sys::call(SYS_wait4, pid, 0, __WALL, 0) == -EINTR) {
  }
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, 8);
}

// True when the agent said that it listens.
bool run_agent(const char* const* paths, const char* name) noexcept {
  int ends[2];
  if (sys::call(SYS_pipe2, ends, O_CLOEXEC) != 0) return false;
  start_silently({paths, name, ends[1]});
  sys::call(SYS_close, ends[1]);
  char byte;
  long got;
  do {
    got = sys::call(SYS_read, ends[0], &byte, 1);
  } while (got == -EINTR);
  sys::call(SYS_close, ends[0]);
  return got == 1;
}

// `directory`/`file`, where `directory` is that of the library.
bool beside_library(std::span<char, longest_path> out, std::string_view file) noexcept {
  const std::string_view own{library_path};
  const auto slash = own.rfind('/');
  if (slash == own.npos || slash + 1 + file.size() >= out.size()) return false;
  std::memcpy(out.data(), own.data(), slash + 1);
  std::memcpy(out.data() + slash + 1, file.data(), file.size());
  out[slash + 1 + file.size()] = '\0';
  return true;
}

}  // namespace

bool standalone_configured() noexcept {
  int known = state.load(std::memory_order_acquire);
  if (known >= 0) return known == 1;
  std::uint64_t hash = 14695981039346656037ull;
  known = 0;
  for (std::size_t i = 0; i < std::size(variables); ++i) {
    const std::string_view value = environment(variables[i]);
    if (!value.empty() && i < that_configure) known = 1;
    hash = mix(hash, value);
  }
  char space[64];
  const long size = sys::call(SYS_readlinkat, AT_FDCWD, "/proc/self/ns/pid", space, sizeof space);
  if (size > 0) hash = mix(hash, {space, static_cast<std::size_t>(size)});
  if (known == 1) note_own_path();
  configuration_hash = hash;
  state.store(known, std::memory_order_release);
  return known == 1;
}

std::size_t rendezvous_name(std::span<char, wire::max_control_name> out) noexcept {
  constexpr std::string_view prefix = "towpath-u";
  std::memcpy(out.data(), prefix.data(), prefix.size());
  char* at = out.data() + prefix.size();
  at = std::to_chars(at, out.data() + out.size(), static_cast<unsigned>(sys::call(SYS_geteuid))).ptr;
  *at++ = '-';
  at = std::to_chars(at, out.data() + out.size(), configuration_hash, 16).ptr;
  return static_cast<std::size_t>(at - out.data());
}

bool start_agent(std::string_view name) noexcept {
  // One that could not be had a moment ago (broken configuration, no executable) is not tried at every connect.
  const std::int64_t now = now_ms(), last = failed_at.load(std::memory_order_relaxed);
  if (last != 0 && now - last < 1000) return false;
  char copy[wire::max_control_name + 1] = {};
  std::memcpy(copy, name.data(), name.size());
  char here[longest_path], near[longest_path];
  const char* paths[5];
  std::size_t count = 0;
  const std::string_view given = environment("TOWPATH_AGENT");
  if (!given.empty()) {
    paths[count++] = given.data();
  } else {
    if (beside_library(here, "towpath")) paths[count++] = here;
    if (beside_library(near, "../bin/towpath")) paths[count++] = near;
    paths[count++] = "/usr/local/bin/towpath";
    paths[count++] = "/usr/bin/towpath";
  }
  paths[count] = nullptr;
  const bool ok = run_agent(paths, copy);
  failed_at.store(ok ? 0 : now_ms(), std::memory_order_relaxed);
  return ok;
}

}  // namespace towpath
