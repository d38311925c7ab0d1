#include "resolver/file_text.h"

#include <cerrno>

#include "base/unique_fd.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace towpath {

namespace {
std::int64_t nanoseconds(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileStamp stamp_of(const struct stat& status) noexcept {
  return {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim), nanoseconds(status.st_ctim)};
}
}  // namespace

FileStamp FileStamp::of(const std::string& path) noexcept {
  struct stat status {};
  if (::stat(path.c_str(), &status) == -1) return {};
  return stamp_of(status);
}

FileText read_file_text(const std::string& path, std::size_t limit_bytes) {
  FileText out;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) == -1) {
    out.stamp = FileStamp::of(path);
    return out;
  }
  out.stamp = stamp_of(status);
  if (!S_ISREG(status.st_mode)) return out;
  // One byte more than the limit shows whether the last line is whole.
  char buffer[16384];
  while (out.text.size() <= limit_bytes) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got == -1 && errno == EINTR) continue;
    if (got <= 0) return out;
    out.text.append(buffer, static_cast<std::size_t>(got));
    if (out.text.size() > limit_bytes) {
      out.text.resize(limit_bytes);
      out.text.resize(out.text.rfind('\n') + 1);  // npos + 1 = 0
      return out;
    }
  }
  return out;
}

}  // namespace towpath
