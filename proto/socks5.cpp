#include "proto/socks5.h"

#include "base/bytes.h"
#include "proto/target_check.h"

namespace towpath {

namespace {

constexpr std::uint8_t version = 5;
constexpr std::uint8_t login_version = 1;

enum Method : std::uint8_t { no_login = 0x00, user_password = 0x02, none_acceptable = 0xff };
enum AddressType : std::uint8_t { ipv4 = 1, name = 3, ipv6 = 4 };

Err wrong_protocol(std::uint8_t first) noexcept {
  if (first == 'H') return Err::looks_like_http;
  if (first == 0x15 || first == 0x16) return Err::looks_like_tls;  // alert and handshake records
  return Err::reply_malformed;
}

// RFC 1928 section 6; f0 to f7 are Tor's ExtendedErrors (its proposal 304, section 2.2).
Err cause_of(std::uint8_t reply) noexcept {
  switch (reply) {
    case 0x02: return Err::denied;
    case 0x03: return Err::network_unreachable;
    case 0x04: return Err::target_unreachable;
    case 0x05: return Err::target_refused;
    case 0x06: return Err::target_timeout;
    case 0x07: return Err::command_unsupported;
    case 0x08: return Err::address_unsupported;
    case 0xf0:                                  // no descriptor of the onion service
    case 0xf1:                                  // its descriptor is not valid
    case 0xf2:                                  // introduction failed
    case 0xf3:                                  // rendezvous failed
    case 0xf6: return Err::target_unreachable;  // no such onion address
    case 0xf4:                                  // client authorization missing
    case 0xf5: return Err::denied;              // client authorization wrong
    case 0xf7: return Err::target_timeout;      // introduction timed out
    default: return Err::refused;
  }
}

void put_text(ByteWriter& out, std::string_view text) noexcept {
  out.put(static_cast<std::uint8_t>(text.size()));
  if (!text.empty()) out.text(text);
}

void put_request(ByteWriter& out, const TargetView& target) noexcept {
  out.put(version);
  out.put(std::uint8_t{1});  // CONNECT
  out.put(std::uint8_t{0});
  if (!target.name.empty()) {
    out.put(std::uint8_t{AddressType::name});
    put_text(out, target.name);
  } else {
    out.put(std::uint8_t{target.address.is_v4() ? AddressType::ipv4 : AddressType::ipv6});
    for (const std::uint8_t byte : target.address.bytes()) out.put(byte);
  }
  out.put(static_cast<std::uint8_t>(target.port >> 8));
  out.put(static_cast<std::uint8_t>(target.port & 0xff));
}

}  // namespace

Socks5Client::Socks5Client(const TargetView& target, const ProxyLogin* login) noexcept : has_login_(login != nullptr) {
  Err err = check_target(target);
  if (err == Err::ok) err = check_login(login);
  if (err == Err::ok) {
    write_messages(target, login);
  } else {
    fail(err);
  }
}

void Socks5Client::write_messages(const TargetView& target, const ProxyLogin* login) noexcept {
  ByteWriter out(messages_);
  out.put(version);
  out.put(static_cast<std::uint8_t>(has_login_ ? 2 : 1));
  out.put(std::uint8_t{Method::no_login});
  if (has_login_) out.put(std::uint8_t{Method::user_password});
  methods_end_ = static_cast<std::uint16_t>(out.size());
  if (has_login_) {
    out.put(login_version);
    put_text(out, login->user);
    put_text(out, login->password);
  }
  login_end_ = static_cast<std::uint16_t>(out.size());
  put_request(out, target);
  request_end_ = static_cast<std::uint16_t>(out.size());
  send(State::send_methods);
}

Want Socks5Client::want() const noexcept {
  switch (state_) {
    case State::send_methods:
    case State::send_login:
    case State::send_request: return Want::send;
    case State::method:
    case State::login:
    case State::reply:
    case State::bound_length:
    case State::bound: return Want::receive;
    case State::finished: return Want::finished;
    case State::failed: return Want::failed;
  }
  return Want::failed;
}

std::string_view Socks5Client::state_name() const noexcept {
  switch (state_) {
    case State::send_methods: return "offering methods";
    case State::method: return "waiting for the method";
    case State::send_login: return "sending the credentials";
    case State::login: return "waiting for the verdict on the credentials";
    case State::send_request: return "sending the request";
    case State::reply: return "waiting for the reply";
    case State::bound_length:
    case State::bound: return "reading the bound address";
    case State::finished: return "finished";
    case State::failed: return "failed";
  }
  return "failed";
}

std::span<const std::byte> Socks5Client::to_send() const noexcept {
  if (want() != Want::send) return {};
  return {messages_.data() + send_at_, static_cast<std::size_t>(send_end_ - send_at_)};
}

Want Socks5Client::sent(std::size_t size) noexcept {
  if (want() != Want::send) return want();
  const auto left = static_cast<std::uint16_t>(send_end_ - send_at_);
  if (size < left) {
    send_at_ = static_cast<std::uint16_t>(send_at_ + size);
  } else if (state_ == State::send_methods) {
    receive(State::method);
  } else if (state_ == State::send_login) {
    receive(State::login);
  } else {
    receive(State::reply);
  }
  return want();
}

Fed Socks5Client::feed(std::span<const std::byte> in) noexcept {
  std::size_t used = 0;
  while (used < in.size() && want() == Want::receive) take(static_cast<std::uint8_t>(in[used++]));
  return {used, want()};
}

Want Socks5Client::peer_closed() noexcept {
  switch (state_) {
    case State::send_methods:
    case State::send_login: fail(Err::closed_early); break;
    case State::method: fail(have_ == 0 ? Err::closed_early : Err::reply_truncated); break;
    case State::login: fail(have_ == 0 ? Err::bad_credentials : Err::reply_truncated); break;  // many just close
    case State::send_request: fail(Err::refused); break;
    case State::reply: fail(have_ == 0 ? Err::refused : Err::reply_truncated); break;  // ssh -D just closes
    case State::bound_length:
    case State::bound: fail(Err::reply_truncated); break;
    case State::finished:
    case State::failed: break;
  }
  return want();
}

void Socks5Client::take(std::uint8_t byte) noexcept {
  switch (state_) {
    case State::method: take_method(byte); break;
    case State::login: take_login(byte); break;
    case State::reply: take_reply(byte); break;
    case State::bound_length:
      left_ = static_cast<std::uint16_t>(byte + 2);
      state_ = State::bound;
      break;
    case State::bound:
      if (--left_ == 0) state_ = State::finished;
      break;
    case State::send_methods:
    case State::send_login:
    case State::send_request:
    case State::finished:
    case State::failed: break;
  }
}

void Socks5Client::take_method(std::uint8_t byte) noexcept {
  if (have_++ == 0) {
    if (byte != version) fail(wrong_protocol(byte));
  } else if (byte == Method::no_login) {
    send(State::send_request);
  } else if (byte == Method::user_password && has_login_) {
    send(State::send_login);
  } else if (byte == Method::none_acceptable) {
    fail(has_login_ ? Err::bad_credentials : Err::wants_credentials);
  } else {
    fail(Err::reply_malformed);  // a method that was not offered
  }
}

void Socks5Client::take_login(std::uint8_t byte) noexcept {
  if (have_++ == 0) {
    if (byte != login_version && byte != version) fail(Err::reply_malformed);  // servers with a 5 exist
  } else if (byte == 0) {
    send(State::send_request);
  } else {
    fail(Err::bad_credentials);
  }
}

void Socks5Client::take_reply(std::uint8_t byte) noexcept {
  switch (have_++) {
    case 0:
      if (byte != version) fail(Err::reply_malformed);
      break;
    case 1:
      reply_ = byte;
      if (byte != 0) fail(cause_of(byte));
      break;
    case 2: break;  // RSV: not always 0
    default:
      state_ = byte == AddressType::name ? State::bound_length : State::bound;
      left_ = byte == AddressType::ipv4 ? 4 + 2 : 16 + 2;
      if (byte != AddressType::ipv4 && byte != AddressType::name && byte != AddressType::ipv6)
        fail(Err::reply_malformed);
      break;
  }
}

void Socks5Client::send(State state) noexcept {
  state_ = state;
  send_at_ = state == State::send_methods ? 0 : state == State::send_login ? methods_end_ : login_end_;
  send_end_ = state == State::send_methods ? methods_end_ : state == State::send_login ? login_end_ : request_end_;
}

void Socks5Client::receive(State state) noexcept {
  state_ = state;
  have_ = 0;
}

void Socks5Client::fail(Err code) noexcept {
  error_ = {code, Stage::socks5, reply_, 0};
  state_ = State::failed;
}

}  // namespace towpath
