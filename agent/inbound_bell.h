// A call to the program: come and fetch a connection. A connect to the program's own listener wakes whatever waits
// there.
//
//   dialled     one byte is sent (a listener that defers accept shows nothing otherwise); send() reports a refused
//   connect rung        somebody accepted the bell, or will. Answered by anybody but us (its end, bytes), or by nobody
//   in time:
//               a SO_REUSEPORT member outside the tree has it. Ring again, from another port.
//   withdrawn   the connection was fetched: reset, and its port forgotten in the same step
//
// An unanswered bell stays in the listener's queue as a dead connection, so the time between two doubles without an
// end.
#pragma once

#include "agent/inbound_doors.h"
#include "agent/socket_watch.h"
#include "agent/uv.h"

namespace towpath {

class Inbound;

class InboundBell final : SocketWatch::Watched {
 public:
  // `local`: the connection's own end, where the listener takes what comes.
  InboundBell(Inbound& inbound, const Endpoint& local);
  ~InboundBell();
  // Inbound::on_nobody() may come out of it.
  void ring();
  void withdraw();
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] const Endpoint& listener() const noexcept { return local_; }

 private:
  void on_socket_ready(std::uint32_t events) override;
  void call();
  void again(std::uint64_t after_ms);
  void hang_up();

  Inbound& inbound_;
  Endpoint local_;
  UniqueFd socket_;
  std::uint16_t port_ = 0;
  bool watched_ = false;
  bool called_ = false;
  std::uint64_t patience_ms_;
  UvTimer timer_;
};

}  // namespace towpath
