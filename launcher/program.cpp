#include "launcher/processes.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <unistd.h>

#include "launcher/commands.h"
#include "trap/enter.h"

namespace towpath {

namespace {

bool enter_filter(const Program& program) {
  const UniqueFd connection(trap::connect_agent(program.kept->control_name));
  if (!connection) {
    dprintf(2, "towpath: cannot start %s: its agent does not answer\n", program.path.c_str());
    return false;
  }
  const trap::Entered entered = trap::enter(connection.get(), program.kept->token, *program.filter);
  if (entered.step == trap::Step::entered) return true;
  const std::string_view why = trap::explain(entered.step);
  dprintf(2, "towpath: cannot start %s: %.*s: %s\n", program.path.c_str(), static_cast<int>(why.size()), why.data(),
          std::strerror(entered.error));
  return false;
}

}  // namespace

void become_program(const Program& program, int go) {
  char byte;
  ssize_t got;
  do got = read(go, &byte, 1);
  while (got == -1 && errno == EINTR);
  if (got != 1) _exit(exit_towpath_failed);
  close(go);
  std::vector<char*> arguments, environment;
  for (const std::string& each : program.arguments) arguments.push_back(const_cast<char*>(each.c_str()));
  for (const std::string& each : program.environment) environment.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  if (program.ignores_children) signal(SIGCHLD, SIG_IGN);
  sigprocmask(SIG_SETMASK, &program.signal_mask, nullptr);
  if (program.filter && !enter_filter(program)) _exit(exit_towpath_failed);
  execve(program.path.c_str(), arguments.data(), environment.data());
  const int error = errno;
  dprintf(2, "towpath: cannot execute %s: %s\n", program.path.c_str(), std::strerror(error));
  _exit(error == ENOENT ? exit_not_found : exit_cannot_execute);
}

}  // namespace towpath
