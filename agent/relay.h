// Bytes between a program's socket and a proxy, where the program's socket cannot be the tunnel itself.
//
// Each direction is a buffer that is filled only when it is empty (back-pressure is TCP's own) and ends by itself:
//   program shuts down writing  ->  close_notify (or FIN) to the proxy, the other direction goes on
//   proxy ends its side         ->  FIN to the program, the other direction goes on
// Either side failing resets the other: a truncated stream must not look like a complete one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/socket_watch.h"
#include "agent/tls.h"
#include "base/unique_fd.h"

namespace towpath {

class Relay {
 public:
  using Ended = std::function<void(Relay&)>;
  // What goes before everything else: to the proxy, to the program.
  struct First {
    std::string up, down;
  };

  // `tls` may be null: the proxy is spoken to in the clear. `ended` comes once, from the loop; the relay may then be
  // freed after the running loop iteration.
  Relay(SocketWatch& sockets, UniqueFd program, UniqueFd proxy, std::unique_ptr<TlsChannel> tls, Ended ended);
  ~Relay();
  void start(const First& first = {});

 private:
  // One descriptor in the watch, forwarding to the relay.
  struct Side final : SocketWatch::Watched {
    Side(Relay& relay, UniqueFd adopted) : owner(relay), fd(std::move(adopted)) {}
    void on_socket_ready(std::uint32_t) override { owner.pump(); }
    Relay& owner;
    UniqueFd fd;
    std::uint32_t events = 0;
    bool watched = false;
  };
  struct Flow {
    std::unique_ptr<std::byte[]> bytes;  // only while there is something in it
    std::size_t begin = 0, end = 0;
    bool ended = false;   // the source has no more
    bool closed = false;  // and the destination was told so
    [[nodiscard]] bool empty() const noexcept { return begin == end; }
    void make_room();
    void begin_with(const std::string& first);
  };
  enum class Io : std::uint8_t { moved, would_block, ended, failed };

  void pump();
  bool step_to_proxy();
  bool step_to_program();
  Io read_program(Flow& flow);
  Io write_program(Flow& flow);
  Io read_proxy(Flow& flow);
  Io write_proxy(Flow& flow);
  void finish_to_proxy();
  void rearm(bool more);
  void rearm(Side& side, std::uint32_t events);
  void end(bool broken);

  SocketWatch& sockets_;
  Side program_, proxy_;
  std::unique_ptr<TlsChannel> tls_;
  Flow up_, down_;
  bool proxy_read_wants_write_ = false, proxy_write_wants_read_ = false;
  bool broken_ = false, over_ = false;
  Ended ended_;
};

}  // namespace towpath
