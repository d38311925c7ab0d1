// posix_spawn, system, popen: libc executes inside, past every hook. The library goes along in the environment; what
// has to be put under supervision first is started through our own executable (`towpath enter`), which becomes it.
#include <cerrno>
#include <charconv>
#include <cstring>

#include <alloca.h>

#include "base/sys.h"
#include "preload/complain.h"
#include "preload/exec_environment.h"
#include "preload/path_search.h"
#include "preload/real.h"
#include "preload/supervised.h"

using namespace towpath;

namespace {

bool find_shim(AgentPaths& paths, const char*& out) noexcept {
  agent_paths(paths);
  for (const char* const* path = paths.list; *path != nullptr; ++path) {
    out = *path;
    if (sys::call(SYS_faccessat, AT_FDCWD, *path, X_OK) == 0) return true;
  }
  return false;
}

constexpr std::string_view enter_variable = "TOWPATH_ENTER=";

// `towpath enter FLAVOUR PATH ARGUMENT...` in the place of PATH.
int spawn_supervised(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                     const posix_spawnattr_t* attributes, char* const* arguments, ExecEnvironment& environment,
                     bool program_is_go) noexcept {
  AgentPaths paths;
  const char* shim;
  if (!find_shim(paths, shim)) {
    complain(path,
             "it would have to be started by towpath's executable, which is neither beside the library nor in "
             "../bin: it is not executed");
    return EACCES;
  }
  char control[enter_variable.size() + most_control_text + 1];
  std::memcpy(control, enter_variable.data(), enter_variable.size());
  char* const text = control + enter_variable.size();
  const std::size_t size = control_text(std::span<char, most_control_text>(text, most_control_text));
  if (size == 0) {
    complain(path, "its connections cannot be led through the proxy: no agent answers");
    return EACCES;
  }
  text[size] = '\0';
  environment.add(control);
  char flavour[4] = {};
  const std::uint32_t bits = trap::Flavour{program_is_go, false, inbound_possible()}.bits();
  std::to_chars(flavour, flavour + sizeof flavour - 1, bits);
  if (environment.get() == nullptr) return ENOMEM;
  std::size_t count = 0;
  while (arguments != nullptr && arguments[count] != nullptr) ++count;
  auto** line = static_cast<char**>(alloca((count + 5) * sizeof(char*)));
  line[0] = const_cast<char*>("towpath");
  line[1] = const_cast<char*>("enter");
  line[2] = flavour;
  line[3] = const_cast<char*>(path);
  for (std::size_t i = 0; i < count; ++i) line[4 + i] = arguments[i];
  line[4 + count] = nullptr;
  return real().posix_spawn(pid, shim, actions, attributes, line, environment.get());
}

int spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions, const posix_spawnattr_t* attributes,
          char* const* arguments, char* const* given) noexcept {
  ExecEnvironment environment(given);
  if (environment.get() == nullptr) return ENOMEM;
  ProgramFile program;
  inspect_program(path, program);
  environment.fit(program);
  if (environment.get() == nullptr) return ENOMEM;
  // The child may change its directory before it executes: what is at that path then only it can know.
  const bool elsewhere = *path != '/' && actions != nullptr;
  const ExecFate fate = elsewhere ? ExecFate::filter : fate_of(program);
  if (fate == ExecFate::refused) return EACCES;
  if (fate == ExecFate::hidden) environment.hide_library();
  if (fate != ExecFate::as_it_is && !is_supervised())
    return spawn_supervised(pid, path, actions, attributes, arguments, environment, program.go);
  return real().posix_spawn(pid, path, actions, attributes, arguments, environment.get());
}

// libc starts /bin/sh behind every hook: it must be one that the library reaches, or stand on the net. False: errno is
// set.
bool shell_is_ours(const char* command, ExecEnvironment& environment) noexcept {
  ProgramFile shell;
  inspect_program("/bin/sh", shell);
  environment.fit(shell);
  if (is_supervised() || fate_of(shell) == ExecFate::as_it_is) return true;
  complain(command, "the library does not reach /bin/sh here (it is static, or this is a chroot): it is not executed");
  errno = EACCES;
  return false;
}

// The shell that libc starts gets the environment as it is now, and is not ours where that has been cleaned: it exports
// what is missing and becomes a shell that has the library, for the command itself.
bool complete(const ExecEnvironment& environment, const char* command, char* out, std::size_t room) noexcept {
  std::size_t size = 0;
  const auto put = [&](std::string_view part) {
    if (part.size() >= room - size) return false;
    std::memcpy(out + size, part.data(), part.size());
    size += part.size();
    return true;
  };
  for (char* const* each = environment.get(); *each != nullptr; ++each) {
    std::string_view name(*each);
    const auto end = name.find('=');
    if (end == name.npos) continue;
    std::string_view value = name;
    value.remove_prefix(end + 1);
    name.remove_suffix(name.size() - end);
    const char* const before = value_in(environ, name);
    if (before != nullptr && value == before) continue;
    if (value.find('\'') != value.npos) return false;
    for (const std::string_view part :
         {std::string_view("export "), name, std::string_view("='"), value, std::string_view("'; ")})
      if (!put(part)) return false;
  }
  if (!put("exec /bin/sh -c '")) return false;
  for (const char* at = command; *at != '\0'; ++at)
    if (!put(*at == '\'' ? std::string_view("'\\''") : std::string_view(at, 1))) return false;
  if (!put("'")) return false;
  out[size] = '\0';
  return true;
}

constexpr std::size_t room_for_exports = 16384;

}  // namespace

TOWPATH_EXPORT int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                               const posix_spawnattr_t* attributes, char* const arguments[],
                               char* const environment[]) {
  if (!active() || !readable(path, 1))
    return real().posix_spawn(pid, path, actions, attributes, arguments, environment);
  return spawn(pid, path, actions, attributes, arguments, environment);
}

TOWPATH_EXPORT int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                                const posix_spawnattr_t* attributes, char* const arguments[],
                                char* const environment[]) {
  if (!active() || !readable(file, 1))
    return real().posix_spawnp(pid, file, actions, attributes, arguments, environment);
  FoundPath found;
  if (!search_path(file, found)) return real().posix_spawnp(pid, file, actions, attributes, arguments, environment);
  return spawn(pid, found.path, actions, attributes, arguments, environment);
}

TOWPATH_EXPORT int system(const char* command) {
  if (!active() || command == nullptr) return real().system(command);
  ExecEnvironment environment(environ);
  if (!shell_is_ours(command, environment)) return -1;
  if (!environment.changed()) return real().system(command);
  const std::size_t room = 4 * std::strlen(command) + room_for_exports;
  char* const whole = static_cast<char*>(alloca(room));
  if (environment.get() != nullptr && complete(environment, command, whole, room)) return real().system(whole);
  errno = ENOMEM;
  return -1;
}

TOWPATH_EXPORT FILE* popen(const char* command, const char* type) {
  if (!active() || command == nullptr) return real().popen(command, type);
  ExecEnvironment environment(environ);
  if (!shell_is_ours(command, environment)) return nullptr;
  if (!environment.changed()) return real().popen(command, type);
  const std::size_t room = 4 * std::strlen(command) + room_for_exports;
  char* const whole = static_cast<char*>(alloca(room));
  if (environment.get() != nullptr && complete(environment, command, whole, room)) return real().popen(whole, type);
  errno = ENOMEM;
  return nullptr;
}
