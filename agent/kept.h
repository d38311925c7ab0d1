// What outlives an agent: made once by the process that starts it, handed to every later one.
#pragma once

#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "config/policy.h"
#include "proto/wire.h"

namespace towpath {

struct Kept {
  UniqueFd control;              // the listening socket: asks queue here while there is no agent
  UniqueFd names;                // SyntheticNames
  UniqueFd page;                 // PageWriter
  UniqueFd clients;              // ClientTableWriter; none when accept is not managed
  UniqueFd shelf_in, shelf_out;  // DeathBell: descriptors that lie in flight between the two
  wire::Token token{};
  std::string control_name;  // abstract
  bool standalone = false;   // started by a preloaded library, under a name that others derive, too

  // `name`: of a standalone agent; empty: a random one. `taken` is set when somebody listens under that name already.
  [[nodiscard]] static std::optional<Kept> create(const Policy& policy, std::string& why, const std::string& name = {},
                                                  bool* taken = nullptr);
  // The value of the environment variable that leads a process to its agent.
  [[nodiscard]] std::string control_value() const;
};

}  // namespace towpath
