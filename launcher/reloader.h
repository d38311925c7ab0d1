// Gives a running agent another configuration: when SIGHUP asks for it, and when a file that it came from has changed.
// What cannot be used is told and leaves the running one as it is.
//
// Whatever asked for it, the files are read when they have been left alone for a while and nobody is writing to them:
// half a file is often a valid one, and says something else ("*.corp" cut to "*").
#pragma once

#include <array>
#include <cstdint>
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
  // The files as they lie there: where the path leads, and when and how much was written last.
  using Stamps = std::vector<std::array<std::int64_t, 6>>;
  static constexpr std::uint64_t quiet_ms = 200;
  // Files that do not rest for longer, or that somebody has open for writing, are taken as they are.
  static constexpr std::uint64_t most_patience_ms = 10'000;

  void ask();
  void settle();
  void look();
  void take(Reconsidered fresh);
  void watch();
  [[nodiscard]] std::vector<std::string> files() const;
  [[nodiscard]] Stamps stamps() const;

  uv_loop_t* loop_;
  Agent& agent_;
  Sources sources_;
  const Log& log_;
  std::function<void()> applied_;
  ConfigWatch watch_;
  UvSignal hangup_;
  UvTimer quiet_;
  Stamps stamps_;                            // when the current quiet began
  std::uint64_t asked_ms_ = 0;               // uv_now; 0: nobody waits
  int rounds_ = 0;                           // of other files to be read
  std::vector<std::string> watched_, good_;  // the files of the last configuration read, and of the last one in force
  std::vector<std::string> waiting_;         // what was said to change at the next start
  bool complained_ = false;                  // that files cannot be watched
};

}  // namespace towpath
