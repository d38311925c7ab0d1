// Puts this thread, and all that it executes and forks, under the agent's supervision: installs the filter and hands
// its listener to the agent. System calls only, no heap: the launcher uses it between fork and exec, the preloaded
// library in the program's own process before an exec or, for Go programs, before their runtime starts.
#pragma once

#include <string_view>

#include "proto/wire.h"
#include "trap/filter.h"

namespace towpath::trap {

enum class Step : std::uint8_t {  // also in wire::NoNetAsk: new ones at the end
  entered,
  foreign_listener,  // another supervisor has a filter on this process already: the kernel allows one
  filter,            // the kernel refuses the filter
  privileges,  // setuid programs are to run (`setuid: direct`), and without CAP_SYS_ADMIN the filter would hurt them
  agent,       // the agent did not take the listener; calls that are stopped fail from now on
  unseen,      // the agent may not look into this process (Yama, a profile, another user)
};

struct Entered {
  Step step = Step::entered;
  int error = 0;        // errno of the system call that failed
  bool births = false;  // entered: the agent makes the sockets (Flavour)
};

// A connection to the agent's control socket, at a number above the standard descriptors; -errno. No look at who
// listens there: for a name that only our own parents could have taken.
[[nodiscard]] int connect_agent(std::string_view control_name) noexcept;

// What the library's own calls bear below a filter that was put on with that token.
[[nodiscard]] Secret secret_of(const wire::Token& token) noexcept;

// `connection` leads to the agent and is borrowed. Sets no_new_privs only where the kernel demands it. `flavour.births`
// is decided here.
[[nodiscard]] Entered enter(int connection, const wire::Token& token, Flavour flavour) noexcept;

// Whether the agent may look into this process, before a filter makes everything depend on it: 0 or an errno. Another
// connection than enter() gets.
[[nodiscard]] int seen_by_agent(int connection, const wire::Token& token) noexcept;

// Does the kernel refuse pidfd_getfd, so that the agent makes the sockets of a filter that is put on here?
[[nodiscard]] bool makes_sockets(int some_descriptor) noexcept;

// May this process put a filter on that leaves setuid programs their privileges (CAP_SYS_ADMIN)?
[[nodiscard]] bool spares_privileges() noexcept;

// For a program that cannot be supervised and must not go around the proxy: no INET socket can be made from here on.
// False: the kernel refuses that filter, too.
[[nodiscard]] bool deny_network() noexcept;

// Is this process supervised by the agent with that token already?
[[nodiscard]] bool supervised(const wire::Token& token) noexcept;

// One sentence for a message, without a full stop.
[[nodiscard]] std::string_view explain(Step step) noexcept;

}  // namespace towpath::trap
