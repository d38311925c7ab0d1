// LD_PRELOAD alone: no launcher has started an agent, the environment itself configures the proxies. The first ask of
// the first process starts one, and every process with the same user, PID namespace and configuration meets there.
#pragma once

#include <span>

#include "proto/wire.h"

namespace towpath {

// The environment says something about proxies (TOWPATH_CONFIG, http_proxy, ...). Looked at once.
bool standalone_configured() noexcept;

// Does the environment name a file, which may speak of a reverse proxy, or trusted ones?
bool standalone_may_accept() noexcept;

// The control socket's abstract name for processes of that user; its size.
std::size_t rendezvous_name(std::span<char, wire::max_control_name> out, unsigned user) noexcept;

// Starts `towpath agent` for that name and returns when it listens, or when there is no way to have one (false).
// The program does not notice: no SIGCHLD, nothing for wait(-1), no descriptor.
bool start_agent(std::string_view name) noexcept;

// Where this library lies, as the loader found it; "" when that cannot be told.
std::string_view own_path() noexcept;
// The variables that this process's own agent is configured by, NAME=value, null at the end; for what it executes.
const char* const* saved_configuration() noexcept;
// Is `name` one of those that configure an agent at all?
bool configures(std::string_view name) noexcept;

// Where the towpath executable may be, in order, null at the end.
struct AgentPaths {
  static constexpr std::size_t longest = 4096;
  char beside[longest], near[longest];
  const char* list[5];
};
void agent_paths(AgentPaths& out) noexcept;

}  // namespace towpath
