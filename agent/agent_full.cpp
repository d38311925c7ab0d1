// An agent without a free descriptor: what it cannot take waits or is refused, and it says so.
#include "agent/agent.h"
#include "agent/full.h"

namespace towpath {

void say_full(const Log& log) {
  LogLine(log, Level::error, "agent_full")
      .add("reason", "the agent has no free descriptor: connects wait or fail with ENFILE")
      .add("hint", "raise the hard limit of open files (ulimit -Hn, LimitNOFILE=, the container's nofile)");
}

void Agent::on_full() { say_full(log_); }

}  // namespace towpath
