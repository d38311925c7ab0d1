// What a program file is, before it is started: can the preloaded library reach it?
#pragma once

#include <string>

namespace towpath {

struct Executable {
  enum class Kind : unsigned char {
    dynamic,        // an interpreter that honours LD_PRELOAD
    static_binary,  // no interpreter
    go,             // dynamic, but its system calls do not go through libc
    privileged,     // setuid, setgid or file capabilities: the loader drops LD_PRELOAD
    foreign,        // another class or architecture
    unreadable,     // nobody can tell: `error` says why
    unknown,        // not ELF and not a script: the kernel may know better (binfmt_misc)
  };
  Kind kind = Kind::unknown;
  int error = 0;
  std::string path;  // the file that the kernel will load in the end: of a script its interpreter
};

// Follows "#!" lines as the kernel does (at most five).
[[nodiscard]] Executable inspect_executable(const std::string& path);

// The file that execvp(3) would take: a path with a slash as it is, else the first in PATH. Errno in `error`: ENOENT
// or EACCES; "" then.
[[nodiscard]] std::string find_in_path(const std::string& command, const char* path_variable, int& error);

// Why a program of that kind cannot be served, "" when it can.
[[nodiscard]] std::string why_not(const Executable& executable);

// The exit status that goes with the reason: whose fault is it, ours or the file's?
[[nodiscard]] int refusal_status(const Executable& executable);

}  // namespace towpath
