// The part of an attempt whose program is not kept waiting and cannot be gated: its socket stands at the quiet door,
// and the carrier is one of ours. Everything that the program sees of its socket meanwhile is the kernel's.
#include "agent/attempt.h"

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace towpath {

namespace {

bool is_bound(int fd) noexcept {
  sockaddr_storage own;
  socklen_t size = sizeof own;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) != 0) return true;
  const Endpoint end = Endpoint::from(reinterpret_cast<sockaddr*>(&own), size);
  return end.port != 0 || (end.address && !end.address.is_unspecified());
}

std::uint8_t tcp_state(int fd) noexcept {
  tcp_info info{};
  socklen_t size = sizeof info.tcpi_state;  // the first byte
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_state : std::uint8_t{TCP_CLOSE};
}

}  // namespace

bool Attempt::wait_quietly() {
  const int fd = order_.socket.get();
  // Without a proxy the connection itself is what the program has chosen an end for.
  if (order_.native || (order_.proxy == nullptr && is_bound(fd))) return false;
  quiet_ = host_.quiet_door().take_in(fd, order_.ask.domain, order_.ask.v6_only);
  if (!quiet_) return false;
  if (host_.sockets().watch(fd, 0, &quiet_end_)) return true;
  leave_the_proxy();
  quiet_.reset();
  return false;
}

// The tunnel stands on our own socket: another one comes from the door and meets the program's.
void Attempt::meet() {
  if (!host_.still_held(*this)) return abandon();
  meeting_ = QuietDoor::meet(*quiet_);
  if (!meeting_ && errno == ECONNREFUSED) return abandon();
  if (!meeting_) return fail({Err::os_error, Stage::connect, 0, errno});
  // On the loopback nearly always at once; not while the program is in a call on its socket.
  tcp_state(meeting_.get()) == TCP_SYN_SENT ? wait_for(EPOLLOUT) : met();
}

void Attempt::met() {
  const std::uint8_t state = tcp_state(meeting_.get());
  if (state == TCP_SYN_SENT || state == TCP_SYN_RECV) return;
  if (state == TCP_CLOSE) return abandon();  // the program's socket was not there any more
  stop_watching();
  joined(std::move(meeting_));
}

void Attempt::abandon() {
  if (state_ == State::over) return;
  if (!quiet_) return cancel();
  abandoned_ = true;
  stop_watching();
  finish(SocketState::failed, {Err::cancelled, Stage::ask});
}

}  // namespace towpath
