// The client side of HTTP CONNECT (RFC 9110 9.3.6, RFC 9112): one request, one final reply, then the tunnel.
//
// The tunnel starts behind the blank line of a 2xx reply, whatever Content-Length or Transfer-Encoding say.
// A refusal is read to the end of its header, because the fields may name the true cause; its body is not read.
// Nothing of a reply is kept but the status, the names of the offered authentication schemes and one detail.
#pragma once

#include <array>

#include "base/target.h"
#include "proto/bounded_text.h"
#include "proto/handshake.h"
#include "proto/http_refusal.h"

namespace towpath {

class HttpConnectClient {
 public:
  static constexpr std::size_t header_limit = 65536;  // over all replies, interim ones included

  // Fails at once (want() == failed) for a target or a login that cannot be written.
  // `login` may be null; both are borrowed during construction only.
  HttpConnectClient(const TargetView& target, const ProxyLogin* login) noexcept;

  [[nodiscard]] Want want() const noexcept;
  [[nodiscard]] std::span<const std::byte> to_send() const noexcept;
  Want sent(std::size_t size) noexcept;
  Fed feed(std::span<const std::byte> in) noexcept;
  Want peer_closed() noexcept;
  [[nodiscard]] Error error() const noexcept { return error_; }
  [[nodiscard]] std::string_view state_name() const noexcept;

  // 0 before the final status line.
  [[nodiscard]] std::uint16_t status() const noexcept { return status_; }
  // Of a 407: "Negotiate NTLM". Printable.
  [[nodiscard]] std::string_view auth_schemes() const noexcept { return schemes_.view(); }
  // Of a refusal: "X-Squid-Error: ERR_CONNECT_FAIL 111" or the error token of Proxy-Status, else empty. Printable.
  [[nodiscard]] std::string_view detail() const noexcept { return detail_.view(); }

 private:
  enum class State : std::uint8_t {
    sending,        // RFC 9110 9.3.6
    version,        // RFC 9112 2.3: "HTTP/1.", a digit and at least one blank
    before_status,  // RFC 9112 4: more blanks
    status,         // three digits
    reason,         // anything up to the line end; may be missing with its blank
    line_start,     // RFC 9112 5: a field, a continuation (5.2) or the end
    blank_line,     // CR at the start of a line
    field_name,
    before_value,
    field_value,
    finished,
    failed,
  };
  enum class Field : std::uint8_t { other, authenticate, proxy_status, squid_error };

  void write_request(const TargetView& target, const ProxyLogin* login) noexcept;
  void take(char c) noexcept;
  void take_version(char c) noexcept;
  void take_status(char c) noexcept;
  void take_line_start(char c) noexcept;
  void take_field_name(char c) noexcept;
  void take_value(char c) noexcept;
  void end_header() noexcept;
  void end_field() noexcept;
  void read_field(std::string_view value) noexcept;
  [[nodiscard]] bool interim() const noexcept { return status_ / 100 == 1 && status_ != 101; }
  [[nodiscard]] bool refusal() const noexcept { return status_ / 100 != 2 && !interim(); }
  [[nodiscard]] Err cause() const noexcept;
  void fail(Err code) noexcept;

  // "CONNECT a HTTP/1.1 Host: a Proxy-Authorization: Basic " with its line ends, both authorities and the login.
  static constexpr std::size_t longest_request = 64 + 2 * (255 + 6) + (2 * 255 + 1 + 2) / 3 * 4;

  std::array<std::byte, longest_request> request_;
  std::size_t request_size_ = 0;
  std::size_t request_sent_ = 0;
  std::size_t header_bytes_ = 0;
  BoundedText<20> name_;     // lower case; long enough for the fields we read
  BoundedText<1024> value_;  // of a field we read
  OfferedSchemes schemes_;
  BoundedText<96> detail_;
  Error error_;
  std::uint16_t status_ = 0;
  std::uint16_t number_ = 0;  // a status being read
  std::uint8_t matched_ = 0;  // of the version, then digits of the status
  State state_ = State::sending;
  Field field_ = Field::other;
  Err squid_cause_ = Err::ok;
  Err status_field_cause_ = Err::ok;
  bool squid_seen_ = false;
  bool status_field_seen_ = false;
  bool login_sent_ = false;
};

static_assert(Handshake<HttpConnectClient>);

}  // namespace towpath
