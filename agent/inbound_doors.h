// The agent's own connections to the program's listeners (proto/inbound_page.h has the other side of the contract).
//
// Source and destination are one address, so that a listener on any address, a wildcard or a device takes them; the
// port is bound before the door is announced, and announced before the connect. Taken back by RST: no TIME_WAIT may eat
// the ports of that one address.
#pragma once

#include "base/endpoint.h"
#include "base/unique_fd.h"
#include "proto/inbound_page.h"

namespace towpath {

class InboundDoors {
 public:
  // Doors of an agent before this one lead nowhere any more.
  explicit InboundDoors(InboundPage& page);

  struct Opened {
    UniqueFd socket;         // non-blocking, connecting; none: `error` says why
    std::uint16_t port = 0;  // what it is known by
    int error = 0;
  };
  [[nodiscard]] Opened open(const Endpoint& listener, DoorKind kind, const Endpoint& client = {},
                            const Endpoint& peer = {});
  // The program has it: its port means nothing any more.
  void forget(std::uint16_t port) noexcept;
  // Before the program has it. No client that gets the port next may be taken for ours: only after the reset is the
  // port forgotten, and in between it is a question that we answer.
  void take_back(UniqueFd socket, std::uint16_t port) noexcept;

 private:
  InboundPage& page_;
};

// The other end reads everything that was sent, and then an end and no error; this end leaves no TIME_WAIT behind.
void close_without_trace(UniqueFd socket) noexcept;
// The other end gets an error.
void reset_connection(UniqueFd socket) noexcept;

}  // namespace towpath
