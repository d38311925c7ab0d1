// The client side of SOCKS5 CONNECT (RFC 1928) with user name and password (RFC 1929).
//
// Each message is one send and waits for its answer: servers exist that take one recv() for one message.
// A refusal counts as soon as REP is known: servers exist that send no more than that.
// The address the proxy bound is skipped, by the length that the reply itself states.
#pragma once

#include <array>

#include "base/target.h"
#include "proto/handshake.h"

namespace towpath {

class Socks5Client {
 public:
  // Fails at once (want() == failed) for a target or a login that cannot be written.
  // `login` may be null; both are borrowed during construction only.
  Socks5Client(const TargetView& target, const ProxyLogin* login) noexcept;

  [[nodiscard]] Want want() const noexcept;
  [[nodiscard]] std::span<const std::byte> to_send() const noexcept;
  Want sent(std::size_t size) noexcept;
  Fed feed(std::span<const std::byte> in) noexcept;
  Want peer_closed() noexcept;
  [[nodiscard]] Error error() const noexcept { return error_; }
  [[nodiscard]] std::string_view state_name() const noexcept;

  // REP of the connect reply (RFC 1928 section 6); 0 before it came.
  [[nodiscard]] std::uint8_t reply() const noexcept { return reply_; }

 private:
  enum class State : std::uint8_t {
    send_methods,  // RFC 1928 section 3
    method,        // section 3: VER METHOD
    send_login,    // RFC 1929 section 2
    login,         // section 2: VER STATUS
    send_request,  // RFC 1928 section 4
    reply,         // section 6: VER REP RSV ATYP
    bound_length,  // section 5: the first byte of a name
    bound,         // section 6: the rest of BND.ADDR, and BND.PORT
    finished,
    failed,
  };

  void write_messages(const TargetView& target, const ProxyLogin* login) noexcept;
  void take(std::uint8_t byte) noexcept;
  void take_method(std::uint8_t byte) noexcept;
  void take_login(std::uint8_t byte) noexcept;
  void take_reply(std::uint8_t byte) noexcept;
  void send(State state) noexcept;
  void receive(State state) noexcept;
  void fail(Err code) noexcept;

  static constexpr std::size_t longest_methods = 4;
  static constexpr std::size_t longest_login = 3 + 255 + 255;
  static constexpr std::size_t longest_request = 4 + 1 + 255 + 2;

  // The three messages, one behind the other.
  std::array<std::byte, longest_methods + longest_login + longest_request> messages_;
  std::uint16_t methods_end_ = 0;
  std::uint16_t login_end_ = 0;
  std::uint16_t request_end_ = 0;
  std::uint16_t send_at_ = 0;
  std::uint16_t send_end_ = 0;
  std::uint16_t have_ = 0;  // bytes of the message being received
  std::uint16_t left_ = 0;  // bytes of the reply still to skip
  Error error_;
  State state_ = State::send_methods;
  std::uint8_t reply_ = 0;
  bool has_login_ = false;
};

static_assert(Handshake<Socks5Client>);

}  // namespace towpath
