// `towpath enter FLAVOUR PATH ARGUMENT...`, which nobody types: a preloaded library starts a static program with
// posix_spawn. Puts itself under supervision and becomes that program. Same process, same descriptors, same
// environment.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <unistd.h>

#include "base/program_file.h"
#include "base/unique_fd.h"
#include "launcher/commands.h"
#include "launcher/library.h"
#include "trap/enter.h"

namespace towpath {

int enter_command(char** words) {
  constexpr const char* variable = "TOWPATH_ENTER";
  constexpr int not_executed = 127;  // as posix_spawn's own child ends
  if (words[0] == nullptr) return exit_towpath_failed;
  const trap::Flavour flavour = trap::Flavour::of(static_cast<std::uint32_t>(std::atoi(words[0])));
  const char* const path = words[1];
  const char* const text = std::getenv(variable);
  wire::Control control{};
  if (path == nullptr || text == nullptr || !wire::parse_control(text, control)) {
    std::fprintf(stderr, "towpath: enter: this command is for libtowpath.so only\n");
    return exit_towpath_failed;
  }
  unsetenv(variable);
  ProgramFile program;
  inspect_program(path, program);
  const bool supervised = trap::supervised(control.token);
  if (!supervised && !program.preloadable()) {
    const UniqueFd connection(trap::connect_agent({control.name, control.name_size}));
    trap::Entered entered{trap::Step::agent, ENETDOWN};
    if (connection) entered = trap::enter(connection.get(), control.token, {program.go, false, flavour.inbound});
    if (entered.step != trap::Step::entered) {
      const std::string_view why = trap::explain(entered.step);
      std::fprintf(stderr, "towpath: cannot start %s: %.*s\n", path, static_cast<int>(why.size()), why.data());
      return not_executed;
    }
  }
  fit_own_preload(program);  // it was not looked at where it was to be found by the child alone
  execv(path, words + 2);
  return not_executed;
}

}  // namespace towpath
