// The exec family: what a program executes is served like the program itself. The library goes along in the
// environment; what would ignore it (static programs, a chroot without it) is put under supervision first, in this very
// process: the process id stays, and errors of the exec are the kernel's own.
//
// May run in a child of vfork, on its parent's stack: nothing is changed that outlives the call.
#include <cerrno>
#include <cstdarg>
#include <cstring>

#include <alloca.h>

#include "base/sys.h"
#include "preload/exec_environment.h"
#include "preload/path_search.h"
#include "preload/real.h"
#include "preload/supervised.h"

using namespace towpath;

namespace {

// True: the exec may go on. Else errno is set.
bool prepare(const char* path, ExecEnvironment& environment, bool is_there = false) noexcept {
  ProgramFile program;
  inspect_program(path, program);
  environment.fit(program);
  if (environment.get() == nullptr) {
    errno = ENOMEM;
    return false;
  }
  // By a descriptor it is there; the path is only how we look at it.
  if (is_there && program.kind == ProgramFile::Kind::unreadable) program.error = EACCES;
  switch (fate_of(program)) {
    case ExecFate::as_it_is: return true;
    case ExecFate::hidden: environment.hide_library(); [[fallthrough]];
    case ExecFate::filter:
      if (enter_supervision(program.path, program.go)) return true;
      break;
    case ExecFate::refused: break;
  }
  errno = EACCES;
  return false;
}

int execve_hook(const char* path, char* const* arguments, char* const* given) noexcept {
  if (!active() || !readable(path, 1)) return real().execve(path, arguments, given);
  ExecEnvironment environment(given);
  if (environment.get() == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  if (!prepare(path, environment)) return -1;
  return real().execve(path, arguments, environment.get());
}

// A script without "#!".
int run_by_shell(const char* path, char* const* arguments, char* const* given) noexcept {
  std::size_t count = 0;
  while (arguments != nullptr && arguments[count] != nullptr) ++count;
  auto** line = static_cast<char**>(alloca((count + 3) * sizeof(char*)));
  line[0] = const_cast<char*>("/bin/sh");
  line[1] = const_cast<char*>(path);
  std::size_t size = 2;
  for (std::size_t i = 1; i < count; ++i) line[size++] = arguments[i];
  line[size] = nullptr;
  return execve_hook("/bin/sh", line, given);
}

// Not libc's own search: what was looked at must be what is executed.
int execvpe_hook(const char* file, char* const* arguments, char* const* given) noexcept {
  if (!active()) return real().execvpe(file, arguments, given);
  FoundPath place;
  PathSearch search(file);
  int error = ENOENT;
  while (search.next(place)) {
    execve_hook(place.path, arguments, given);
    switch (errno) {
      case ENOEXEC: return run_by_shell(place.path, arguments, given);
      case EACCES: error = EACCES; break;
      case ENOENT:
      case ESTALE:
      case ENOTDIR:
      case ENODEV:
      case ETIMEDOUT: break;
      default: return -1;
    }
  }
  errno = error;
  return -1;
}

std::size_t count_of(va_list list) noexcept {
  std::size_t count = 0;
  while (va_arg(list, char*) != nullptr) ++count;
  return count;
}

void take(va_list list, char** out, std::size_t count) noexcept {
  for (std::size_t i = 0; i <= count; ++i) out[i] = va_arg(list, char*);  // the null at the end, too
}

}  // namespace

// The arguments of execl and its kin, as an array on the caller's stack; `list` stands behind them then.
#define TOWPATH_ARGUMENTS(first)                                               \
  va_list list;                                                                \
  va_start(list, first);                                                       \
  const std::size_t count = count_of(list);                                    \
  va_end(list);                                                                \
  auto** arguments = static_cast<char**>(alloca((count + 2) * sizeof(char*))); \
  arguments[0] = const_cast<char*>(first);                                     \
  va_start(list, first);                                                       \
  take(list, arguments + 1, count);

TOWPATH_EXPORT int execve(const char* path, char* const arguments[], char* const environment[]) noexcept {
  return execve_hook(path, arguments, environment);
}

TOWPATH_EXPORT int execv(const char* path, char* const arguments[]) noexcept {
  return execve_hook(path, arguments, environ);
}

TOWPATH_EXPORT int execvpe(const char* file, char* const arguments[], char* const environment[]) noexcept {
  return execvpe_hook(file, arguments, environment);
}

TOWPATH_EXPORT int execvp(const char* file, char* const arguments[]) noexcept {
  return execvpe_hook(file, arguments, environ);
}

TOWPATH_EXPORT int execl(const char* path, const char* first, ...) noexcept {
  TOWPATH_ARGUMENTS(first)
  va_end(list);
  return execve_hook(path, arguments, environ);
}

TOWPATH_EXPORT int execlp(const char* file, const char* first, ...) noexcept {
  TOWPATH_ARGUMENTS(first)
  va_end(list);
  return execvpe_hook(file, arguments, environ);
}

TOWPATH_EXPORT int execle(const char* path, const char* first, ...) noexcept {
  TOWPATH_ARGUMENTS(first)
  char* const* const environment = va_arg(list, char* const*);
  va_end(list);
  return execve_hook(path, arguments, environment);
}

TOWPATH_EXPORT int fexecve(int fd, char* const arguments[], char* const environment[]) noexcept {
  if (!active()) return real().fexecve(fd, arguments, environment);
  ExecEnvironment own(environment);
  if (own.get() == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  FoundPath place;
  if (path_of_descriptor(fd, place) && !prepare(place.path, own, true)) return -1;
  return real().fexecve(fd, arguments, own.get());
}

TOWPATH_EXPORT int execveat(int directory, const char* path, char* const arguments[], char* const environment[],
                            int flags) noexcept {
  const bool plain = !active() || !readable(path, 1);
  ExecEnvironment own(plain ? nullptr : environment);
  if (!plain) {
    FoundPath place;
    if (own.get() == nullptr) {
      errno = ENOMEM;
      return -1;
    }
    const bool by_descriptor = *path == '\0' && (flags & AT_EMPTY_PATH) != 0;
    const bool found = *path == '/' || directory == AT_FDCWD ? copy_path(path, place)
                       : by_descriptor                       ? path_of_descriptor(directory, place)
                                                             : path_below_descriptor(directory, path, place);
    if (found && !prepare(place.path, own, by_descriptor)) return -1;
  }
  const long result = sys::call(SYS_execveat, directory, path, arguments, plain ? environment : own.get(), flags);
  errno = static_cast<int>(-result);
  return -1;
}
