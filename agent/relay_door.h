// Where programs' sockets come in that cannot be the tunnel themselves: a TLS session needs an owner, and some sockets
// cannot reach the proxy's address. They are connected to a listener of the agent on the loopback of their own family.
//
// The door opens for sockets that were announced, by their own address and port, and for nobody else: other users of
// the machine must not get out through it. A stranger is closed without a byte; one that comes a moment before it is
// announced waits for that.
#pragma once

#include <functional>
#include <list>
#include <vector>

#include <uv.h>

#include "agent/acceptor.h"
#include "agent/uv.h"
#include "base/endpoint.h"
#include "base/unique_fd.h"

namespace towpath {

class RelayDoor {
 public:
  using Callback = std::function<void(UniqueFd)>;
  using Ticket = std::uint64_t;  // never 0

  explicit RelayDoor(uv_loop_t* loop) : loop_(loop) {}

  // What a socket of that domain can connect to; opened at first use. No address: there is no such loopback.
  [[nodiscard]] Endpoint address(int domain, bool v6_only);
  // The socket whose own end is `socket_end` has connected (or is about to). The callback comes from the loop.
  Ticket expect(const Endpoint& socket_end, Callback callback);
  void forget(Ticket ticket);

 private:
  struct Listener {
    UniqueFd fd;
    Acceptor acceptor;
    Endpoint address;
    bool tried = false;
  };
  struct Expected {
    Ticket ticket;
    Endpoint peer;
    Callback callback;
  };
  struct Early {
    Endpoint peer;
    UniqueFd fd;
    std::uint64_t since_ms;
  };
  static constexpr std::size_t most_early = 256;
  static constexpr std::uint64_t early_ms = 1000;

  bool listen(Listener& listener, int domain);
  void accept(Listener& listener);
  void match();
  void drop_late();

  uv_loop_t* loop_;
  Listener v4_, v6_;
  std::list<Expected> expected_;
  std::list<Early> early_;
  UvTimer timer_;
  Ticket last_ = 0;
};

}  // namespace towpath
