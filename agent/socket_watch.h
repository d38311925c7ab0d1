// Waiting for a program's socket without touching it. libuv's own poll handle sets O_NONBLOCK on what it watches, which
// the program would see on its side of the shared description; so these sockets live in an epoll set of their own, and
// libuv watches that set.
#pragma once

#include <cstdint>

#include <uv.h>

#include "agent/uv.h"
#include "base/unique_fd.h"

namespace towpath {

class SocketWatch {
 public:
  class Watched {
   public:
    virtual void on_socket_ready(std::uint32_t epoll_events) = 0;

   protected:
    ~Watched() = default;
  };

  explicit SocketWatch(uv_loop_t* loop);
  [[nodiscard]] bool ok() const noexcept { return static_cast<bool>(poll_); }

  // Level-triggered. `who` must outlive the watch and, once dropped, the running loop iteration. False: errno is set.
  [[nodiscard]] bool watch(int socket, std::uint32_t events, Watched* who);
  [[nodiscard]] bool change(int socket, std::uint32_t events, Watched* who);
  // Must come before the agent closes its copy: the description lives on in the program, and with it the registration.
  void drop(int socket, Watched* who);
  // Enough for a socket that nobody else has a copy of and that is closed at once.
  void forget(Watched* who) noexcept;

 private:
  void dispatch();

  UniqueFd set_;
  UvPoll poll_;
  Watched* batch_[64];
  int batch_size_ = 0;
};

}  // namespace towpath
