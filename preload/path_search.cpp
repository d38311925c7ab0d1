#include "preload/path_search.h"

#include <charconv>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "preload/process.h"

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

bool search_path(const char* file, FoundPath& out) noexcept {
  if (file == nullptr || *file == '\0') return false;
  if (std::strchr(file, '/') != nullptr) return copy_path(file, out);
  std::string_view list = environment("PATH");
  if (list.empty()) list = "/usr/local/bin:/bin:/usr/bin";
  for (;;) {
    const auto end = list.find(':');
    std::string_view directory = list;
    if (end != list.npos) directory.remove_suffix(list.size() - end);
    if (join(out, {directory.empty() ? std::string_view(".") : directory, "/", file}) && executable(out)) return true;
    if (end == list.npos) return false;
    list.remove_prefix(end + 1);
  }
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
