// The three processes of `towpath run`.
//
//   P  what the user started: signals, job control, exit status, reaping as PID 1; keeps what survives an agent
//   A  the agent: in a session of its own (the terminal's keys do not reach it), parent of C
//   C  the program, in P's process group
//
// A is C's ancestor because Yama's ptrace_scope=1 lets only ancestors look into a process. Both P and A are child
// subreapers: when A dies, C becomes P's child; orphans of C become A's, so A knows when its whole tree has ended.
//
// Start: A forks C, which waits; A listens and reports `started`; P hands on what signals it got until then and lets C
// go. From then on the terminal's signals reach C by themselves, and every other one by P: each exactly once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "agent/kept.h"
#include "agent/log.h"
#include "base/unique_fd.h"
#include "config/load.h"
#include "trap/enter.h"

namespace towpath {

// From A to P, one write each.
struct ProgramReport {
  enum class Kind : int { started, exited, killed, agent_failed, reloaded } kind;
  int value;  // exit status or signal
  pid_t pid;
  std::uint64_t policy = 0;  // reloaded: fingerprint() of the one that A goes by now
};

struct Program {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=value
  sigset_t signal_mask;                  // as P found it
  bool ignores_children = false;         // SIGCHLD, as P found it
  rlimit files{};                        // RLIMIT_NOFILE, as P found it
  // The program puts itself under a filter of that flavour before it is executed.
  std::optional<trap::Flavour> filter;
  bool filter_alone = false;     // nothing else serves the program
  bool filter_required = false;  // else the library serves it alone, and the agent is told so
  bool has_library = false;
  std::optional<trap::Step> no_net;  // why there is no filter although one is wanted
  const Kept* kept = nullptr;
};

struct AgentProcess {
  std::shared_ptr<const Policy> policy;
  Sources sources;  // where it came from, and later ones come from
  Kept* kept = nullptr;
  Log* log = nullptr;
  pid_t supervisor = 0;              // P
  UniqueFd reports;                  // to P
  UniqueFd lifeline;                 // readable at its end when P is gone
  UniqueFd go;                       // what C waits for
  const Program* program = nullptr;  // null: the program runs already (this agent replaces one that died),
  pid_t running = 0;                 // as this process
};

// A. Does not return.
[[noreturn]] void run_agent_process(AgentProcess setup);

// `towpath agent`: serves until a signal ends it. Returns the exit status.
int serve_alone(std::shared_ptr<const Policy> policy, Sources sources, Kept& kept, const Log& log);

// The agent that a preloaded library starts (`towpath agent --standalone NAME`). Descriptor 3 is the writing end of a
// pipe: one byte when the agent listens (or another one does), its end when there will be none. Ends a minute after its
// last asker.
int serve_standalone(std::shared_ptr<const Policy> policy, Sources sources, const std::string& name, const Log& log);

// C, between fork and exec. Waits for one byte on `go`; its end without one means that no agent came up,
// or that P is gone.
[[noreturn]] void become_program(const Program& program, int go);

// P, after A was started for the first time. Returns the exit status of the command.
int supervise(AgentProcess blueprint, const Program& program);

}  // namespace towpath
