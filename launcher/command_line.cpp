#include "launcher/command_line.h"

#include <cstdio>

#include "launcher/completion.h"

namespace towpath {

namespace {

constexpr const char* environment_text = R"(Environment:
  TOWPATH_CONFIG                the values file where -c is not given
  http_proxy, https_proxy, all_proxy, no_proxy
                                proxies and exempt hosts that neither options nor the file give
  TOWPATH_LOG                   error, warning (default), info or debug
  TOWPATH_LOG_FILE              log lines are appended there instead of going to standard error
  TOWPATH_LOG_FORMAT            text (default) or json
  TOWPATH_METRICS               [ADDRESS:]PORT for Prometheus
  TOWPATH_LIBRARY               libtowpath.so, where it is neither beside towpath nor in ../lib
)";

constexpr const char* run_about = R"(Examples:
  towpath run -c values.yaml -- ./server --port 8080
  towpath run --http proxy.example:3128 --exempt cluster.local -- curl https://api.example/
  https_proxy=socks5://10.0.0.1:1080 towpath run -- git clone https://git.example/x.git

)";

constexpr const char* check_about = R"(Examples:
  towpath check -c values.yaml
  http_proxy=proxy.example:3128 towpath check

Exit status: 0 usable (warnings included), 1 the configuration has errors, 125 the command line is wrong.
)";

constexpr const char* explain_about = R"(Examples:
  towpath explain -c values.yaml db.example:5432
  towpath explain -c values.yaml --address 10.1.2.3 db.example:5432
  printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\n' | towpath explain -c values.yaml --inbound --peer 10.0.0.5:40000

Exit status: 0 answered, 1 the configuration has errors, 125 the command line is wrong.
)";

constexpr const char* agent_about = R"(Example:
  towpath agent -c values.yaml > agent.env & agent=$!
  until [ -s agent.env ] || ! kill -0 $agent; do sleep 0.1; done
  set -a; . ./agent.env; set +a; curl https://api.example/

)";

constexpr const char* status_about = R"(Examples:
  towpath status
  towpath status --json --pid 4711

Exit status: 0 an agent answered, 1 none did, 125 the command line is wrong.
)";

constexpr const char* doctor_about = R"(Examples:
  towpath doctor -c values.yaml
  towpath doctor -c values.yaml --program /opt/coder --target github.com

Exit status: 0 all that is needed works, 1 something does not, 125 the command line is wrong.
)";

constexpr const char* copy_about = R"(Example, as an init container that has no shell:
  towpath copy /shared

)";

constexpr const char* run_status =
    "\nExit status: the program's own; 125 towpath failed, 126 the program cannot be executed, 127 not found.\n";

constexpr const char* completion_about = R"~(Examples:
  eval "$(towpath completion bash)"                                  # in ~/.bashrc
  towpath completion zsh > /usr/share/zsh/site-functions/_towpath
  towpath completion fish > ~/.config/fish/completions/towpath.fish
)~";

constexpr const char* about = R"(Examples:
  towpath check -c values.yaml                                       # is it right? what is in effect?
  towpath explain -c values.yaml db.example:5432                     # where would that go, and why?
  towpath run -c values.yaml -- curl https://api.example/            # with the Helm values file as it is
  towpath run --http proxy.example:3128 -- ./server                  # or with options

towpath help COMMAND says more about each.)";

class Help : public CLI::Formatter {
 public:
  explicit Help(std::string form) : form_(std::move(form)) {}

  std::string make_usage(const CLI::App* app, std::string name) const override {
    return "Usage: " + (name.empty() ? app->get_name() : name) + (form_.empty() ? "" : " ") + form_ + "\n\n";
  }
  std::string make_footer(const CLI::App* app) const override { return app->get_footer(); }

 private:
  std::string form_;
};

void add_common(CLI::App& command, Common& options) {
  command.add_option("-c,--config", options.file, "values file (default: $TOWPATH_CONFIG, else the environment alone)")
      ->type_name("FILE");
  command
      .add_option(
          "--http", options.overrides.http,
          "proxy for port 80, and for all ports when there is no other: [SCHEME://][USER:PASSWORD@]HOST[:PORT], "
          "SCHEME is http (default), https or socks5; may be repeated: the next one is used while those before it "
          "cannot "
          "be reached")
      ->allow_extra_args(false)  // a list would take the words behind it, and "[::1]" for a list of its own
      ->type_name("URL");
  command.add_option("--https", options.overrides.https, "proxy for every port but 80; the same form, may be repeated")
      ->allow_extra_args(false)
      ->type_name("URL");
  command.add_option("--exempt", options.overrides.exempt, "comma list of hosts that are reached directly")
      ->type_name("LIST");
}

void add_reports(CLI::App& command, LogOptions& logging, std::string& metrics) {
  command.add_option("--log-level", logging.level, "error, warning (default), info, debug; also $TOWPATH_LOG")
      ->type_name("LEVEL");
  command
      .add_option("--log-file", logging.file, "append to this file (default: standard error); also $TOWPATH_LOG_FILE")
      ->type_name("FILE");
  command.add_option("--log-format", logging.format, "text (default) or json; also $TOWPATH_LOG_FORMAT")
      ->type_name("FORMAT");
  command.add_option("--metrics", metrics, "serve Prometheus metrics on ADDRESS:PORT; also $TOWPATH_METRICS")
      ->type_name("[ADDRESS:]PORT");
}

}  // namespace

CommandLine::CommandLine() : app_("Makes unmodified programs use the operator's proxies.", "towpath") {
  app_.formatter(std::make_shared<Help>("COMMAND [OPTIONS] ..."));
  app_.footer(std::string(about) + "\n\n" + environment_text + run_status);
  app_.set_version_flag("--version", std::string("towpath ") + TOWPATH_VERSION);
  app_.require_subcommand(1);
  add_run();
  add_check();
  add_explain();
  add_agent();
  add_status();
  add_doctor();
  add_copy();
  add_completion();
  add_help();
}

CLI::App* CommandLine::add(const std::string& name, const std::string& summary, const std::string& form,
                           const std::string& about_it) {
  CLI::App* command = app_.add_subcommand(name, summary);
  command->group("Commands");
  command->formatter(std::make_shared<Help>(form));
  command->footer(about_it);
  return command;
}

void CommandLine::add_run() {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* run = add("run", "run a program through the proxies", "[OPTIONS] [--] CMD [ARG...]",
                      std::string(run_about) + environment_text + run_status);
  add_common(*run, options->common);
  run->add_flag("--keep-proxy-env", options->keep_proxy_environment,
                "leave http_proxy and the like in the program's environment");
  run->add_option("--mode", options->mode,
                  "how calls are intercepted: auto (default, by the program's file), preload, seccomp")
      ->check(CLI::IsMember({"auto", "preload", "seccomp"}))
      ->type_name("MODE")
      ->option_text("MODE");
  run->add_option_function<std::string>(
         "--net",
         [options](const std::string& word) {
           options->common.overrides.net = word == "require" ? NetMode::required
                                           : word == "off"   ? NetMode::off
                                                             : NetMode::automatic;
         },
         "the seccomp filter for what passes the library by: auto (default), require (nothing runs without it), off")
      ->check(CLI::IsMember({"auto", "require", "off"}))
      ->type_name("NET")
      ->option_text("NET");
  run->add_flag("--once", options->once, "in a process that towpath carries already: only start the program");
  run->add_option("--argv0", options->argv0, "what the program is told that it is called")->type_name("NAME");
  add_reports(*run, options->logging, options->metrics);
  run->add_option("command", options->command, "the program and its arguments, which are never read as ours")
      ->type_name("CMD");
  commands_.push_back({run, [this, options] {
                         options->command = program_words_;
                         return run_command(*options);
                       }});
}

void CommandLine::add_check() {
  const auto options = std::make_shared<Common>();
  CLI::App* check =
      add("check", "print all problems of the configuration, or what is in effect", "[OPTIONS]", check_about);
  add_common(*check, *options);
  commands_.push_back({check, [options] { return check_command(*options); }});
}

void CommandLine::add_explain() {
  const auto options = std::make_shared<ExplainOptions>();
  CLI::App* explain =
      add("explain", "say where a connection would go, and by which rule",
          "[OPTIONS] HOST:PORT\n       towpath explain [OPTIONS] --inbound --peer IP:PORT < BYTES", explain_about);
  add_common(*explain, options->common);
  explain->add_flag("--json", options->json, "one JSON object");
  explain->add_option("--address", options->address, "the address that the name is known to have")->type_name("IP");
  explain->add_option("destination", options->destination, "where to")->type_name("HOST:PORT");
  explain->add_flag("--inbound", options->inbound,
                    "say what becomes of a connection that is accepted, whose first bytes (a PROXY header, a request "
                    "head) are on standard input");
  explain->add_option("--peer", options->peer, "with --inbound: who connects")->type_name("IP:PORT");
  explain
      ->add_option("--listener", options->listener,
                   "with --inbound: the port where the program listens (default: one that is not listed)")
      ->check(CLI::Range(1, 65535).description(""))
      ->type_name("PORT");
  commands_.push_back({explain, [options, explain] {
                         if (!options->inbound && explain->count("--listener") != 0)
                           throw CLI::RequiresError("--listener", "--inbound");
                         if (!options->inbound && !options->peer.empty())
                           throw CLI::RequiresError("--peer", "--inbound");
                         if (options->inbound && options->peer.empty())
                           throw CLI::RequiresError("--inbound", "--peer IP:PORT (who connects, like 10.0.0.5:40000)");
                         if (options->inbound == (explain->count("destination") != 0))
                           throw CLI::RequiredError("HOST:PORT or --inbound (not both)");
                         return options->inbound ? explain_inbound_command(*options) : explain_command(*options);
                       }});
}

void CommandLine::add_agent() {
  const auto options = std::make_shared<AgentOptions>();
  CLI::App* agent = add("agent", "the agent alone; prints the environment that leads programs to it", "[OPTIONS]",
                        std::string(agent_about) + environment_text);
  add_common(*agent, options->common);
  add_reports(*agent, options->logging, options->metrics);
  agent->add_option("--standalone", options->standalone)->group("");  // what libtowpath.so uses: not for people
  commands_.push_back({agent, [options] { return agent_command(*options); }});
}

void CommandLine::add_doctor() {
  const auto options = std::make_shared<DoctorOptions>();
  CLI::App* doctor =
      add("doctor", "try every mechanism and proxy on this machine; say what to change", "[OPTIONS]", doctor_about);
  add_common(*doctor, options->common);
  doctor->add_option("--target", options->target, "the host that proxies are asked for (default: example.com)")
      ->type_name("HOST");
  doctor->add_option("--program", options->program, "the program that matters: what it does not need is not required")
      ->type_name("FILE");
  doctor->add_flag("--json", options->json, "one JSON object");
  commands_.push_back({doctor, [options] { return doctor_command(*options); }});
}

void CommandLine::add_copy() {
  const auto directory = std::make_shared<std::string>();
  CLI::App* copy = add("copy", "put towpath and its library into a directory", "DIR", copy_about);
  copy->add_option("directory", *directory, "an existing directory")->type_name("DIR")->required();
  commands_.push_back({copy, [directory] { return copy_command(*directory); }});
}

void CommandLine::add_status() {
  const auto options = std::make_shared<StatusOptions>();
  CLI::App* status = add("status", "what the agents of this machine are doing", "[OPTIONS]", status_about);
  status->add_flag("--json", options->json, "one JSON object");
  status->add_option("--pid", options->pid, "only the agent with this process, or that serves it")
      ->check(CLI::Range(1, 1 << 22).description(""))  // PID_MAX_LIMIT
      ->type_name("PID");
  commands_.push_back({status, [options] { return status_command(*options); }});
}

void CommandLine::add_completion() {
  const auto shell = std::make_shared<std::string>();
  CLI::App* completion =
      add("completion", "print what makes a shell complete towpath's command line", "SHELL", completion_about);
  completion->add_option("shell", *shell, "whose completion")
      ->check(CLI::IsMember({"bash", "zsh", "fish"}))
      ->type_name("SHELL")
      ->option_text("bash, zsh or fish")
      ->required();
  commands_.push_back({completion, [this, shell] {
                         std::fputs(completion_script(app_, *shell).c_str(), stdout);
                         return 0;
                       }});
}

void CommandLine::add_help() {
  const auto topic = std::make_shared<std::string>();
  CLI::App* help = add("help", "this help, or that of a command", "[COMMAND]", "");
  help->add_option("command", *topic, "a command")->type_name("COMMAND");
  commands_.push_back({help, [this, topic] {
                         // App::help() would be that of the command which was given: of `help`.
                         const CLI::App* one = topic->empty() ? &app_ : app_.get_subcommand(*topic);
                         const std::string name = topic->empty() ? "towpath" : "towpath " + *topic;
                         const auto text = one->get_formatter()->make_help(one, name, CLI::AppFormatMode::Normal);
                         std::fputs(text.c_str(), stdout);
                         return 0;
                       }});
  commands_.push_back({add("version", "print the version", "", ""), [] {
                         std::puts("towpath " TOWPATH_VERSION);
                         return 0;
                       }});
}

}  // namespace towpath
