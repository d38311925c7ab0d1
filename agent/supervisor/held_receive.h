// A receive on a socket that was led to our name service and has nothing to read yet. When it has, the message is
// written into the program's memory, with the server that was asked as its source.
#pragma once

#include <vector>

#include <sys/time.h>

#include "agent/page_writer.h"
#include "agent/socket_watch.h"
#include "agent/supervisor/listener.h"
#include "agent/uv.h"
#include "base/unique_fd.h"

namespace towpath {

// Where in the program's memory a message belongs.
struct Incoming {
  std::vector<iovec> parts;
  std::uint64_t address = 0, address_size = 0;  // pointers; 0: not wanted
  std::uint64_t message_flags = 0;              // pointer to msg_flags; 0: not wanted
  std::uint64_t control_size = 0;               // pointer to msg_controllen; 0: not wanted
  std::uint32_t room = 0;                       // for the address
};

class HeldReceive final : SocketWatch::Watched {
 public:
  class Host {
   public:
    virtual void on_released(HeldReceive& call) = 0;

   protected:
    ~Host() = default;
  };

  HeldReceive(Host& host, SocketWatch& sockets, const PageWriter& page, const Notice& notice, UniqueFd socket,
              int flags, Incoming where);
  ~HeldReceive();

  // True: it has answered. `wait`: false for a call that must not block.
  [[nodiscard]] bool try_now(bool wait);
  // False: it cannot be waited for.
  [[nodiscard]] bool start(uv_loop_t* loop, const timeval& patience);
  void look_for_signals();
  [[nodiscard]] const Notice& notice() const noexcept { return notice_; }

 private:
  void on_socket_ready(std::uint32_t events) override;
  [[nodiscard]] int deliver(std::size_t size, std::size_t full, sockaddr_storage& from, socklen_t from_size, int flags);

  Host& host_;
  SocketWatch& sockets_;
  const PageWriter& page_;
  Notice notice_;
  UniqueFd socket_;
  int flags_;
  Incoming where_;
  std::vector<std::byte> bytes_;
  bool watched_ = false;
  UvTimer patience_;
};

}  // namespace towpath
