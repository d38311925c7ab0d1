#include "launcher/library.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <limits.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/preload_list.h"
#include "base/program_file.h"
#include "base/unique_fd.h"

namespace towpath {

namespace {

std::string absolute(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  std::string out = resolved != nullptr ? resolved : "";
  std::free(resolved);
  return out;
}

// The directory of this executable with a slash at its end.
std::string own_directory() {
  const std::string path = own_executable();
  const auto slash = path.rfind('/');
  return slash == path.npos ? std::string() : path.substr(0, slash + 1);
}

// Why the loader would not take it, "" when it would.
std::string why_not_loadable(const std::string& path) {
  if (path.find_first_of(" \t\n:;$") != path.npos) return "no loader takes a path with blanks, \":\", \";\" or \"$\"";
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::strerror(errno);
  // A shared object, like a static program, is one that has no interpreter.
  ProgramFile image;
  inspect_image(fd.get(), image);
  if (image.kind != ProgramFile::Kind::static_binary) return "it is no shared object of this machine's kind";
  void* code = mmap(nullptr, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd.get(), 0);
  if (code == MAP_FAILED)
    return std::string("it cannot be mapped as code (is its file system mounted noexec?): ") + std::strerror(errno);
  munmap(code, 1);
  return {};
}

}  // namespace

std::string own_executable() {
  char self[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", self, sizeof self);
  if (size > 0) return {self, static_cast<std::size_t>(size)};
  const auto* started = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  return started != nullptr ? absolute(started) : std::string();
}

std::string find_library(std::string& why) {
  std::string found;
  if (const char* given = std::getenv("TOWPATH_LIBRARY"); given != nullptr && *given != '\0') {
    found = absolute(given);
    if (found.empty()) {
      why = std::string("TOWPATH_LIBRARY: ") + given + ": " + std::strerror(errno);
      return {};
    }
  } else if (const std::string directory = own_directory(); !directory.empty()) {
    for (const char* each : {"libtowpath.so", "../lib/libtowpath.so"})
      if (found.empty()) found = absolute(directory + each);
  }
  if (found.empty()) {
    why = "libtowpath.so is neither beside this executable nor in ../lib: set TOWPATH_LIBRARY";
    return {};
  }
  if (why = why_not_loadable(found); why.empty()) return found;
  why = found + " cannot be preloaded: " + why;
  return {};
}

std::string preload_value(const std::string& library, const ProgramFile& program) {
  const char* before = std::getenv("LD_PRELOAD");
  const std::string_view list = before != nullptr ? before : "";
  std::string out(list.size() + library.size() + sizeof program.runtime + 8, '\0');
  out.resize(preload_list(out, list, library, program.runtime));
  return out;
}

void fit_own_preload(const ProgramFile& program) {
  const char* list = std::getenv("LD_PRELOAD");
  std::string why;
  const std::string library = find_library(why);
  if (list != nullptr && !library.empty() && preloads(list, library))
    setenv("LD_PRELOAD", preload_value(library, program).c_str(), 1);
}

}  // namespace towpath
