#include "agent/socket_watch.h"

#include <type_traits>

#include <sys/epoll.h>

namespace towpath {

SocketWatch::SocketWatch(uv_loop_t* loop) : set_(epoll_create1(EPOLL_CLOEXEC)) {
  if (!set_ || !poll_.open(this, [&](uv_poll_t* handle) { return uv_poll_init(loop, handle, set_.get()); })) return;
  uv_poll_start(poll_.get(), UV_READABLE,
                [](uv_poll_t* handle, int, int) { static_cast<SocketWatch*>(handle->data)->dispatch(); });
}

bool SocketWatch::watch(int socket, std::uint32_t events, Watched* who) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = who;
  return epoll_ctl(set_.get(), EPOLL_CTL_ADD, socket, &event) == 0;
}

bool SocketWatch::change(int socket, std::uint32_t events, Watched* who) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = who;
  return epoll_ctl(set_.get(), EPOLL_CTL_MOD, socket, &event) == 0;
}

void SocketWatch::drop(int socket, Watched* who) {
  epoll_ctl(set_.get(), EPOLL_CTL_DEL, socket, nullptr);
  forget(who);
}

void SocketWatch::forget(Watched* who) noexcept {
  // An event of this very batch may still name it.
  for (int i = 0; i < batch_size_; ++i)
    if (batch_[i] == who) batch_[i] = nullptr;
}

void SocketWatch::dispatch() {
  epoll_event events[std::extent_v<decltype(batch_)>];
  const int count = epoll_wait(set_.get(), events, std::extent_v<decltype(batch_)>, 0);
  batch_size_ = count < 0 ? 0 : count;
  for (int i = 0; i < batch_size_; ++i) batch_[i] = static_cast<Watched*>(events[i].data.ptr);
  for (int i = 0; i < batch_size_; ++i)
    if (batch_[i] != nullptr) batch_[i]->on_socket_ready(events[i].events);
  batch_size_ = 0;
}

}  // namespace towpath
