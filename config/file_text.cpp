#include "config/file_text.h"

#include "base/unique_fd.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>

namespace towpath {

std::string system_text(int number) {
  const char* text = strerrordesc_np(number);
  return text != nullptr ? text : "unknown error";
}

std::optional<std::string> read_text_file(const std::string& path, std::size_t most, std::string& error) {
  const auto fail = [&](const std::string& why) {
    error = "cannot read " + path + ": " + why;
    return std::nullopt;
  };
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail(system_text(errno));
  std::string out;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got == -1 && errno == EINTR) continue;
    if (got == -1) return fail(system_text(errno));
    if (got == 0) return out;
    out.append(buffer, static_cast<std::size_t>(got));
    if (out.size() > most) return fail("larger than " + std::to_string(most) + " bytes");
  }
}

}  // namespace towpath
