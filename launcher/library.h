// The shared object that goes into LD_PRELOAD. The loader only warns about one that it cannot take, and starts the
// program without it: whatever would make it do so has to be found here.
#pragma once

#include <string>

#include "base/program_file.h"

namespace towpath {

// libtowpath.so: where $TOWPATH_LIBRARY says, beside this executable, or in ../lib. An absolute path, or "" with the
// reason in `why`.
[[nodiscard]] std::string find_library(std::string& why);

// $LD_PRELOAD with the library in it, as this program needs it.
[[nodiscard]] std::string preload_value(const std::string& library, const ProgramFile& program);
// The same for a program that is executed at once with the environment of this process: where it lists the library.
void fit_own_preload(const ProgramFile& program);

// The path of this executable; without /proc the one that it was started by. "" when that is not known.
[[nodiscard]] std::string own_executable();

}  // namespace towpath
