// What the library knows about the process it lives in. No descriptor, no thread, no heap.
#pragma once

#include <atomic>

#include "proto/page.h"
#include "proto/wire.h"

namespace towpath {

// False: the environment says nothing of towpath or proxies, every hook is transparent.
bool active() noexcept;

// The agent that this process knows. `standalone`: nobody gave it to us, the library finds or starts it.
struct AgentAddress {
  char name[wire::max_control_name];
  std::size_t name_size;
  bool standalone;
  unsigned user;  // of a standalone agent: whose name it has
};
void agent_address(AgentAddress& out) noexcept;
// Nobody answers there: is there another place, for the user that this process is now?
bool other_agent_address(AgentAddress& out) noexcept;
// The right to ask; false while a standalone agent has not told it yet.
bool agent_token(wire::Token& out) noexcept;
void set_agent_token(const wire::Token& token) noexcept;
// "CONTROL:TOKEN" as the environment variable has it, for a process that must be told; its size, 0 while no agent
// answers.
inline constexpr std::size_t most_control_text = wire::max_control_name + 1 + 32 + 3;
std::size_t control_text(std::span<char, most_control_text> out) noexcept;
// A standalone agent answers under our name: the one we know, or another than before (then what the old one published
// is dead). False: it belongs to a user that we must not trust.
bool recognise_agent(int connection, unsigned user) noexcept;
// The process that listens at the other end belongs to root, to our own user, or to the user that we (or the process we
// were forked from) trusted before: the name alone could have been taken by anybody once its owner is gone.
bool trusted_agent(int connection) noexcept;
// An answer came from the agent that publishes that page.
void note_page_id(std::uint64_t id) noexcept;

// May accept() be the agent's business? False: it is untouched.
bool inbound_possible() noexcept;

// The constructor is over: what is said from here on is about what the program does.
bool program_runs() noexcept;

bool has_variable(std::string_view name) noexcept;
// The value of a variable as the process has it now; "" when unset.
std::string_view environment(std::string_view name) noexcept;

// The agent's page, mapped at the first call that needs it; null while no agent answers.
const Page* page() noexcept;
// The page if it is mapped already.
const Page* mapped_page() noexcept;

// This process (or the one it was forked from) has had a handshake run behind its back at least once.
void note_gated() noexcept;
bool ever_gated() noexcept;

// The page's entry of a socket that towpath knows, null when it knows none. Looks at pages of dead agents, too: what
// was pending there is lost.
const PageEntry* known_socket_entry(std::uint64_t cookie) noexcept;
SocketState state_of(const PageEntry& entry) noexcept;

// Could any socket of the whole tree be in a handshake right now?
bool tree_pending() noexcept;
// Could any socket of this process be? One or two loads; false nearly always.
bool anything_pending() noexcept;

// The kernel's identity of a socket, 0 when `fd` is none.
std::uint64_t cookie_of(int fd) noexcept;

// The page's entry when `fd` is a socket in a handshake, or in one that ended with its agent.
const PageEntry* gated_socket(int fd) noexcept;

// `fd` is a socket that the agent has a copy of, so that a close is its business, too.
bool agent_holds(int fd) noexcept;

// The page's entry when `fd` is a socket in a handshake.
const PageEntry* pending_socket(int fd) noexcept;

// True when `size` bytes at `from` can be read: a hook must give EFAULT where the kernel would, not crash.
bool readable(const void* from, std::size_t size) noexcept;

}  // namespace towpath
