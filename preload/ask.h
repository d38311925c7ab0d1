// One conversation with the agent: a connection of its own, opened for one ask and closed after it.
// Nothing is kept between asks, so there is nothing to repair after fork and nothing for closefrom() to break.
#pragma once

#include <cstdint>
#include <span>

#include "base/error.h"
#include "proto/page.h"
#include "proto/wire.h"

namespace towpath {

class Conversation {
 public:
  // Opens the connection; ok() is false when no agent listens.
  Conversation() noexcept;
  ~Conversation();
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  [[nodiscard]] bool ok() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  // Not ok() because this process may not have more of them.
  [[nodiscard]] bool out_of_descriptors() const noexcept { return out_of_descriptors_; }

  // Descriptors are passed, not given away.
  bool say(wire::Message& ask, std::span<const int> descriptors = {}) noexcept;

  enum class Heard : std::uint8_t { reply, interrupted, timed_out, lost };
  // With `wait`, waits as long as the program's own call would (signals end it as they end that call, `timeout` zero
  // is for ever). Without, insists on an answer for a few seconds: the agent owes one at once.
  Heard hear(wire::Reply& out, bool wait, timeval timeout = {}) noexcept;
  // An answer at once, and the descriptor that may come with it; -1: none, or no room for it in this process.
  Heard hear_with_descriptor(wire::Reply& out, int& descriptor, bool close_on_exec) noexcept;

 private:
  int fd_ = -1;
  bool out_of_descriptors_ = false;
  std::byte packet_[wire::max_message];  // what `out` of hear() points into
};

// An agent that goes over a question, or had no room for the one who asks, leaves the question to its successor, which
// hears the same socket: so often is it asked.
inline constexpr int most_agents = 2;

// A new read-only descriptor of the agent's page, or -1.
int ask_for_page() noexcept;
// The same of the table of clients.
int ask_for_clients() noexcept;

// Waits until one of the sockets is decided (or the agent is gone). The conversation's descriptor becomes readable.
bool begin_watch(Conversation& talk, std::span<const std::uint64_t> cookies) noexcept;

// The state of a socket, by the agent of now: a pending one is lost when the agent that began it has died. Asks only
// about pending ones.
SocketState settled_state(const PageEntry& entry) noexcept;

// For blocking calls on a socket whose handshake runs: returns when it is over.
void wait_until_decided(std::uint64_t cookie) noexcept;

}  // namespace towpath
