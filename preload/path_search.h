// Which file an exec would take.
#pragma once

#include <cstddef>

namespace towpath {

struct FoundPath {
  char path[4096];
};

// Walks the files that execvp(3) would try, in order.
class PathSearch {
 public:
  explicit PathSearch(const char* file) noexcept;
  // False: there is no further one.
  bool next(FoundPath& out) noexcept;

 private:
  const char* file_;
  const char* list_;  // null: at the end
};

// The first that is executable, as posix_spawnp would find it. False: there is none, and the call fails by itself.
bool search_path(const char* file, FoundPath& out) noexcept;
bool copy_path(const char* path, FoundPath& out) noexcept;
bool path_of_descriptor(int fd, FoundPath& out) noexcept;
bool path_below_descriptor(int directory, const char* path, FoundPath& out) noexcept;

}  // namespace towpath
