#include "launcher/processes.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <sys/socket.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "trap/enter.h"

namespace towpath {

namespace {

// False: the filter is there and the agent does not serve it, or there is none and it is required.
bool put_up_net(const Program& program, std::string& variable) {
  const UniqueFd connection(trap::connect_agent(program.kept->control_name));
  if (!connection) {
    dprintf(2, "towpath: cannot start %s: its agent does not answer\n", program.path.c_str());
    return false;
  }
  trap::Entered entered{program.no_net.value_or(trap::Step::filter), 0, false};
  if (program.filter && !program.filter_alone) {
    const UniqueFd other(trap::connect_agent(program.kept->control_name));
    if (const int error = other ? trap::seen_by_agent(other.get(), program.kept->token) : ENETDOWN; error != 0)
      entered = {trap::Step::unseen, error, false};
  }
  if (program.filter && entered.step != trap::Step::unseen)
    entered = trap::enter(connection.get(), program.kept->token, *program.filter);
  if (entered.step == trap::Step::entered) {
    variable = program.kept->token_text() + (entered.births ? ":b" : "");
    return true;
  }
  if (program.filter_required || entered.step == trap::Step::agent) {
    const std::string_view why = trap::explain(entered.step);
    dprintf(2, "towpath: cannot start %s: %.*s%s%s\n", program.path.c_str(), static_cast<int>(why.size()), why.data(),
            entered.error != 0 ? ": " : "", entered.error != 0 ? std::strerror(entered.error) : "");
    return false;
  }
  std::byte packet[wire::max_message];
  wire::Message ask{};
  ask.kind = wire::Ask::no_net;
  ask.token = program.kept->token;
  ask.no_net = {static_cast<std::uint8_t>(entered.step), entered.error};
  const std::size_t size = wire::encode(packet, ask);
  (void)send(connection.get(), packet, size, MSG_NOSIGNAL);
  return true;
}

// "TOWPATH_NET=VALUE" in the place of what stands there. Where this tree has no net of its own, an outer tree's is
// left.
void set_net(std::vector<std::string>& environment, const std::string& value) {
  constexpr std::string_view name = "TOWPATH_NET=";
  const auto at = std::find_if(environment.begin(), environment.end(),
                               [&](const std::string& entry) { return entry.starts_with(name); });
  const std::string entry = std::string(name) + (value.empty() ? "none" : value);
  if (at == environment.end()) environment.push_back(entry);
  else if (!value.empty()) *at = entry;
}

}  // namespace

void become_program(const Program& program, int go) {
  char byte;
  ssize_t got;
  do got = read(go, &byte, 1);
  while (got == -1 && errno == EINTR);
  if (got != 1) _exit(exit_towpath_failed);
  close(go);
  std::vector<std::string> variables = program.environment;
  std::string net;
  if (program.ignores_children) signal(SIGCHLD, SIG_IGN);
  if ((program.filter || program.no_net) && !put_up_net(program, net)) _exit(exit_towpath_failed);
  if (program.has_library) set_net(variables, net);
  std::vector<char*> arguments, environment;
  for (const std::string& each : program.arguments) arguments.push_back(const_cast<char*>(each.c_str()));
  for (const std::string& each : variables) environment.push_back(const_cast<char*>(each.c_str()));
  arguments.push_back(nullptr);
  environment.push_back(nullptr);
  if (program.files.rlim_max != 0) setrlimit(RLIMIT_NOFILE, &program.files);
  sigprocmask(SIG_SETMASK, &program.signal_mask, nullptr);
  execve(program.path.c_str(), arguments.data(), environment.data());
  const int error = errno;
  dprintf(2, "towpath: cannot execute %s: %s\n", program.path.c_str(), std::strerror(error));
  _exit(error == ENOENT ? exit_not_found : exit_cannot_execute);
}

}  // namespace towpath
