// towpath: the command line.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <string_view>

#include "launcher/commands.h"
#include "launcher/descriptors.h"

using namespace towpath;

namespace {

void add_common(CLI::App& command, Common& options) {
  command.add_option("-c,--config", options.file, "values file (default: $TOWPATH_CONFIG, else the environment alone)")
      ->type_name("FILE");
  command.add_option("--http", options.overrides.http, "proxy for port 80, and for all ports when there is no other");
  command.add_option("--https", options.overrides.https, "proxy for every port but 80");
  command.add_option("--exempt", options.overrides.exempt, "comma list of hosts that are reached directly");
}

// `towpath run [options] [--] CMD [ARG...]`: takes CMD and what follows out of the command line. They are none of our
// business, and CLI11 would read "[a,b]" as a list of two.
std::vector<std::string> take_command(const CLI::App& run, int& argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != "run") return {};
  int at = 2;
  for (; at < argc; ++at) {
    const std::string word(argv[at]);
    if (word == "--" || word.size() < 2 || word[0] != '-') break;
    const CLI::Option* option = run.get_option_no_throw(word);
    if (option != nullptr && option->get_expected_min() > 0) ++at;
  }
  if (at >= argc) return {};
  const int first = std::string_view(argv[at]) == "--" ? at + 1 : at;
  std::vector<std::string> command(argv + first, argv + argc);
  argc = at;
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "enter") return enter_command(argv + 2);
  occupy_standard_descriptors();
  CLI::App app{"Makes unmodified programs use the operator's proxies.", "towpath"};
  app.set_version_flag("--version", std::string("towpath ") + TOWPATH_VERSION);
  app.require_subcommand(1);

  RunOptions run;
  auto* run_app =
      app.add_subcommand("run", "run a program through the proxies: towpath run [options] [--] CMD [ARG...]");
  add_common(*run_app, run.common);
  run_app->add_flag("--keep-proxy-env", run.keep_proxy_environment,
                    "leave http_proxy and the like in the program's environment");
  run_app->add_option("--mode", run.mode, "how calls are intercepted: auto (default), preload, seccomp")
      ->check(CLI::IsMember({"auto", "preload", "seccomp"}))
      ->type_name("MODE");
  run_app->add_flag("--once", run.once, "in a process that towpath carries already: only start the program");
  run_app->add_option("--argv0", run.argv0, "what the program is told that it is called")->type_name("NAME");
  run_app->add_option("command", run.command, "the program and its arguments, which are never read as ours");
  const auto words = take_command(*run_app, argc, argv);

  Common check;
  auto* check_app = app.add_subcommand("check", "print all problems of the configuration, or what is in effect");
  add_common(*check_app, check);

  ExplainOptions explain;
  auto* explain_app = app.add_subcommand("explain", "say where a connection would go, and by which rule");
  add_common(*explain_app, explain.common);
  explain_app->add_flag("--json", explain.json, "one JSON object");
  explain_app->add_option("--address", explain.address, "the address that the name is known to have");
  auto* destination = explain_app->add_option("destination", explain.destination, "HOST:PORT");
  explain_app->add_flag("--inbound", explain.inbound,
                        "say what becomes of a connection whose first bytes (a PROXY header, a request head) are on "
                        "standard input");
  explain_app->add_option("--peer", explain.peer, "with --inbound: who connects")->type_name("IP:PORT");
  explain_app->add_option("--listener", explain.listener, "with --inbound: the port where the program listens")
      ->check(CLI::Range(1, 65535))
      ->type_name("PORT");

  std::string directory;
  auto* copy_app = app.add_subcommand("copy", "put towpath and its library into a directory");
  copy_app->add_option("directory", directory, "an existing directory")->required();

  Common agent;
  auto* agent_app = app.add_subcommand("agent", "the agent alone; prints the environment that leads programs to it");
  add_common(*agent_app, agent);
  std::string standalone;
  agent_app->add_option("--standalone", standalone)->group("");  // what libtowpath.so uses: not for people

  if (argc > 1 && argv[1][0] != '-') {
    const std::string word = argv[1];
    if (app.get_subcommands([&](const CLI::App* one) { return one->get_name() == word; }).empty()) {
      std::fprintf(stderr, "towpath: unknown command \"%s\": it is one of run, check, explain, copy, agent\n", argv[1]);
      return exit_towpath_failed;
    }
  }
  try {
    app.parse(argc, argv);
    run.command = words;
    if (*run_app) return run_command(run);
    if (*check_app) return check_command(check);
    if (*explain_app && explain.inbound == (destination->count() != 0))
      throw CLI::RequiredError("HOST:PORT or --inbound (not both)");
    if (*explain_app) return explain.inbound ? explain_inbound_command(explain) : explain_command(explain);
    if (*copy_app) return copy_command(directory);
    return agent_command(agent, standalone);
  } catch (const CLI::ParseError& problem) {
    const int status = app.exit(problem);
    return status == 0 ? 0 : exit_towpath_failed;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "towpath: %s\n", problem.what());
    return exit_towpath_failed;
  }
}
