#include "launcher/front_end.h"

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "trap/enter.h"

namespace towpath {

namespace {

Choice refused(int status, std::string reason) { return {FrontEnd::none, false, status, std::move(reason)}; }

}  // namespace

Choice choose_front_end(Mode mode, const ProgramFile& program) {
  const std::string path(program.path);
  switch (program.kind) {
    case ProgramFile::Kind::unreadable:
      return refused(program.error == ENOENT ? exit_not_found : exit_towpath_failed,
                     "cannot look into " + path + ", which would be started: " + std::strerror(program.error));
    case ProgramFile::Kind::unknown:
      return refused(exit_cannot_execute,
                     "cannot execute " + path + ": it is neither an ELF program nor a script that begins with #!");
    case ProgramFile::Kind::foreign:
      return refused(exit_towpath_failed,
                     path + " is built for another machine than towpath: use a build of it for this one");
    case ProgramFile::Kind::dynamic:
    case ProgramFile::Kind::static_binary: break;
  }
  if (mode == Mode::preload && !program.preloadable()) {
    const char* const why = program.privileged ? " is setuid, setgid or has file capabilities: the loader would ignore"
                            : program.go       ? " is a Go program, whose system calls do not pass"
                                               : " is statically linked and does not load";
    return refused(exit_towpath_failed, path + why + " towpath's library: use --mode auto");
  }
  if (program.privileged && !trap::spares_privileges())
    return refused(exit_towpath_failed,
                   path +
                       " is setuid, setgid or has file capabilities: the loader would ignore towpath's "
                       "library, and without CAP_SYS_ADMIN a seccomp filter would take those privileges away");
  if (mode == Mode::seccomp || !program.preloadable()) return {FrontEnd::seccomp, program.go, 0, {}};
  return {FrontEnd::preload, false, 0, {}};
}

std::string find_in_path(const std::string& command, const char* path_variable, int& error) {
  const auto usable = [&](const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) return false;
    if (S_ISREG(status.st_mode) && access(path.c_str(), X_OK) == 0) return true;
    error = EACCES;
    return false;
  };
  error = ENOENT;
  if (command.empty()) return {};
  if (command.find('/') != command.npos) return usable(command) ? command : std::string();
  std::string_view path = path_variable != nullptr ? path_variable : "/usr/local/bin:/usr/bin:/bin";
  for (;;) {
    const auto colon = path.find(':');
    const std::string directory(path.substr(0, colon));
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + command;
    if (usable(candidate)) return candidate;
    if (colon == path.npos) return {};
    path.remove_prefix(colon + 1);
  }
}

}  // namespace towpath
