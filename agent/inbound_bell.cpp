#include "agent/inbound_bell.h"

#include <algorithm>
#include <cerrno>

#include <sys/epoll.h>
#include <sys/socket.h>

#include "agent/inbound.h"

namespace towpath {

namespace {

constexpr std::uint64_t first_patience_ms = 200;
constexpr std::uint64_t longest_patience_ms = 60'000;
constexpr std::uint64_t answered_elsewhere_ms = 5;  // a group's other member may be the next one, too

}  // namespace

InboundBell::InboundBell(Inbound& inbound, const Endpoint& local)
    : inbound_(inbound), local_(local), patience_ms_(first_patience_ms) {}

InboundBell::~InboundBell() { withdraw(); }

void InboundBell::ring() {
  hang_up();
  InboundDoors::Opened door = inbound_.doors().open(local_, DoorKind::bell);
  if (!door.socket) {
    if (door.error == ECONNREFUSED) return inbound_.on_nobody(*this);
    return again(patience_ms_);  // no port, no descriptor: there may be one later
  }
  socket_ = std::move(door.socket);
  port_ = door.port;
  called_ = false;
  call();
}

void InboundBell::call() {
  const ssize_t sent = called_ ? 1 : send(socket_.get(), "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    const int error = errno;
    hang_up();
    // What a listener that is gone answers with; send() has cleared it from the socket.
    if (error == ECONNREFUSED) return inbound_.on_nobody(*this);
    return again(patience_ms_);
  }
  called_ = sent > 0;
  const std::uint32_t events = EPOLLIN | EPOLLRDHUP | (called_ ? 0u : EPOLLOUT);
  SocketWatch& sockets = inbound_.host().sockets();
  watched_ = watched_ ? sockets.change(socket_.get(), events, this) : sockets.watch(socket_.get(), events, this);
  again(patience_ms_);
}

void InboundBell::on_socket_ready(std::uint32_t events) {
  if (!called_) return call();
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  hang_up();
  again(answered_elsewhere_ms);
}

void InboundBell::again(std::uint64_t after_ms) {
  if (!timer_) timer_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(inbound_.host().loop(), handle); });
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* handle) {
        auto& self = *static_cast<InboundBell*>(handle->data);
        self.patience_ms_ = std::min(2 * self.patience_ms_, longest_patience_ms);
        self.ring();
      },
      after_ms, 0);
}

void InboundBell::hang_up() {
  if (!socket_) return;
  if (watched_) inbound_.host().sockets().drop(socket_.get(), this);
  watched_ = false;
  inbound_.doors().take_back(std::move(socket_), port_);
  socket_.reset();
  port_ = 0;
}

void InboundBell::withdraw() {
  hang_up();
  timer_.reset();
}

}  // namespace towpath
