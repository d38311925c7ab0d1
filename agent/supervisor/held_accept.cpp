#include "agent/supervisor/held_accept.h"

#include <cerrno>

#include <sys/epoll.h>

#include "agent/supervisor/tasks.h"
#include "agent/supervisor/patience.h"

namespace towpath {

namespace {

constexpr int restart_after_signal = 512;  // ERESTARTSYS

}  // namespace

HeldAccept::HeldAccept(Host& host, SocketWatch& sockets, const AcceptCall& call, UniqueFd listener)
    : host_(host), sockets_(sockets), call_(call), listener_(std::move(listener)) {
  call_.listener = listener_.get();
}

HeldAccept::~HeldAccept() {
  if (watched_) sockets_.drop(listener_.get(), this);
}

bool HeldAccept::start(uv_loop_t* loop, const timeval& patience) {
  watched_ = sockets_.watch(listener_.get(), EPOLLIN, this);
  if (!watched_) return false;
  start_patience(patience_, loop, patience, this, [](uv_timer_t* handle) {
    auto& self = *static_cast<HeldAccept*>(handle->data);
    self.call_.notice.fail(EAGAIN);
    self.host_.on_released(self);
  });
  return true;
}

void HeldAccept::look_for_signals() {
  // Perhaps somebody who shares the listener took the rest, and nothing will make it readable.
  if (!call_.wait) return on_socket_ready(0);
  if (call_.notice.valid() && !signal_waits(call_.notice.tid)) return;
  call_.notice.fail(restart_after_signal);
  host_.on_released(*this);
}

void HeldAccept::on_socket_ready(std::uint32_t) {
  if (!call_.notice.valid()) call_.notice.fail(EINTR);
  else if (!host_.try_accept(call_)) return;
  host_.on_released(*this);
}

}  // namespace towpath
