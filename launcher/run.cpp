#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/metrics_door.h"
#include "config/inbound.h"
#include "launcher/commands.h"
#include "launcher/descriptors.h"
#include "launcher/front_end.h"
#include "launcher/join.h"
#include "launcher/library.h"
#include "launcher/processes.h"
#include "launcher/wipe.h"
#include "trap/enter.h"
#include "proto/wire.h"

namespace towpath {

namespace {

int complain(int status, const std::string& text) {
  std::fprintf(stderr, "towpath: %s\n", text.c_str());
  return status;
}

void set_variable(std::vector<std::string>& environment, const std::string& name, const std::string& value) {
  std::erase_if(environment, [&](const std::string& entry) { return entry.starts_with(name + "="); });
  environment.push_back(name + "=" + value);
}

std::vector<std::string> program_environment(const RunOptions& options, const Loaded& loaded) {
  std::vector<std::string> out;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string entry(*at);
    const std::string name = entry.substr(0, entry.find('='));
    // The program is to leave proxying to us: what it does by itself is not absolute-form, TLS or SOCKS of ours,
    // and the credentials are none of its business. The metrics' address is taken: a towpath below needs its own.
    const bool ours = std::find(loaded.used_environment.begin(), loaded.used_environment.end(), name) !=
                      loaded.used_environment.end();
    if (name == "TOWPATH_METRICS") continue;
    if (!ours || options.keep_proxy_environment) out.push_back(entry);
  }
  return out;
}

// The tables are larger than some file size limits (ulimit -f). The program's limit stays what it was.
std::optional<Kept> create_kept(const Policy& policy, std::string& why) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit none{RLIM_INFINITY, RLIM_INFINITY}, hard{before.rlim_max, before.rlim_max};
  if (setrlimit(RLIMIT_FSIZE, &none) != 0) setrlimit(RLIMIT_FSIZE, &hard);
  const auto disposition = signal(SIGXFSZ, SIG_IGN);  // an error is enough
  auto kept = Kept::create(policy, why);
  signal(SIGXFSZ, disposition);
  setrlimit(RLIMIT_FSIZE, &before);
  return kept;
}

// False, and said: the address cannot be used.
bool open_metrics(const std::string& option, UniqueFd& out) {
  const char* variable = std::getenv("TOWPATH_METRICS");
  const std::string text = !option.empty() ? option : variable != nullptr ? variable : "";
  if (text.empty()) return true;
  const std::string name = option.empty() ? "TOWPATH_METRICS" : "--metrics";
  const Endpoint at = parse_metrics_address(text);
  std::string why = "\"" + text + "\" is none of PORT, ADDRESS:PORT, [ADDRESS]:PORT";
  if (at.address) out = listen_for_metrics(at, why);
  if (!out) return complain(0, name + ": " + why) != 0;
  if (!at.address.is_loopback())
    complain(0, "warning: " + name + " " + text + " can be asked by other hosts, without any credentials");
  return true;
}

// The filter that static programs need, and others have beneath the library.
void choose_net(NetMode net, const Choice& choice, const Policy& policy, Program& program) {
  const bool alone = choice.front_end == FrontEnd::seccomp;
  program.filter_alone = alone;
  program.filter_required = alone || net == NetMode::required;
  if (!alone && net == NetMode::off) return;
  if (!alone && policy.setuid == SetuidMode::direct && !trap::spares_privileges())
    program.no_net = trap::Step::privileges;
  else program.filter = trap::Flavour{choice.go, false, inbound_on(policy.reverse)};
}

// The program and nothing in between.
int execute(Program& program) {
  ProgramFile file;
  inspect_program(program.path.c_str(), file);
  fit_own_preload(file);
  std::vector<char*> arguments;
  for (std::string& each : program.arguments) arguments.push_back(each.data());
  arguments.push_back(nullptr);
  execv(program.path.c_str(), arguments.data());
  return complain(exit_cannot_execute, "cannot execute " + program.path + ": " + std::strerror(errno));
}

}  // namespace

int run_command(const RunOptions& options) {
  if (options.command.empty())
    return complain(exit_towpath_failed, "run: no command given (towpath run [options] [--] CMD [ARG...])");
  Program program;
  int error = 0;
  program.path = find_in_path(options.command.front(), std::getenv("PATH"), error);
  program.arguments = options.command;
  if (!options.argv0.empty()) program.arguments.front() = options.argv0;
  // Before the configuration is read: what the tree was configured by is not in its programs' environment.
  std::string why;
  const Tree tree = options.once && !program.path.empty() ? join_tree(program, why) : Tree::none;
  if (tree == Tree::refused) return complain(exit_towpath_failed, why);
  if (tree == Tree::joined) return execute(program);
  Sources sources = lasting_sources(options.common);
  const Loaded loaded = load_and_report(sources);
  if (!loaded.policy) return exit_towpath_failed;
  if (program.path.empty())
    return complain(error == ENOENT ? exit_not_found : exit_cannot_execute,
                    "cannot execute " + options.command.front() + ": " + std::strerror(error));
  program.environment = program_environment(options, loaded);
  sigprocmask(SIG_SETMASK, nullptr, &program.signal_mask);
  struct sigaction children {};
  sigaction(SIGCHLD, nullptr, &children);
  program.ignores_children = children.sa_handler == SIG_IGN;

  if (!loaded.policy->any_proxy() && !inbound_on(loaded.policy->reverse)) {
    // Nothing to tunnel and no client to name; but in a tree that is carried its policy stays in force.
    switch (join_tree(program, why)) {
      case Tree::refused: return complain(exit_towpath_failed, why);
      case Tree::joined: return execute(program);
      case Tree::none: break;
    }
    std::fprintf(stderr,
                 "towpath: warning: neither a proxy nor a reverse proxy is configured: %s runs without towpath\n",
                 options.command.front().c_str());
    return execute(program);
  }

  ProgramFile file;
  inspect_program(program.path.c_str(), file);
  const Mode mode = options.mode == "seccomp"   ? Mode::seccomp
                    : options.mode == "preload" ? Mode::preload
                                                : Mode::automatic;
  const NetMode net = mode == Mode::preload ? NetMode::off : loaded.policy->net;
  if (mode == Mode::preload && options.common.overrides.net == NetMode::required)
    return complain(exit_towpath_failed, "--net require contradicts --mode preload, which is the library alone");
  const Choice choice = choose_front_end(mode, file);
  if (choice.front_end == FrontEnd::none) return complain(choice.status, choice.reason);
  // What a static program starts may be dynamic, and is served better by the library; it needs none.
  const std::string library = mode == Mode::seccomp ? std::string() : find_library(why);
  if (library.empty() && choice.front_end == FrontEnd::preload) return complain(exit_towpath_failed, why);

  if (getrlimit(RLIMIT_NOFILE, &program.files) == 0 && !enough_descriptors(program.files, why))
    return complain(exit_towpath_failed, why);
  raise_descriptor_limit();
  auto opened = open_log(options.logging, why);
  if (!opened) return complain(exit_towpath_failed, why);
  Log& log = opened->log;
  auto kept = create_kept(*loaded.policy, why);
  if (!kept) return complain(exit_towpath_failed, why);
  if (!open_metrics(options.metrics, kept->metrics)) return exit_towpath_failed;
  kept->mode = choice.front_end == FrontEnd::seccomp ? "seccomp" : "preload";

  LogLine(log, Level::info, "front_end").add("program", file.path).add("mode", kept->mode);
  program.has_library = !library.empty();
  choose_net(net, choice, *loaded.policy, program);
  program.kept = &*kept;
  if (!library.empty()) set_variable(program.environment, "LD_PRELOAD", preload_value(library, file));
  set_variable(program.environment, std::string(wire::control_variable), kept->control_value());
  AgentProcess blueprint;
  blueprint.policy = loaded.policy;
  blueprint.sources = std::move(sources);
  blueprint.kept = &*kept;
  blueprint.log = &log;
  wipe_credentials();
  return supervise(std::move(blueprint), program);
}

int agent_command(const AgentOptions& options) {
  Sources sources = lasting_sources(options.common);
  const Loaded loaded = load_and_report(sources);
  if (!loaded.policy) return exit_towpath_failed;
  std::string why;
  auto opened = open_log(options.logging, why);
  if (!opened) return complain(exit_towpath_failed, why);
  Log& log = opened->log;
  wipe_credentials();
  if (!options.standalone.empty()) {
    if (!opened->file) log.follow_askers();
    return serve_standalone(loaded.policy, std::move(sources), options.standalone, log);
  }
  warn_of_nothing(*loaded.policy);
  auto kept = Kept::create(*loaded.policy, why);
  if (!kept) return complain(exit_towpath_failed, why);
  if (!open_metrics(options.metrics, kept->metrics)) return exit_towpath_failed;
  const std::string library = find_library(why);
  if (library.empty()) return complain(exit_towpath_failed, why);
  std::printf("LD_PRELOAD=%s\n%.*s=%s\n", library.c_str(), static_cast<int>(wire::control_variable.size()),
              wire::control_variable.data(), kept->control_value().c_str());
  std::fflush(stdout);
  return serve_alone(loaded.policy, std::move(sources), *kept, log);
}

}  // namespace towpath
