// Gives a running agent another configuration: when SIGHUP asks for it, and when a file that it came from has changed.
// What cannot be used is told and leaves the running one as it is.
#pragma once

#include <functional>

#include "agent/agent.h"
#include "config/load.h"
#include "config/reconsider.h"
#include "launcher/config_watch.h"

namespace towpath {

class Reloader {
 public:
  // Borrows the agent and the log. `applied` is called after each change.
  Reloader(uv_loop_t* loop, Agent& agent, Sources sources, const Log& log, std::function<void()> applied = {});

 private:
  void reload();
  void watch();

  Agent& agent_;
  Sources sources_;
  const Log& log_;
  std::function<void()> applied_;
  ConfigWatch watch_;
  UvSignal hangup_;
  std::vector<std::string> watched_, good_;  // the files of the last configuration read, and of the last one in force
  bool complained_ = false;                  // that files cannot be watched
};

}  // namespace towpath
