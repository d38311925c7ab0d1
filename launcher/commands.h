// What `towpath` does, one function per command. Each returns the exit status.
#pragma once

#include <string>
#include <vector>

#include "config/load.h"
#include "launcher/logging.h"

namespace towpath {

// env(1) and timeout(1) use the same: the program's own status is anything else.
inline constexpr int exit_towpath_failed = 125;
inline constexpr int exit_cannot_execute = 126;
inline constexpr int exit_not_found = 127;

struct Common {
  std::string file;
  Overrides overrides;
};

struct RunOptions {
  Common common;
  bool keep_proxy_environment = false;
  std::string mode = "auto";  // auto, preload, seccomp
  bool once = false;          // already carried by towpath: the program alone
  std::string argv0;          // empty: as the program's name was given
  std::vector<std::string> command;
  LogOptions logging;
  std::string metrics;  // ADDRESS:PORT; empty: TOWPATH_METRICS, else none
};

struct AgentOptions {
  Common common;
  LogOptions logging;
  std::string metrics;
  // The control socket's name that a preloaded library asked for; empty: print a random one and serve.
  std::string standalone;
};

struct StatusOptions {
  bool json = false;
  int pid = 0;  // an agent's, or a process that one serves; 0: all agents
};

struct ExplainOptions {
  Common common;
  bool json = false;
  std::string address;
  std::string destination;
  bool inbound = false;
  std::string peer;  // inbound: who connects, IP:PORT
  int listener = 0;  // inbound: the program's port; 0: any that is not listed
};

struct DoctorOptions {
  Common common;
  std::string target = "example.com";  // RFC 2606: a name that every proxy may look up
  std::string program;                 // the file that towpath is to serve; empty: any kind
  bool json = false;
};

int run_command(const RunOptions& options);
// `towpath enter`: the words after it. Returns only when the program could not be executed.
int enter_command(char** words);
int copy_command(const std::string& directory);
int check_command(const Common& options);
int doctor_command(const DoctorOptions& options);
int explain_command(const ExplainOptions& options);
int explain_inbound_command(const ExplainOptions& options);  // reads standard input
int agent_command(const AgentOptions& options);
int status_command(const StatusOptions& options);

// Loads and prints every problem to standard error. A null policy: at least one of them is an error.
[[nodiscard]] Loaded load_and_report(const Common& options);
[[nodiscard]] Loaded load_and_report(const Sources& sources);
// What the command line and the environment say, relative paths from the current directory: for a process that will
// read it all again later, wherever it is then.
[[nodiscard]] Sources lasting_sources(const Common& options);
// One line on standard error, with the remedy, when neither proxies nor a reverse proxy are configured.
void warn_of_nothing(const Policy& policy);

}  // namespace towpath
