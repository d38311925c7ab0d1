#include "proto/http_body.h"

#include "proto/ascii.h"

namespace towpath {

namespace {

using Kind = HttpFraming::Kind;

int hex_digit(unsigned char c) noexcept {
  const char lower = to_lower(static_cast<char>(c));
  if (is_digit(lower)) return lower - '0';
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

HttpAsked HttpAsked::of(const HttpHead& request) noexcept {
  return {request.method() == "HEAD", request.method() == "CONNECT",
          request.find("upgrade") != nullptr && request.lists("connection", "upgrade")};
}

HttpFraming framing_of(const HttpHead& request) noexcept {
  if (request.chunked()) return {Kind::chunked, 0, HttpFlaw::none};
  const std::uint64_t length = request.length().value_or(0);
  return {length > 0 ? Kind::length : Kind::none, length, HttpFlaw::none};
}

HttpFraming framing_of(const HttpHead& response, const HttpAsked& asked) noexcept {
  const std::uint16_t status = response.status();
  const std::uint64_t length = response.length().value_or(0);
  // RFC 9112 6.3, in its order.
  if (asked.connect && status / 100 == 2) return {Kind::tunnel, 0, HttpFlaw::none};
  if (status == 101) return {Kind::tunnel, 0, asked.upgrade ? HttpFlaw::none : HttpFlaw::unasked_upgrade};
  if (status / 100 == 1 || status == 204)
    return {Kind::none, 0, response.chunked() || length > 0 ? HttpFlaw::body_not_allowed : HttpFlaw::none};
  if (asked.head || status == 304) return {};
  if (response.chunked()) return {Kind::chunked, 0, HttpFlaw::none};
  if (response.length()) return {length > 0 ? Kind::length : Kind::none, length, HttpFlaw::none};
  return {Kind::until_close, 0, HttpFlaw::none};
}

HttpBody::HttpBody(const HttpFraming& framing) noexcept : left_(framing.length) {
  switch (framing.kind) {
    case Kind::none: state_ = State::over; break;
    case Kind::length: state_ = framing.length > 0 ? State::counted : State::over; break;
    case Kind::chunked:
      state_ = State::size;
      left_ = 0;
      break;
    case Kind::until_close:
    case Kind::tunnel: state_ = State::endless; break;
  }
}

void HttpBody::fail(HttpFlaw flaw) noexcept {
  flaw_ = flaw;
  state_ = State::flawed;
}

std::size_t HttpBody::feed(std::string_view in) noexcept {
  if (state_ == State::trailers) {
    const std::size_t used = trailers_.feed(in);
    if (trailers_.flaw() != HttpFlaw::none) fail(trailers_.flaw());
    else if (trailers_.complete()) state_ = State::over;
    return used;
  }
  std::size_t used = 0;
  while (used < in.size() && state_ != State::over && state_ != State::flawed && state_ != State::trailers) {
    if (state_ == State::endless) {
      used = in.size();
    } else if (state_ == State::counted || state_ == State::chunk) {
      const std::size_t here = in.size() - used;
      const std::size_t part = left_ < here ? static_cast<std::size_t>(left_) : here;
      used += part;
      left_ -= part;
      if (left_ == 0) state_ = state_ == State::chunk ? State::chunk_cr : State::over;
    } else {
      take(static_cast<unsigned char>(in[used]));
      if (state_ != State::flawed) ++used;
    }
  }
  return used;
}

void HttpBody::take(unsigned char c) noexcept {
  switch (state_) {
    case State::size: {
      const int digit = hex_digit(c);
      if (digit >= 0) {
        if (++line_ > 15) return fail(HttpFlaw::bad_chunk_size);
        left_ = left_ * 16 + static_cast<unsigned>(digit);
      } else if (line_ == 0) {
        fail(HttpFlaw::bad_chunk_size);
      } else if (c == '\r') {
        state_ = State::size_lf;
      } else if (c == ';') {
        state_ = State::extension;
      } else {
        fail(HttpFlaw::bad_chunk_size);  // trailing blanks too
      }
      return;
    }
    case State::extension:
      if (c == '\r') state_ = State::size_lf;
      else if (c == '\n') fail(HttpFlaw::bare_lf);
      else if ((c < 0x20 && c != '\t') || c == 0x7f) fail(HttpFlaw::bad_character);
      else if (++line_ > longest_chunk_line) fail(HttpFlaw::chunk_line_too_long);
      return;
    case State::size_lf:
      if (c != '\n') return fail(HttpFlaw::bare_cr);
      line_ = 0;
      state_ = left_ > 0 ? State::chunk : State::trailers;
      return;
    case State::chunk_cr:
    case State::chunk_lf:
      if (c != (state_ == State::chunk_cr ? '\r' : '\n')) return fail(HttpFlaw::bad_chunk_end);
      state_ = state_ == State::chunk_cr ? State::chunk_lf : State::size;
      return;
    case State::counted:
    case State::chunk:
    case State::trailers:
    case State::endless:
    case State::over:
    case State::flawed: return;
  }
}

void HttpBody::peer_closed() noexcept {
  if (state_ == State::endless) state_ = State::over;
  else if (state_ != State::over && state_ != State::flawed) fail(HttpFlaw::truncated);
}

}  // namespace towpath
