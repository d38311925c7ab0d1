// Where the body of an HTTP/1 message ends (RFC 9112 6), behind a head that HttpHead has accepted.
//
// Bytes are delimited and passed on as they stand on the wire, chunk framing included; nothing is decoded. The trailer
// section is told apart, so that an owner can edit it like a head.
#pragma once

#include <cstdint>

#include "proto/http_head.h"

namespace towpath {

struct HttpFraming {
  enum class Kind : std::uint8_t {
    none,         // the message ends with its head
    length,       // `length` bytes
    chunked,      // up to the last chunk and its trailers
    until_close,  // of a response: whatever comes until the connection ends
    tunnel,       // behind 101, or 2xx to CONNECT: no HTTP any more
  };
  Kind kind = Kind::none;
  std::uint64_t length = 0;
  HttpFlaw flaw = HttpFlaw::none;
};

// What a response's framing depends on.
struct HttpAsked {
  bool head = false;     // the method was HEAD
  bool connect = false;  // the method was CONNECT
  bool upgrade = false;  // Upgrade was asked for: 101 is an answer, else it is a flaw

  [[nodiscard]] static HttpAsked of(const HttpHead& request) noexcept;
};

[[nodiscard]] HttpFraming framing_of(const HttpHead& request) noexcept;
// An interim response (1xx but 101) has no body and is followed by another one.
[[nodiscard]] HttpFraming framing_of(const HttpHead& response, const HttpAsked& asked) noexcept;
[[nodiscard]] constexpr bool is_interim(std::uint16_t status) noexcept { return status / 100 == 1 && status != 101; }

class HttpBody {
 public:
  static constexpr std::size_t longest_chunk_line = 1024;  // extensions included

  HttpBody() noexcept = default;  // none
  explicit HttpBody(const HttpFraming& framing) noexcept;

  // How many bytes of `in` belong to this part of the body. Fewer than in.size(): over(), in_trailers() has become true
  // (what comes next is the trailer section, its final CRLF included), or flaw().
  std::size_t feed(std::string_view in) noexcept;
  // The sender's side ended: over(), or flaw() says truncated.
  void peer_closed() noexcept;

  [[nodiscard]] bool over() const noexcept { return state_ == State::over; }
  [[nodiscard]] bool in_trailers() const noexcept { return state_ == State::trailers; }
  [[nodiscard]] HttpFlaw flaw() const noexcept { return flaw_; }
  // until_close and tunnel: nothing but the end of the connection ends it.
  [[nodiscard]] bool ends_with_connection() const noexcept { return state_ == State::endless; }

 private:
  enum class State : std::uint8_t {
    counted,    // `left_` bytes of a Content-Length
    size,       // RFC 9112 7.1: chunk-size
    extension,  // RFC 9112 7.1.1
    size_lf,    // behind the CR of the chunk-size line
    chunk,      // `left_` bytes of a chunk
    chunk_cr,   // CRLF behind a chunk
    chunk_lf,
    trailers,  // RFC 9112 7.1.2
    endless,
    over,
    flawed,
  };

  void take(unsigned char c) noexcept;
  void fail(HttpFlaw flaw) noexcept;

  State state_ = State::over;
  HttpFlaw flaw_ = HttpFlaw::none;
  std::uint16_t line_ = 0;  // bytes of the chunk-size line
  std::uint64_t left_ = 0;
  HttpScanner trailers_{HttpKind::trailers};
};

}  // namespace towpath
