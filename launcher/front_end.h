// Which of the two front ends serves a program: the preloaded library, or the seccomp filter with its supervisor.
#pragma once

#include <string>

#include "base/program_file.h"

namespace towpath {

enum class Mode : unsigned char { automatic, preload, seccomp };
enum class FrontEnd : unsigned char { none, preload, seccomp };

struct Choice {
  FrontEnd front_end = FrontEnd::none;
  bool go = false;
  int status = 0;      // none: the exit status that goes with the reason; whose fault is it, ours or the file's?
  std::string reason;  // none: why nothing can work
};

[[nodiscard]] Choice choose_front_end(Mode mode, const ProgramFile& program);

// The file that execvp(3) would take: a path with a slash as it is, else the first in PATH. Errno in `error`: ENOENT
// or EACCES; "" then.
[[nodiscard]] std::string find_in_path(const std::string& command, const char* path_variable, int& error);

}  // namespace towpath
