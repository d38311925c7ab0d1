#include "preload/complain.h"
#include "preload/standalone.h"

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/foster.h"
#include "preload/process.h"
#include "preload/real.h"
#include "base/sys.h"

namespace towpath {

namespace {

// What an agent is configured by. The first few say that there is something to tunnel at all.
constexpr std::string_view variables[] = {"TOWPATH_CONFIG",
                                          "PROXY_TRUSTED_ORIGINS",
                                          "PROXY_TRUSTED_HEADERS",
                                          "CODER_PROXY_TRUSTED_ORIGINS",
                                          "CODER_PROXY_TRUSTED_HEADERS",
                                          "http_proxy",
                                          "https_proxy",
                                          "all_proxy",
                                          "HTTP_PROXY",
                                          "HTTPS_PROXY",
                                          "ALL_PROXY",
                                          "no_proxy",
                                          "NO_PROXY",
                                          "REQUEST_METHOD",
                                          "SSL_CERT_FILE",
                                          "SSL_CERT_DIR",
                                          "SSL_CLIENT_CERT_FILE",
                                          "SSL_CLIENT_KEY_FILE",
                                          "TOWPATH_LOG",
                                          "TOWPATH_LOG_FILE",
                                          "TOWPATH_LOG_FORMAT",
                                          "TOWPATH_METRICS",
                                          "TOWPATH_IDLE_SECONDS",
                                          "TOWPATH_AGENT"};
constexpr std::size_t that_may_manage_accept = 5;
constexpr std::size_t that_configure = 11;  // an exempt list alone configures nothing
constexpr std::string_view paths_among_them[] = {"TOWPATH_CONFIG",      "SSL_CERT_FILE",    "SSL_CLIENT_CERT_FILE",
                                                 "SSL_CLIENT_KEY_FILE", "TOWPATH_LOG_FILE", "TOWPATH_AGENT"};

constexpr std::size_t longest_path = AgentPaths::longest;
constinit char library_path[longest_path]{};
constinit std::uint64_t configuration_hash = 0;
constinit std::atomic<int> state{-1};  // -1 not looked yet, 0 no, 1 yes
constinit std::atomic<std::int64_t> failed_at{0};

// The agent gets the environment that this process started with, and only what configures it. By the time of the first
// connect the program may have taken the proxies out of its environment: an agent that knows none would lead every
// connection past them.
constinit char saved_text[32 * 1024]{};
constinit const char* saved[std::size(variables) + 1]{};
constinit bool saved_whole = true;
constinit char saved_directory[longest_path]{};  // where relative paths begin; "" when there are none

void save_variables() noexcept {
  std::size_t used = 0, count = 0;
  for (const std::string_view name : variables) {
    const std::string_view value = environment(name);
    if (value.empty()) continue;
    if (name.size() + value.size() + 2 > sizeof saved_text - used) {
      saved_whole = false;
      continue;
    }
    char* at = saved_text + used;
    saved[count++] = at;
    std::memcpy(at, name.data(), name.size());
    at[name.size()] = '=';
    std::memcpy(at + name.size() + 1, value.data(), value.size());
    at[name.size() + 1 + value.size()] = '\0';
    used += name.size() + value.size() + 2;
  }
  saved[count] = nullptr;
  for (const std::string_view name : paths_among_them)
    if (const std::string_view value = environment(name); !value.empty() && value.front() != '/')
      if (sys::call(SYS_getcwd, saved_directory, sizeof saved_directory) < 0) saved_directory[0] = '\0';
}

// "" when it was unset.
const char* saved_value(std::string_view name) noexcept {
  for (const char* const* at = saved; *at != nullptr; ++at)
    if (std::string_view(*at).starts_with(name) && (*at)[name.size()] == '=') return *at + name.size() + 1;
  return "";
}

std::uint64_t mix(std::uint64_t hash, std::string_view text) noexcept {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  return (hash ^ 0xff) * 1099511628211ull;
}

void note_own_path() noexcept {
  if (library_path[0] != '\0') return;
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
  int ready;      // the writing end of a pipe
  int error = 0;  // why no path could be executed; children that share our memory tell us so
};

constexpr int ready_number = 3;  // where `towpath agent --standalone` finds it
constexpr int patience_ms = 20000;

// These run in children that share our memory, on our stack, as after vfork: system calls only, no return.

[[noreturn]] __attribute__((noinline)) void become_agent(Launch& launch) noexcept {
  if (saved_directory[0] != '\0') sys::call(SYS_chdir, saved_directory);
  // Standard error stays for what the configuration has to say; the agent lets go of it when it is up.
  if (launch.ready != ready_number) sys::call(SYS_dup3, launch.ready, ready_number, 0);
  else sys::call(SYS_fcntl, ready_number, F_SETFD, 0);
  sys::call(SYS_close_range, ready_number + 1, ~0u, 0);
  int error = 0;
  for (const char* const* path = launch.paths; *path != nullptr; ++path) {
    const char* const arguments[] = {"towpath", "agent", "--standalone", launch.name, nullptr};
    const int failure = -static_cast<int>(sys::call(SYS_execve, *path, arguments, saved));
    // What is there and cannot be executed says more than a place where nothing is.
    if (error == 0 || error == ENOENT) error = failure;
  }
  launch.error = error;
  for (;;) sys::call(SYS_exit_group, 127);
}

// A child whose end raises no signal and shows up in no wait(-1) (tests/platform/clone_silent.c). exec would give it
// SIGCHLD back, so it only starts the agent, which thereby is nobody's child.
[[noreturn]] __attribute__((noinline)) void step_between(Launch& launch) noexcept {
  if (sys::raw(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD) == 0) become_agent(launch);
  for (;;) sys::call(SYS_exit_group, 0);
}

__attribute__((noinline)) void start_silently(Launch& launch) noexcept {
  std::uint64_t all = ~0ull, before = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, 8);
  if (adopts_orphans()) {
    start_fostered([](void* context) { become_agent(*static_cast<Launch*>(context)); }, &launch);
  } else {
    const long pid = sys::raw(SYS_clone, CLONE_VM | CLONE_VFORK);
    if (pid == 0) step_between(launch);
    if (pid < 0) launch.error = static_cast<int>(-pid);
    while (pid > 0 && sys::call(SYS_wait4, pid, 0, __WALL, 0) == -EINTR) {
    }
  }
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &before, 0, 8);
}

// Not at a standard descriptor that the program has closed: another thread's printf must not say "ready".
int above_standard(int fd) noexcept {
  if (fd >= 3) return fd;
  const long higher = sys::call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
  sys::call(SYS_close, fd);
  return static_cast<int>(higher);
}

// True when the agent said that it listens.
bool run_agent(Launch& launch) noexcept {
  int ends[2];
  if (const long error = sys::call(SYS_pipe2, ends, O_CLOEXEC); error != 0) {
    launch.error = static_cast<int>(-error);
    return false;
  }
  const int hear = above_standard(ends[0]);
  launch.ready = above_standard(ends[1]);
  bool ready = false;
  if (hear >= 0 && launch.ready >= 0) {
    start_silently(launch);
    sys::call(SYS_close, launch.ready);
    const std::int64_t end = now_ms() + patience_ms;
    for (std::int64_t left = patience_ms; left > 0; left = end - now_ms()) {
      struct {
        int fd;
        short events, revents;
      } watched{hear, 1, 0};
      const timespec patience{left / 1000, left % 1000 * 1'000'000};
      if (sys::call(SYS_ppoll, &watched, 1, &patience, 0, 8) == -EINTR) continue;
      char byte;
      ready = watched.revents != 0 && sys::call(SYS_read, hear, &byte, 1) == 1;
      break;
    }
  }
  if (hear >= 0) sys::call(SYS_close, hear);
  return ready;
}

const char* words_for(int error) noexcept {
  switch (error) {
    case ENOENT:
      return "there is no towpath executable beside the library, in ../bin, /usr/local/bin or /usr/bin: set "
             "TOWPATH_AGENT";
    case EACCES: return "this user may not execute towpath";
    case ENOEXEC: return "TOWPATH_AGENT is no executable";
    case EAGAIN: return "this user has too many processes";
    case EMFILE:
    case ENFILE: return "too many open files";
    case 0:
      return "it ended at once, for the reason in the lines before this one (or in TOWPATH_LOG_FILE): towpath check "
             "repeats what is wrong with the configuration";
    default: return "the system refuses to execute it";
  }
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

bool standalone_may_accept() noexcept {
  static constinit std::atomic<int> known{-1};
  int out = known.load(std::memory_order_relaxed);
  if (out >= 0) return out != 0;
  out = 0;
  if (standalone_configured())
    for (std::size_t i = 0; i < that_may_manage_accept; ++i) out = *saved_value(variables[i]) != '\0' ? 1 : out;
  known.store(out, std::memory_order_relaxed);
  return out != 0;
}

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
  if (known == 1) {
    note_own_path();
    save_variables();
    hash = mix(hash, saved_directory);
  }
  configuration_hash = hash;
  state.store(known, std::memory_order_release);
  return known == 1;
}

std::size_t rendezvous_name(std::span<char, wire::max_control_name> out, unsigned user) noexcept {
  constexpr std::string_view prefix = "towpath-u";
  std::memcpy(out.data(), prefix.data(), prefix.size());
  char* at = out.data() + prefix.size();
  at = std::to_chars(at, out.data() + out.size(), user).ptr;
  *at++ = '-';
  at = std::to_chars(at, out.data() + out.size(), configuration_hash, 16).ptr;
  return static_cast<std::size_t>(at - out.data());
}

std::string_view own_path() noexcept {
  note_own_path();
  return library_path;
}

const char* const* saved_configuration() noexcept { return saved; }

bool configures(std::string_view name) noexcept {
  for (std::size_t i = 0; i < that_configure; ++i)
    if (variables[i] == name) return true;
  return false;
}

void agent_paths(AgentPaths& out) noexcept {
  std::size_t count = 0;
  const std::string_view given =
      *saved_value("TOWPATH_AGENT") != '\0' ? saved_value("TOWPATH_AGENT") : environment("TOWPATH_AGENT");
  note_own_path();
  if (!given.empty()) {
    out.list[count++] = given.data();
  } else {
    if (beside_library(out.beside, "towpath")) out.list[count++] = out.beside;
    if (beside_library(out.near, "../bin/towpath")) out.list[count++] = out.near;
    out.list[count++] = "/usr/local/bin/towpath";
    out.list[count++] = "/usr/bin/towpath";
  }
  out.list[count] = nullptr;
}

bool start_agent(std::string_view name) noexcept {
  // One that could not be had a moment ago (broken configuration, no executable) is not tried at every connect.
  const std::int64_t now = now_ms(), last = failed_at.load(std::memory_order_relaxed);
  if (last != 0 && now - last < 1000) return false;
  char copy[wire::max_control_name + 1] = {};
  std::memcpy(copy, name.data(), name.size());
  AgentPaths paths;
  agent_paths(paths);
  Launch launch{paths.list, copy, -1};
  const bool ok = saved_whole && run_agent(launch);
  failed_at.store(ok ? 0 : now_ms(), std::memory_order_relaxed);
  if (!ok)
    complain_once("no agent can be started, so no connection is made",
                  !saved_whole ? "the variables that configure it are larger than 32 KB" : words_for(launch.error));
  return ok;
}

}  // namespace towpath
