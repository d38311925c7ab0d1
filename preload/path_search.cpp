#include "preload/path_search.h"

#include <charconv>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "preload/exec_environment.h"
#include "preload/real.h"

namespace towpath {

namespace {

bool join(FoundPath& out, std::initializer_list<std::string_view> parts) noexcept {
  std::size_t size = 0;
  for (const std::string_view part : parts) {
    if (part.size() >= sizeof out.path - size) return false;
    std::memcpy(out.path + size, part.data(), part.size());
    size += part.size();
  }
  out.path[size] = '\0';
  return true;
}

bool executable(const FoundPath& file) noexcept {
  struct stat status {};
  return sys::call(SYS_newfstatat, AT_FDCWD, file.path, &status, 0) == 0 && S_ISREG(status.st_mode) &&
         sys::call(SYS_faccessat, AT_FDCWD, file.path, X_OK) == 0;
}

}  // namespace

bool copy_path(const char* path, FoundPath& out) noexcept { return join(out, {path}); }

PathSearch::PathSearch(const char* file) noexcept : file_(file), list_(nullptr) {
  if (file == nullptr || *file == '\0') return;
  list_ = "";
  if (std::strchr(file, '/') != nullptr) return;
  list_ = value_in(environ, "PATH");
  // Each libc has a list of its own for a PATH that is unset; one that is empty is the current directory.
  if (list_ == nullptr)
    list_ = libc_symbol("gnu_get_libc_version") != nullptr ? "/bin:/usr/bin" : "/usr/local/bin:/bin:/usr/bin";
}

bool PathSearch::next(FoundPath& out) noexcept {
  while (list_ != nullptr) {
    const char* const end = std::strchr(list_, ':');
    const std::string_view directory(list_,
                                     end != nullptr ? static_cast<std::size_t>(end - list_) : std::strlen(list_));
    list_ = end != nullptr ? end + 1 : nullptr;
    if (std::strchr(file_, '/') != nullptr || directory.empty()) return copy_path(file_, out);
    if (join(out, {directory, "/", file_})) return true;
  }
  return false;
}

bool search_path(const char* file, FoundPath& out) noexcept {
  PathSearch search(file);
  while (search.next(out))
    if (executable(out)) return true;
  return false;
}

bool path_of_descriptor(int fd, FoundPath& out) noexcept {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, fd).ptr;
  return join(out, {"/proc/self/fd/", {digits, static_cast<std::size_t>(end - digits)}});
}

bool path_below_descriptor(int directory, const char* path, FoundPath& out) noexcept {
  FoundPath base;
  return path_of_descriptor(directory, base) && join(out, {base.path, "/", path});
}

}  // namespace towpath
