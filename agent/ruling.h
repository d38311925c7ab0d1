// What the agent decides about one connect(), whichever way it came: from the preloaded library or from the kernel.
#pragma once

#include "agent/conversation.h"
#include "base/endpoint.h"
#include "base/unique_fd.h"
#include "proto/wire.h"

namespace towpath {

class Attempt;

struct Ruling {
  enum class Kind : std::uint8_t {
    direct,   // to where the program wanted to go
    refused,  // `error`; the reason is in the log
    instead,  // to `endpoint`, which stands for the name server that the program asks
    attempt,  // `attempt` has taken the socket, and is to be started
  } kind = Kind::refused;
  int error = 0;
  Endpoint endpoint;
  Attempt* attempt = nullptr;
};

// Whoever decides.
class Judge {
 public:
  // Takes the socket for an attempt only.
  virtual Ruling judge_connect(const wire::ConnectAsk& ask, UniqueFd& socket, const Asker& asker) = 0;
  // Connects the socket to ask.target as if there were no towpath: for a caller that cannot be left to the kernel.
  virtual Attempt& native_connect(const wire::ConnectAsk& ask, UniqueFd socket, const Asker& asker) = 0;
  // The attempt that runs for that socket, or null.
  virtual Attempt* find(std::uint64_t cookie) = 0;
  virtual bool any_attempt() const = 0;

 protected:
  ~Judge() = default;
};

}  // namespace towpath
