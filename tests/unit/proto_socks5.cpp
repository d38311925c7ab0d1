#include "proto/socks5.h"

#include <doctest/doctest.h>

#include "tests/unit/proto_drive.h"

using namespace towpath;
using namespace towpath::testing;
using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

const TargetView target{"example.com", {}, 443};
const ProxyLogin login{"user", "pass"};

struct Run {
  Socks5Client machine;
  Driven driven;
};

Run run(std::string_view stream, const ProxyLogin* with = nullptr, const TargetView& to = target) {
  Socks5Client m(to, with);
  const Driven driven = drive_bytes(m, stream);
  return {m, driven};
}

Err closed(std::string_view stream, const ProxyLogin* with = nullptr) {
  Run r = run(stream, with);
  r.machine.peer_closed();
  return r.machine.error().code;
}

Err rep(int reply) {
  const char bytes[] = {5, 0, 5, static_cast<char>(reply)};
  const Run r = run({bytes, sizeof bytes});
  CHECK(r.machine.reply() == reply);
  CHECK(r.machine.error().peer == reply);
  CHECK(r.machine.error().stage == Stage::socks5);
  return r.machine.error().code;
}

}  // namespace

TEST_CASE("socks5: an address goes out in its own length, a mapped one as IPv4") {
  const Run v4 = run("\x05\0"sv, nullptr, {"", IpAddress::parse("::ffff:10.1.2.3"), 0x1234});
  CHECK(v4.driven.sends.back() == "\x05\x01\0\x01\x0a\x01\x02\x03\x12\x34"sv);
  const Run v6 = run("\x05\0"sv, nullptr, {"", IpAddress::parse("2001:db8::1"), 80});
  CHECK(v6.driven.sends.back() == "\x05\x01\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50"sv);
  const Run both = run("\x05\0"sv, nullptr, {"a", IpAddress::parse("10.1.2.3"), 80});
  CHECK(both.driven.sends.back() ==
        "\x05\x01\0\x03\x01"
        "a\0\x50"sv);
}

TEST_CASE("socks5: a target that cannot be written is refused before anything is sent") {
  const auto code = [](std::string_view name) { return Socks5Client({name, {}, 80}, nullptr).error().code; };
  CHECK(code("") == Err::name_invalid);
  CHECK(code("a b") == Err::name_invalid);
  CHECK(code("a\0b"sv) == Err::name_invalid);
  CHECK(code(std::string(255, 'a')) == Err::ok);
  CHECK(code(std::string(256, 'a')) == Err::name_too_long);
  Socks5Client m({std::string(256, 'a'), {}, 80}, nullptr);
  CHECK(m.want() == Want::failed);
  CHECK(m.to_send().empty());
}

TEST_CASE("socks5: a login is offered, not forced, and empty parts are sent as they are") {
  const Run without = run("\x05\0"sv, &login);
  CHECK(without.driven.sends == std::vector<std::string>{"\x05\x02\0\x02"s,
                                                         "\x05\x01\0\x03\x0b"
                                                         "example.com\x01\xbb"s});
  const ProxyLogin no_password{"user", {}}, nothing{};
  CHECK(run("\x05\x02"sv, &no_password).driven.sends.back() == "\x01\x04user\0"sv);
  CHECK(run("\x05\x02"sv, &nothing).driven.sends.back() == "\x01\0\0"sv);
  const std::string long_user(256, 'u');
  const ProxyLogin too_long{long_user, "p"};
  CHECK(Socks5Client(target, &too_long).error().code == Err::bad_configuration);
}

TEST_CASE("socks5: each message waits for its answer") {
  Socks5Client m(target, &login);
  CHECK(m.feed(as_bytes("\x05\x02"sv)).consumed == 0);
  m.sent(4);
  // The server answers everything at once: one answer is taken at a time.
  const std::string_view answers = "\x05\x02\x01\0\x05\0\0\x01\0\0\0\0\0\0SSH"sv;
  CHECK(m.feed(as_bytes(answers)).consumed == 2);
  CHECK(m.want() == Want::send);
  CHECK(m.feed(as_bytes(answers)).consumed == 0);
  m.sent(m.to_send().size());
  CHECK(m.feed(as_bytes(answers.substr(2))).consumed == 2);
  m.sent(m.to_send().size());
  const Fed fed = m.feed(as_bytes(answers.substr(4)));
  CHECK(fed.consumed == 10);
  CHECK(fed.next == Want::finished);
}

TEST_CASE("socks5: sending in pieces sends each byte once") {
  Socks5Client m(target, &login);
  std::string text;
  const std::string_view answers = "\x05\x02\x01\0\x05\0\0\x01\0\0\0\0\0\0"sv;
  std::size_t at = 0;
  while (m.want() == Want::send || m.want() == Want::receive) {
    if (m.want() == Want::receive) {
      CHECK(m.to_send().empty());
      CHECK(m.sent(1) == Want::receive);
      at += m.feed(as_bytes(answers.substr(at, 1))).consumed;
    } else {
      CHECK(m.sent(0) == Want::send);
      text += static_cast<char>(m.to_send().front());
      m.sent(1);
    }
  }
  CHECK(m.want() == Want::finished);
  CHECK(text ==
        "\x05\x02\0\x02\x01\x04user\x04pass\x05\x01\0\x03\x0b"
        "example.com\x01\xbb"sv);
}

TEST_CASE("socks5: the reply is as long as its own address type says") {
  const auto consumed = [](std::string_view reply) {
    const std::string stream = "\x05\0"s + std::string(reply) + std::string(400, 'T');
    Run r = run(stream);
    CHECK(r.driven.want == Want::finished);
    return r.driven.consumed - 2;
  };

  CHECK(consumed("\x05\0\0\x01"sv) == 10);
  CHECK(consumed("\x05\0\0\x04"sv) == 22);
  CHECK(consumed("\x05\0\0\x03\0"sv) == 7);
  CHECK(consumed("\x05\0\0\x03\x01"sv) == 8);
  CHECK(consumed("\x05\0\0\x03\xff"sv) == 262);
  CHECK(consumed("\x05\0\xff\x01"sv) == 10);
  for (const auto reply : {"\x05\0\0\0"sv, "\x05\0\0\x02"sv, "\x05\0\0\xff"sv})
    CHECK(run("\x05\0"s + std::string(reply)).machine.error().code == Err::reply_malformed);
}

TEST_CASE("socks5: a refusal counts as soon as REP is known") {
  const Err expected[] = {Err::refused,        Err::denied,         Err::network_unreachable, Err::target_unreachable,
                          Err::target_refused, Err::target_timeout, Err::command_unsupported, Err::address_unsupported};
  for (int i = 0; i < 8; ++i) CHECK(rep(i + 1) == expected[i]);
  for (int i = 0x09; i < 0xf0; ++i) CHECK(rep(i) == Err::refused);
  for (const int i : {0xf0, 0xf1, 0xf2, 0xf3, 0xf6}) CHECK(rep(i) == Err::target_unreachable);
  for (const int i : {0xf4, 0xf5}) CHECK(rep(i) == Err::denied);
  CHECK(rep(0xf7) == Err::target_timeout);
  for (int i = 0xf8; i <= 0xff; ++i) CHECK(rep(i) == Err::refused);
  CHECK(run("\x05\0\x05\x05\0\0\0\0"sv).driven.consumed == 4);
}

TEST_CASE("socks5: another protocol is recognised by its first byte") {
  CHECK(run("HTTP/1.1 400").machine.error() == Error{Err::looks_like_http, Stage::socks5, 0, 0});
  CHECK(run("\x15\x03\x03").machine.error().code == Err::looks_like_tls);
  CHECK(run("\x16\x03\x01").machine.error().code == Err::looks_like_tls);
  for (const auto text : {"\x04\0"sv, "\0\x5a"sv, "\x01"sv, "SSH"sv})
    CHECK(run(text).machine.error().code == Err::reply_malformed);
  CHECK(run("HTTP").driven.consumed == 1);
}

TEST_CASE("socks5: only an offered method may be chosen") {
  CHECK(run("\x05\x02"sv).machine.error().code == Err::reply_malformed);
  CHECK(run("\x05\x01"sv, &login).machine.error().code == Err::reply_malformed);
  CHECK(run("\x05\xff"sv).machine.error().code == Err::wants_credentials);
  CHECK(run("\x05\xff"sv, &login).machine.error().code == Err::bad_credentials);
}

TEST_CASE("socks5: the verdict on the credentials may carry either version") {
  CHECK(run("\x05\x02\x01\0"sv, &login).machine.want() == Want::receive);
  CHECK(run("\x05\x02\x05\0"sv, &login).machine.want() == Want::receive);
  CHECK(run("\x05\x02\x01\x01"sv, &login).machine.error().code == Err::bad_credentials);
  CHECK(run("\x05\x02\x05\xff"sv, &login).machine.error().code == Err::bad_credentials);
  CHECK(run("\x05\x02\0\0"sv, &login).machine.error().code == Err::reply_malformed);
}

TEST_CASE("socks5: when the proxy closes, the place tells why") {
  Socks5Client unsent(target, nullptr);
  unsent.peer_closed();
  CHECK(unsent.error().code == Err::closed_early);
  CHECK(closed("") == Err::closed_early);
  CHECK(closed("\x05"sv) == Err::reply_truncated);
  CHECK(closed("\x05\x02"sv, &login) == Err::bad_credentials);
  CHECK(closed("\x05\x02\x01"sv, &login) == Err::reply_truncated);
  CHECK(closed("\x05\x02\x01\0"sv, &login) == Err::refused);
  CHECK(closed("\x05\0"sv) == Err::refused);
  for (const auto text : {"\x05\0\x05"sv, "\x05\0\x05\0"sv, "\x05\0\x05\0\0"sv, "\x05\0\x05\0\0\x03"sv,
                          "\x05\0\x05\0\0\x03\x01"sv, "\x05\0\x05\0\0\x01\0\0\0\0\0"sv})
    CHECK(closed(text) == Err::reply_truncated);
  CHECK(closed("\x05\0\x05\0\0\x01\0\0\0\0\0\0"sv) == Err::ok);
  Socks5Client in_login(target, &login);
  in_login.sent(4);
  in_login.feed(as_bytes("\x05\x02"sv));
  in_login.sent(1);
  in_login.peer_closed();
  CHECK(in_login.error().code == Err::closed_early);
  Socks5Client in_request(target, nullptr);
  in_request.sent(3);
  in_request.feed(as_bytes("\x05\0"sv));
  in_request.peer_closed();
  CHECK(in_request.error().code == Err::refused);
}
