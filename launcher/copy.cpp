// `towpath copy DIRECTORY`: puts the two files that make up towpath there. An init container's command: an image that
// holds nothing but these two files has no cp.
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "launcher/commands.h"
#include "launcher/library.h"

namespace towpath {

namespace {

// "" or what went wrong. Whoever looks at `to` sees the old file, or none, or the whole new one: a restarted init
// container may find a program that runs from the file it replaces.
std::string copy_file(const std::string& from, const std::string& to) {
  const auto because = [](const std::string& what) { return what + ": " + std::strerror(errno); };
  const UniqueFd source(open(from.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat about {};
  if (!source || fstat(source.get(), &about) != 0) return because(from);
  const std::string fresh = to + ".new." + std::to_string(getpid());
  unlink(fresh.c_str());  // a container that was killed here begins with the same number again
  const UniqueFd target(open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700));
  if (!target) return because(fresh);
  std::string problem;
  for (off_t at = 0; at < about.st_size && problem.empty();) {
    const ssize_t moved = sendfile(target.get(), source.get(), &at, static_cast<std::size_t>(about.st_size - at));
    if (moved == 0) problem = from + ": it was cut short meanwhile";
    else if (moved < 0 && errno != EINTR) problem = because(fresh);
  }
  // The program may run as another user than the init container.
  if (problem.empty() && fchmod(target.get(), 0755) != 0) problem = because(fresh);
  if (problem.empty() && rename(fresh.c_str(), to.c_str()) != 0) problem = because(to);
  if (!problem.empty()) unlink(fresh.c_str());
  return problem;
}

}  // namespace

int copy_command(const std::string& directory) {
  std::string problem;
  struct stat about {};
  if (stat(directory.c_str(), &about) != 0) problem = directory + ": " + std::strerror(errno);
  else if (!S_ISDIR(about.st_mode)) problem = directory + " is no directory";
  if (!problem.empty()) {
    std::fprintf(stderr, "towpath: copy: %s\n", problem.c_str());
    return exit_towpath_failed;
  }
  const std::string library = find_library(problem);
  // The library first: who finds towpath finds both.
  if (problem.empty()) problem = copy_file(library, directory + "/libtowpath.so");
  if (problem.empty()) problem = copy_file(own_executable(), directory + "/towpath");
  if (problem.empty()) return 0;
  std::fprintf(stderr, "towpath: copy: %s\n", problem.c_str());
  return exit_towpath_failed;
}

}  // namespace towpath
