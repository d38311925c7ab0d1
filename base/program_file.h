// What a program file is, before it is started: which of towpath's ways can reach it?
//
// Compiles into the preloaded library: system calls only, no heap. Reads little and bounded; what the file says about
// itself is hostile.
#pragma once

#include <cstdint>

namespace towpath {

struct ProgramFile {
  enum class Kind : std::uint8_t {
    dynamic,        // its interpreter honours LD_PRELOAD
    static_binary,  // no interpreter (static-pie included): LD_PRELOAD means nothing to it
    foreign,        // another class or architecture than ours
    unreadable,     // nobody can tell: `error` says why
    unknown,        // neither ELF nor a script: the kernel may know better (binfmt_misc)
  };
  Kind kind = Kind::unknown;
  bool go = false;          // written in Go: its system calls do not go through libc, dynamic or not
  bool privileged = false;  // setuid, setgid or file capabilities that this process lacks: the loader drops LD_PRELOAD
  bool secure = false;      // the loader drops it as well: this process's real and effective ids differ
  int error = 0;            // errno
  char runtime[64] = {};    // a library that it is linked to and that insists on being the first (base/preload_list.h)
  char path[4096] = {};     // the file that the kernel will load in the end: of a script its interpreter

  // Which library calls it makes are seen by a preloaded library.
  [[nodiscard]] bool preloadable() const noexcept { return kind == Kind::dynamic && !go && !privileged && !secure; }
};

// Follows "#!" lines as the kernel does (five levels).
void inspect_program(const char* path, ProgramFile& out) noexcept;

// The image only: kind (dynamic, static_binary, foreign, unknown), go and runtime. For a running program's
// /proc/PID/exe.
void inspect_image(int fd, ProgramFile& out) noexcept;

}  // namespace towpath
