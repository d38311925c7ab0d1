// What outlives an agent: made once by the process that starts it, handed to every later one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "config/policy.h"
#include "proto/wire.h"

namespace towpath {

struct Kept {
  UniqueFd control;                      // the listening socket: asks queue here while there is no agent
  UniqueFd names;                        // SyntheticNames
  UniqueFd page;                         // PageWriter
  UniqueFd clients;                      // ClientTableWriter; none when accept is not managed
  UniqueFd shelf_in, shelf_out;          // Shelf of DeathBell
  UniqueFd listeners_in, listeners_out;  // Shelf of Supervisor
  UniqueFd metrics;                      // the listening socket of MetricsDoor; none when nobody wants metrics
  wire::Token token{};
  std::string control_name;  // abstract
  std::string mode;          // for `status`: preload or seccomp (the started program), agent, standalone
  bool standalone = false;   // started by a preloaded library, under a name that others derive, too

  // `name`: of a standalone agent; empty: a random one. `taken` is set when somebody listens under that name already.
  [[nodiscard]] static std::optional<Kept> create(const Policy& policy, std::string& why, const std::string& name = {},
                                                  bool* taken = nullptr);
  // What a process that keeps it all must not close.
  [[nodiscard]] std::vector<int> descriptors() const;
  // The value of the environment variable that leads a process to its agent.
  [[nodiscard]] std::string control_value() const;
  [[nodiscard]] std::string token_text() const;  // hexadecimal
};

}  // namespace towpath
