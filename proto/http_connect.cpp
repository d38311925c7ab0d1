#include "proto/http_connect.h"

#include <charconv>

#include "base/bytes.h"
#include "proto/ascii.h"
#include "proto/base64.h"
#include "proto/target_check.h"

namespace towpath {

namespace {

// The first byte already shows that this will be no "HTTP/1.": say what it looks like instead.
Err wrong_protocol(char first) noexcept {
  switch (first) {
    case 0x00:
    case 0x04:
    case 0x05: return Err::looks_like_socks;
    case 0x15:
    case 0x16: return Err::looks_like_tls;  // alert and handshake records
    default: return Err::reply_malformed;
  }
}

using Authority = BoundedText<255 + 6>;

Authority authority_of(const TargetView& target) noexcept {
  Authority out;
  if (!target.name.empty()) {
    out.add(target.name);
  } else {
    char buffer[IpAddress::text_size];
    const std::string_view text = target.address.format(buffer);
    if (target.address.is_v6()) out.add('[');
    out.add(text);
    if (target.address.is_v6()) out.add(']');
  }
  char port[8];
  const char* const end = std::to_chars(port, port + sizeof port, target.port).ptr;
  out.add(':');
  out.add({port, static_cast<std::size_t>(end - port)});
  return out;
}

// What was cut off may have belonged to the last word: without that word the rest is still true.
std::string_view without_last_word(std::string_view text) noexcept {
  while (!text.empty() && !is_one_of(text.back(), " \t,;")) text.remove_suffix(1);
  return text;
}

}  // namespace

HttpConnectClient::HttpConnectClient(const TargetView& target, const ProxyLogin* login) noexcept {
  Err err = check_target(target);
  if (err == Err::ok) err = check_login(login);
  if (err == Err::ok) {
    write_request(target, login);
  } else {
    fail(err);
  }
}

void HttpConnectClient::write_request(const TargetView& target, const ProxyLogin* login) noexcept {
  const Authority authority = authority_of(target);
  ByteWriter out(request_);
  out.text("CONNECT ");
  out.text(authority.view());
  out.text(" HTTP/1.1\r\nHost: ");
  out.text(authority.view());
  out.text("\r\n");
  if (login != nullptr) {
    BoundedText<2 * longest_login_part + 1> plain;
    plain.add(login->user);
    plain.add(':');
    plain.add(login->password);
    out.text("Proxy-Authorization: Basic ");
    put_base64(out, plain.view());
    out.text("\r\n");
    login_sent_ = true;
  }
  out.text("\r\n");
  request_size_ = out.size();
  if (!out.ok()) fail(Err::name_too_long);  // not reached: longest_request has room for every accepted input
}

Want HttpConnectClient::want() const noexcept {
  switch (state_) {
    case State::sending: return Want::send;
    case State::version:
    case State::before_status:
    case State::status:
    case State::reason:
    case State::line_start:
    case State::blank_line:
    case State::field_name:
    case State::before_value:
    case State::field_value: return Want::receive;
    case State::finished: return Want::finished;
    case State::failed: return Want::failed;
  }
  return Want::failed;
}

std::string_view HttpConnectClient::state_name() const noexcept {
  switch (state_) {
    case State::sending: return "sending the request";
    case State::version:
    case State::before_status:
    case State::status:
    case State::reason: return "waiting for the status line";
    case State::line_start:
    case State::blank_line:
    case State::field_name:
    case State::before_value:
    case State::field_value: return "reading the header";
    case State::finished: return "finished";
    case State::failed: return "failed";
  }
  return "failed";
}

std::span<const std::byte> HttpConnectClient::to_send() const noexcept {
  if (state_ != State::sending) return {};
  return {request_.data() + request_sent_, request_size_ - request_sent_};
}

Want HttpConnectClient::sent(std::size_t size) noexcept {
  if (state_ == State::sending) {
    const std::size_t left = request_size_ - request_sent_;
    request_sent_ += size < left ? size : left;
    if (request_sent_ == request_size_) state_ = State::version;
  }
  return want();
}

Fed HttpConnectClient::feed(std::span<const std::byte> in) noexcept {
  std::size_t used = 0;
  while (used < in.size() && want() == Want::receive) take(static_cast<char>(in[used++]));
  return {used, want()};
}

Want HttpConnectClient::peer_closed() noexcept {
  switch (state_) {
    case State::sending: fail(Err::closed_early); break;
    case State::version:
    case State::before_status:
    case State::status:
    case State::reason: fail(header_bytes_ == 0 ? Err::closed_early : Err::reply_truncated); break;
    case State::line_start:
    case State::blank_line: end_field(); [[fallthrough]];  // the last line is whole and counts
    case State::field_name:
    case State::before_value:
    case State::field_value: fail(refusal() ? cause() : Err::reply_truncated); break;
    case State::finished:
    case State::failed: break;
  }
  return want();
}

void HttpConnectClient::take(char c) noexcept {
  ++header_bytes_;
  if (c == '\0' && state_ != State::version) return fail(Err::reply_malformed);
  switch (state_) {
    case State::version: take_version(c); break;
    case State::before_status:
    case State::status: take_status(c); break;
    case State::line_start: take_line_start(c); break;
    case State::blank_line: c == '\n' ? end_header() : fail(Err::reply_malformed); break;
    case State::field_name: take_field_name(c); break;
    case State::reason:
      if (c == '\n') state_ = State::line_start;
      break;
    case State::before_value:
    case State::field_value: take_value(c); break;
    case State::sending:
    case State::finished:
    case State::failed: break;
  }
  if (header_bytes_ == header_limit && want() == Want::receive) fail(Err::reply_too_long);
}

void HttpConnectClient::take_version(char c) noexcept {
  constexpr std::string_view head = "HTTP/1.";
  if (matched_ < head.size() ? c == head[matched_] : matched_ == head.size() && (c == '0' || c == '1')) {
    ++matched_;
  } else if (matched_ > head.size() && is_blank(c)) {
    state_ = State::before_status;
    matched_ = 0;
  } else {
    fail(header_bytes_ == 1 ? wrong_protocol(c) : Err::reply_malformed);
  }
}

void HttpConnectClient::take_status(char c) noexcept {
  if (matched_ == 0 && is_blank(c)) return;
  if (is_digit(c) && matched_ < 3) {
    number_ = static_cast<std::uint16_t>((matched_ == 0 ? 0 : number_ * 10) + (c - '0'));
    ++matched_;
    state_ = State::status;
    return;
  }
  if (matched_ != 3 || !is_one_of(c, " \t\r\n")) return fail(Err::reply_malformed);
  status_ = number_;
  state_ = c == '\n' ? State::line_start : State::reason;
}

void HttpConnectClient::take_line_start(char c) noexcept {
  if (c == '\n') return end_header();
  if (c == '\r') {
    state_ = State::blank_line;
  } else if (is_blank(c)) {
    if (!value_.empty()) value_.add(' ');
    state_ = State::before_value;
  } else {
    end_field();
    name_.clear();
    state_ = State::field_name;
    take_field_name(c);
  }
}

void HttpConnectClient::take_field_name(char c) noexcept {
  if (c == '\n') {
    state_ = State::line_start;  // no field at all: of no interest
  } else if (c != ':') {
    name_.add(to_lower(c));
  } else {
    state_ = State::before_value;
    if (name_.view() == "proxy-authenticate") field_ = Field::authenticate;
    if (name_.view() == "proxy-status") field_ = Field::proxy_status;
    if (name_.view() == "x-squid-error") field_ = Field::squid_error;
  }
}

void HttpConnectClient::take_value(char c) noexcept {
  if (c == '\n') {
    state_ = State::line_start;
    return;
  }
  if (c == '\r') c = ' ';  // RFC 9112 2.2 for one inside a line; one that ends it is trimmed later
  if (state_ == State::before_value && is_blank(c)) return;
  state_ = State::field_value;
  if (field_ != Field::other) value_.add(c);
}

void HttpConnectClient::end_field() noexcept {
  if (refusal()) read_field(value_.cut() ? without_last_word(value_.view()) : value_.view());
  value_.clear();
  field_ = Field::other;
}

void HttpConnectClient::read_field(std::string_view value) noexcept {
  while (!value.empty() && is_blank(value.back())) value.remove_suffix(1);
  switch (field_) {
    case Field::other: break;
    case Field::authenticate:
      if (status_ == 407) add_offered_schemes(value, schemes_);
      break;
    case Field::squid_error:
      if (squid_seen_ || value.empty()) break;
      squid_seen_ = true;
      squid_cause_ = cause_of_squid_error(value);
      detail_.clear();
      detail_.add("X-Squid-Error: ");
      for (const char c : value) detail_.add(is_graphic(c) || c == ' ' ? c : '?');
      break;
    case Field::proxy_status: {
      const std::string_view token = proxy_status_error(value);
      if (status_field_seen_ || token.empty()) break;
      status_field_seen_ = true;
      status_field_cause_ = cause_of_proxy_status(token);
      if (!squid_seen_) detail_.add(token);
      break;
    }
  }
}

void HttpConnectClient::end_header() noexcept {
  end_field();
  if (interim()) {  // RFC 9110 15.2: another reply follows
    status_ = 0;
    matched_ = 0;
    state_ = State::version;
  } else if (refusal()) {
    fail(cause());
  } else {
    state_ = State::finished;
  }
}

Err HttpConnectClient::cause() const noexcept {
  if (squid_cause_ != Err::ok) return squid_cause_;
  if (status_field_cause_ != Err::ok) return status_field_cause_;
  return cause_of_status(status_, login_sent_);
}

void HttpConnectClient::fail(Err code) noexcept {
  error_ = {code, Stage::http, status_, 0};
  state_ = State::failed;
}

}  // namespace towpath
