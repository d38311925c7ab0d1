#include "agent/acceptor.h"

#include <cerrno>

#include <sys/socket.h>

namespace towpath {

bool Acceptor::open(uv_loop_t* loop, int listener, std::function<void()> ready) {
  loop_ = loop;
  listener_ = listener;
  ready_ = std::move(ready);
  if (!poll_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(loop_, handle, listener_); })) return false;
  watch();
  return true;
}

void Acceptor::close() noexcept {
  poll_.reset();
  breather_.reset();
}

void Acceptor::watch() {
  uv_poll_start(poll_.get(), UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<Acceptor*>(handle->data)->ready_(); });
}

UniqueFd Acceptor::next(Endpoint* peer) {
  sockaddr_storage address;
  socklen_t size = sizeof address;
  UniqueFd fd(accept4(listener_, reinterpret_cast<sockaddr*>(&address), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  full_ = !fd && (errno == EMFILE || errno == ENFILE);
  if (full_) {
    uv_poll_stop(poll_.get());
    if (!breather_) breather_.open(this, [&](uv_timer_t* handle) { return uv_timer_init(loop_, handle); });
    uv_timer_start(
        breather_.get(), [](uv_timer_t* handle) { static_cast<Acceptor*>(handle->data)->watch(); }, breath_ms, 0);
  }
  if (fd && peer != nullptr) *peer = Endpoint::from(reinterpret_cast<sockaddr*>(&address), size);
  return fd;
}

}  // namespace towpath
