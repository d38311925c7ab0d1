// A connection that a front end could not decide about: its PROXY header is not whole yet, or it is to speak HTTP.
//
// The socket is watched edge-triggered and only peeked at, because what follows the header is the program's (its
// O_NONBLOCK, too: the description may be shared). Ends as ready, as an HttpSplit, or closed.
#pragma once

#include <span>
#include <string_view>

#include "agent/inbound.h"
#include "agent/socket_watch.h"
#include "agent/waiting_room.h"

namespace towpath {

// A TLS record that holds the begin of a ClientHello (RFC 8446 4 and 5.1), as strict as eleven bytes allow: anything
// less sure could be a request to a lenient server. 1: yes; 0: not yet; -1: no.
[[nodiscard]] int looks_like_client_hello(std::span<const std::byte> in) noexcept;

class HeldConnection final : SocketWatch::Watched, WaitingRoom::Guest {
 public:
  HeldConnection(Inbound& inbound, UniqueFd socket, std::uint64_t listener, const Endpoint& peer, const Endpoint& local,
                 InboundRule rule);
  ~HeldConnection();
  // May end it at once.
  void start();

 private:
  enum class Stage : std::uint8_t { proxy_header, first_bytes, over };

  void on_socket_ready(std::uint32_t) override { look(); }
  void on_waited_too_long() override;
  void look();
  void look_for_header();
  void look_for_tls();
  void header_done(const Endpoint& client);
  void surface();
  void close(std::uint64_t InboundCounters::*why, std::string_view reason);
  UniqueFd let_go();

  Inbound& inbound_;
  UniqueFd socket_;
  std::uint64_t listener_;
  Endpoint peer_, local_;
  Endpoint client_;  // of a PROXY header
  InboundRule rule_;
  bool trusted_;
  Stage stage_;
  bool watched_ = false;
};

}  // namespace towpath
