// An accept() that waits for a connection. While it waits the listener is held, as it is by a call that waits in the
// kernel.
#pragma once

#include <sys/time.h>

#include "agent/socket_watch.h"
#include "agent/supervisor/listener.h"
#include "agent/uv.h"
#include "base/unique_fd.h"

namespace towpath {

struct AcceptCall {
  Notice notice;
  int listener = -1;          // our copy, borrowed from whoever holds the call
  std::uint64_t cookie = 0;   // the listener's
  std::uint64_t address = 0;  // pointers in the program; 0: not wanted
  std::uint64_t size = 0;
  socklen_t room = 0;
  bool wait = false;  // false: the listener does not block, the call goes on in the next turn
  int flags = 0;      // SOCK_NONBLOCK, SOCK_CLOEXEC
};

class HeldAccept final : SocketWatch::Watched {
 public:
  class Host {
   public:
    // True: the call was answered. False: there is no connection and it waits, or there are too many for one turn.
    virtual bool try_accept(const AcceptCall& call) = 0;
    virtual void on_released(HeldAccept& call) = 0;

   protected:
    ~Host() = default;
  };

  HeldAccept(Host& host, SocketWatch& sockets, const AcceptCall& call, UniqueFd listener);
  ~HeldAccept();
  // `patience`: SO_RCVTIMEO, zero is for ever. False: it cannot be waited for.
  [[nodiscard]] bool start(uv_loop_t* loop, const timeval& patience);
  void look_for_signals();
  [[nodiscard]] const AcceptCall& call() const noexcept { return call_; }

 private:
  void on_socket_ready(std::uint32_t events) override;

  Host& host_;
  SocketWatch& sockets_;
  AcceptCall call_;
  UniqueFd listener_;
  bool watched_ = false;
  UvTimer patience_;
};

}  // namespace towpath
