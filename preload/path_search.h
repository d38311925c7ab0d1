// Which file an exec would take.
#pragma once

#include <cstddef>

namespace towpath {

struct FoundPath {
  char path[4096];
};

// As execvp(3) searches PATH. False: none is executable, and the call fails by itself.
bool search_path(const char* file, FoundPath& out) noexcept;
bool copy_path(const char* path, FoundPath& out) noexcept;
bool path_of_descriptor(int fd, FoundPath& out) noexcept;
bool path_below_descriptor(int directory, const char* path, FoundPath& out) noexcept;

}  // namespace towpath
