#include "launcher/join.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/program_file.h"
#include "launcher/library.h"
#include "proto/wire.h"
#include "trap/enter.h"

namespace towpath {

namespace {

// Every loader is told of the library by this list; which separator it is does not matter.
bool will_be_preloaded(const ProgramFile& program) {
  const char* list = std::getenv("LD_PRELOAD");
  std::string why;
  const std::string library = find_library(why);
  return program.preloadable() && list != nullptr && !library.empty() && std::strstr(list, library.c_str()) != nullptr;
}

}  // namespace

Tree join_tree(const Program& program, std::string& why) {
  const char* text = std::getenv(std::string(wire::control_variable).c_str());
  wire::Control control{};
  if (text == nullptr || !wire::parse_control(text, control)) return Tree::none;
  if (trap::supervised(control.token)) return Tree::joined;
  // The variable alone proves nothing: it may have come out of a tree that is gone, and nobody would carry the program.
  const int fd = trap::connect_agent({control.name, control.name_size});
  if (fd == -ECONNREFUSED) return Tree::none;
  if (fd < 0) {
    why = "cannot ask the agent of this tree: " + std::string(std::strerror(-fd));
    return Tree::refused;
  }
  const UniqueFd connection(fd);
  ProgramFile file;
  inspect_program(program.path.c_str(), file);
  if (will_be_preloaded(file)) return Tree::joined;
  // What the policy says about clients only the agent knows: it is shown all of them.
  const trap::Entered entered = trap::enter(connection.get(), control.token, {file.go, false, true});
  if (entered.step == trap::Step::entered) return Tree::joined;
  why = "cannot start " + program.path + ": " + std::string(trap::explain(entered.step)) + ": " +
        std::strerror(entered.error);
  return Tree::refused;
}

}  // namespace towpath
