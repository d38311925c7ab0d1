#include "proto/http_connect.h"

#include <doctest/doctest.h>

#include "proto/base64.h"
#include "tests/unit/proto_drive.h"

using namespace towpath;
using namespace towpath::testing;

namespace {

const TargetView target{"example.com", {}, 443};

HttpConnectClient waiting(const ProxyLogin* login = nullptr) {
  HttpConnectClient m(target, login);
  m.sent(m.to_send().size());
  return m;
}

HttpConnectClient after(std::string_view stream, const ProxyLogin* login = nullptr) {
  HttpConnectClient m = waiting(login);
  m.feed(as_bytes(stream));
  return m;
}

Err refusal(std::string_view status, std::string_view fields) {
  return after("HTTP/1.1 " + std::string(status) + " x\r\n" + std::string(fields) + "\r\n").error().code;
}

std::string request(const TargetView& to, const ProxyLogin* login = nullptr) {
  const HttpConnectClient m(to, login);
  return {reinterpret_cast<const char*>(m.to_send().data()), m.to_send().size()};
}

std::string base64(std::string_view plain) {
  std::array<std::byte, 64> buffer;
  ByteWriter out(buffer);
  put_base64(out, plain);
  return {reinterpret_cast<const char*>(buffer.data()), out.size()};
}

}  // namespace

TEST_CASE("base64: the vectors of RFC 4648 section 10") {
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foob") == "Zm9vYg==");
  CHECK(base64("fooba") == "Zm9vYmE=");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xfb\xff\xfe") == "+//+");
}

TEST_CASE("http connect: the name wins over the address, the port is always there") {
  const IpAddress v4 = IpAddress::parse("192.0.2.1");
  CHECK(request({"example.com", v4, 22}) == "CONNECT example.com:22 HTTP/1.1\r\nHost: example.com:22\r\n\r\n");
  CHECK(request({"", v4, 65535}) == "CONNECT 192.0.2.1:65535 HTTP/1.1\r\nHost: 192.0.2.1:65535\r\n\r\n");
  CHECK(request({"", IpAddress::parse("::ffff:192.0.2.1"), 80}).find("CONNECT 192.0.2.1:80 ") == 0);
}

TEST_CASE("http connect: a target that cannot be written is refused before anything is sent") {
  const auto code = [](std::string_view name) { return HttpConnectClient({name, {}, 80}, nullptr).error().code; };
  CHECK(code("") == Err::name_invalid);
  for (const char* name :
       {"a b", "a\r\nX: y", "a/b", "user@a", "a:1", "[::1]", "a\x7f", "a\tb", "b\xc3\xbc", "a?", "a#b", "a%41"})
    CHECK_MESSAGE(code(name) == Err::name_invalid, name);
  CHECK(code(std::string_view("a\0b", 3)) == Err::name_invalid);
  CHECK(code(std::string(255, 'a')) == Err::ok);
  CHECK(code(std::string(256, 'a')) == Err::name_too_long);
  CHECK(code("_dmarc.a-b.example.") == Err::ok);
  HttpConnectClient m({"a b", {}, 80}, nullptr);
  CHECK(m.want() == Want::failed);
  CHECK(m.to_send().empty());
  CHECK(m.sent(5) == Want::failed);
  CHECK(m.peer_closed() == Want::failed);
}

TEST_CASE("http connect: the longest name with the longest login fits") {
  const std::string name(255, 'n'), user(255, 'u'), password(255, 'p');
  const ProxyLogin login{user, password};
  const std::string text = request({name, {}, 65535}, &login);
  CHECK(text.size() == 8 + 261 + 17 + 261 + 2 + 27 + base64_size(511) + 4);
  CHECK(text.find("\r\n\r\n") == text.size() - 4);
  const std::string long_password(256, 'p');
  const ProxyLogin too_long{user, long_password};
  CHECK(HttpConnectClient(target, &too_long).error().code == Err::bad_configuration);
  const ProxyLogin empty{};
  CHECK(request(target, &empty).find("Basic Og==\r\n") != std::string::npos);
}

TEST_CASE("http connect: sending in pieces sends each byte once") {
  HttpConnectClient m(target, nullptr);
  std::string text;
  while (m.want() == Want::send) {
    CHECK(m.sent(0) == Want::send);
    text += static_cast<char>(m.to_send().front());
    m.sent(1);
  }
  CHECK(text == request(target));
  CHECK(m.want() == Want::receive);
  CHECK(m.to_send().empty());
  CHECK(m.sent(1) == Want::receive);
}

TEST_CASE("http connect: nothing is taken before the request is sent") {
  HttpConnectClient m(target, nullptr);
  const Fed fed = m.feed(as_bytes("HTTP/1.1 200 OK\r\n\r\n"));
  CHECK(fed.consumed == 0);
  CHECK(fed.next == Want::send);
}

TEST_CASE("http connect: what cannot become an HTTP/1 reply fails at its first wrong byte") {
  struct {
    std::string_view text;
    Err code;
  } const cases[] = {
      {{"\x05\xff", 2}, Err::looks_like_socks},   {{"\x04", 1}, Err::looks_like_socks},
      {{"\0\x5b", 2}, Err::looks_like_socks},     {"\x15\x03\x01", Err::looks_like_tls},
      {"\x16\x03\x01", Err::looks_like_tls},      {"SSH-2.0-", Err::reply_malformed},
      {"\r\nHTTP/1.1 200", Err::reply_malformed}, {"h", Err::reply_malformed},
  };
  for (const auto& c : cases) {
    HttpConnectClient m = waiting();
    const Fed fed = m.feed(as_bytes(c.text));
    CHECK_MESSAGE(fed.consumed == 1, c.text);
    CHECK_MESSAGE((m.error() == Error{c.code, Stage::http, 0, 0}), c.text);
  }
  for (const char* text : {"HTTP/2", "HTTP/1.2", "HTTP/1.1\r", "HTTP/1.1\t2x", "HTTP/1.1 2000", "HTTP/1.1 20 ",
                           "HTTP/1.1 20\r", "HTTP/1.1 200O", "HTTP/1.1 \n", "HTTP/1.1 -20", "HTTP/1.1 abc", "HTTP/11"})
    CHECK_MESSAGE(after(text).error().code == Err::reply_malformed, text);
}

TEST_CASE("http connect: NUL is refused wherever it stands") {
  const std::string whole = "HTTP/1.1 200 OK\r\nVia: x\r\n y\r\n\r\n";
  for (std::size_t i = 1; i < whole.size(); ++i) {
    std::string text = whole;
    text.insert(i, 1, '\0');
    CHECK_MESSAGE(after(text).error().code == Err::reply_malformed, i);
  }
}

TEST_CASE("http connect: a lone CR does not end a line") {
  CHECK(after("HTTP/1.1 200 OK\rX\r\nA: b\rc\r\n\r\n").want() == Want::finished);
  CHECK(after("HTTP/1.1 200 OK\r\n\rX").error().code == Err::reply_malformed);
}

TEST_CASE("http connect: lines that are no fields are of no interest") {
  CHECK(after("HTTP/1.1 200 OK\r\n folded: from nothing\r\nno colon\r\n: empty\r\n\r\n").want() == Want::finished);
  CHECK(after("HTTP/1.0\t200\tOK\n\n").want() == Want::finished);
}

TEST_CASE("http connect: 65536 header bytes pass, one more does not") {
  for (const std::size_t size : {std::size_t{65536}, std::size_t{65537}}) {
    const std::string head = "HTTP/1.1 200 OK\r\nX: ", tail = "\r\n\r\n";
    const std::string stream = head + std::string(size - head.size() - tail.size(), 'a') + tail + "tunnel";
    for (const bool bytewise : {false, true}) {
      HttpConnectClient m(target, nullptr);
      const Driven d = bytewise ? drive_bytes(m, stream) : drive_whole(m, stream);
      CHECK(d.broken == nullptr);
      if (size == 65536) {
        CHECK(d.want == Want::finished);
        CHECK(d.consumed == size);
      } else {
        CHECK(d.error.code == Err::reply_too_long);
      }
    }
  }
}

TEST_CASE("http connect: interim replies count towards the limit") {
  std::string stream;
  while (stream.size() < 70000) stream += "HTTP/1.1 100 Continue\r\n\r\n";
  const HttpConnectClient m = after(stream);
  CHECK(m.error().code == Err::reply_too_long);
  CHECK(after(stream.substr(0, 25 * 2000) + "HTTP/1.1 200 OK\r\n\r\n").want() == Want::finished);
}

TEST_CASE("http connect: interim replies leave no trace") {
  const HttpConnectClient m = after(
      "HTTP/1.1 102 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 110\r\nProxy-Status: a;error=dns_error\r\n\r\n"
      "HTTP/1.1 502 x\r\n\r\n");
  CHECK(m.error() == Error{Err::refused, Stage::http, 502, 0});
  CHECK(m.detail() == "");
  CHECK(after("HTTP/1.1 100 x\r\n\r\n").status() == 0);
  CHECK(refusal("101", "") == Err::refused);
}

TEST_CASE("http connect: a refusal is read to the end of its header and no further") {
  HttpConnectClient m = waiting();
  const std::string_view head = "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\n";
  const std::string stream = std::string(head) + "body";
  CHECK(m.feed(as_bytes(stream)).consumed == head.size());
  CHECK(m.error() == Error{Err::denied, Stage::http, 403, 0});
  CHECK(m.status() == 403);
}

TEST_CASE("http connect: the status decides when nothing knows better") {
  for (const char* status : {"401", "403", "405", "451", "501"})
    CHECK_MESSAGE(refusal(status, "") == Err::denied, status);
  for (const char* status : {"301", "400", "404", "429", "500", "502", "503", "599", "600", "999", "000", "099"})
    CHECK_MESSAGE(refusal(status, "") == Err::refused, status);
  CHECK(refusal("504", "") == Err::target_timeout);
  CHECK(refusal("407", "") == Err::wants_credentials);
  const ProxyLogin login{"u", "p"};
  CHECK(after("HTTP/1.1 407 x\r\n\r\n", &login).error() == Error{Err::bad_credentials, Stage::http, 407, 0});
  for (const char* status : {"200", "201", "204", "299"})
    CHECK_MESSAGE(after("HTTP/1.1 " + std::string(status) + "\r\n\r\n").want() == Want::finished, status);
}

TEST_CASE("http connect: Squid's errno wins over everything") {
  CHECK(refusal("503", "X-Squid-Error: ERR_CONNECT_FAIL 101\r\n") == Err::network_unreachable);
  CHECK(refusal("503", "X-Squid-Error: ERR_CONNECT_FAIL 110\r\n") == Err::target_timeout);
  CHECK(refusal("503", "x-squid-error:ERR_CONNECT_FAIL\t111 \r\n") == Err::target_refused);
  CHECK(refusal("503", "X-Squid-Error: ERR_CONNECT_FAIL\r\n 113\r\n") == Err::target_unreachable);
  CHECK(refusal("503", "X-Squid-Error: ERR_DNS_FAIL 0\r\n") == Err::target_unreachable);
  CHECK(refusal("503", "X-Squid-Error: ERR_CONNECT_FAIL 104\r\n") == Err::refused);
  CHECK(refusal("403", "X-Squid-Error: ERR_ACCESS_DENIED 0\r\n") == Err::denied);
  CHECK(refusal("504", "Proxy-Status: a; error=dns_error\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n") ==
        Err::target_refused);
  CHECK(refusal("503", "Y-X-Squid-Error: ERR_CONNECT_FAIL 110\r\n") == Err::refused);
}

TEST_CASE("http connect: Proxy-Status is parsed, not searched") {
  const auto with = [](const char* value) { return refusal("502", "Proxy-Status: " + std::string(value) + "\r\n"); };
  CHECK(with("gw; error=connection_refused") == Err::target_refused);
  CHECK(with("gw;error=http_response_timeout") == Err::target_timeout);
  CHECK(with("gw;error=dns_timeout") == Err::target_timeout);
  CHECK(with("\"a; error=dns_error\"; error=connection_refused; rcode=\"x\"") == Err::target_refused);
  CHECK(with("a; details=\"\\\"; error=dns_error\"") == Err::refused);
  CHECK(with("origin; next-hop=\"b\", gw; error=destination_unavailable, c; error=connection_refused") ==
        Err::target_unreachable);
  CHECK(with("a; error=http_protocol_error, b; error=connection_refused") == Err::refused);
  CHECK(with("a; xerror=connection_timeout") == Err::refused);
  CHECK(with("error=connection_timeout") == Err::refused);
  CHECK(with("a; error") == Err::refused);
  CHECK(with("a; error=") == Err::refused);
  for (const char* token : {"dns_error", "destination_not_found", "destination_ip_unroutable"})
    CHECK_MESSAGE(with(("a; error=" + std::string(token)).c_str()) == Err::target_unreachable, token);
  for (const char* token : {"destination_ip_prohibited", "http_request_denied"})
    CHECK_MESSAGE(with(("a; error=" + std::string(token)).c_str()) == Err::denied, token);
  CHECK(refusal("502",
                "Proxy-Status: a\r\nProxy-Status: b;error=dns_error\r\nProxy-Status: c;error=connection_refused\r\n") ==
        Err::target_unreachable);
}

TEST_CASE("http connect: a value that is too long loses its end, never a part of a word") {
  const std::string filler(1024 - 31, 'a');  // the limit falls into the token
  const std::string fields = "Proxy-Status: " + filler + "; error=connection_refused_not_quite\r\n";
  CHECK(refusal("502", fields) == Err::refused);
  CHECK(refusal("502", "Proxy-Status: b; error=dns_error, " + std::string(5000, 'a') + "\r\n") ==
        Err::target_unreachable);
}

TEST_CASE("http connect: detail() is what the proxy said, printable and bounded") {
  const auto detail = [](std::string fields) {
    return std::string(after("HTTP/1.1 503 x\r\n" + fields + "\r\n").detail());
  };
  CHECK(detail("X-Squid-Error: ERR_CONNECT_FAIL 111\r\n") == "X-Squid-Error: ERR_CONNECT_FAIL 111");
  CHECK(detail("Proxy-Status: a; error=connection_refused\r\n") == "connection_refused");
  CHECK(detail("Proxy-Status: a; error=tls_alert_received\r\nX-Squid-Error: E\x1b[31m\xff 1\r\n") ==
        "X-Squid-Error: E?[31m? 1");
  CHECK(detail("Via: x\r\n") == "");
  CHECK(detail("X-Squid-Error: " + std::string(3000, 'x') + " 1\r\n").size() <= 96);
}

TEST_CASE("http connect: auth_schemes() names the schemes of a 407, without their parameters") {
  const auto schemes = [](std::string fields) {
    return std::string(after("HTTP/1.1 407 x\r\n" + fields + "\r\n").auth_schemes());
  };
  CHECK(schemes("Proxy-Authenticate: Negotiate\r\nproxy-authenticate:NTLM\r\n") == "Negotiate NTLM");
  CHECK(
      schemes("Proxy-Authenticate: Digest realm=\"a, Basic b\", nonce=\"1\", algorithm = MD5, Basic realm=\"w\"\r\n") ==
      "Digest Basic");
  CHECK(schemes("Proxy-Authenticate: Digest a=b\r\nProxy-Authenticate: Digest a=c\r\n") == "Digest");
  CHECK(schemes("Proxy-Authenticate: Negotiate dG9rZW4=, , NTLM\r\n") == "Negotiate NTLM");
  CHECK(schemes("Proxy-Authenticate: \x1b[31m\r\n") == "");
  CHECK(schemes("Proxy-Authenticate: Basic realm=\"never closed\r\n") == "Basic");
  CHECK(schemes("Proxy-Authenticate: " + std::string(100, 'a') + ", Basic\r\n") == "Basic");
  CHECK(after("HTTP/1.1 401 x\r\nProxy-Authenticate: Basic\r\n\r\n").auth_schemes() == "");
}

TEST_CASE("http connect: when the proxy closes, what is known decides") {
  const auto closed = [](std::string_view stream) {
    HttpConnectClient m = after(stream);
    m.peer_closed();
    return m.error().code;
  };
  HttpConnectClient unsent(target, nullptr);
  CHECK(unsent.peer_closed() == Want::failed);
  CHECK(unsent.error().code == Err::closed_early);
  CHECK(closed("") == Err::closed_early);
  for (const char* text :
       {"H", "HTTP/1.1", "HTTP/1.1 ", "HTTP/1.1 20", "HTTP/1.1 403 Forb", "HTTP/1.1 403 Forbidden\r"})
    CHECK_MESSAGE(closed(text) == Err::reply_truncated, text);
  for (const char* text : {"HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nVi", "HTTP/1.1 200 OK\r\n\r",
                           "HTTP/1.1 100 x\r\nA", "HTTP/1.1 100 x\r\n\r\n"})
    CHECK_MESSAGE(closed(text) == Err::reply_truncated, text);
  for (const char* text : {"HTTP/1.1 403 x\r\n", "HTTP/1.1 403 x\r\nVi", "HTTP/1.1 403 x\r\nVia:",
                           "HTTP/1.1 403 x\r\nVia: y", "HTTP/1.1 403 x\r\nVia: y\r\n", "HTTP/1.1 403 x\r\n\r"})
    CHECK_MESSAGE(closed(text) == Err::denied, text);
  CHECK(closed("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 110\r\n") == Err::target_timeout);
  CHECK(closed("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 110") == Err::refused);  // 1101 perhaps
  HttpConnectClient done = after("HTTP/1.1 200 OK\r\n\r\n");
  CHECK(done.peer_closed() == Want::finished);
  CHECK_FALSE(done.error());
}

TEST_CASE("http connect: no state name shows the credentials") {
  const ProxyLogin login{"s3cr3t", "s3cr3t"};
  for (const char* stream : {"", "HTTP", "HTTP/1.1 407 x\r\n", "HTTP/1.1 407 x\r\n\r\n", "HTTP/1.1 200 x\r\n\r\n"}) {
    const HttpConnectClient m = after(stream, &login);
    CHECK_FALSE(m.state_name().empty());
    CHECK(m.state_name().find("s3cr3t") == std::string_view::npos);
  }
}
