// What the vectors leave out of the walk over forwarded headers, and of what becomes of a request head.
#include "proto/forwarded.h"

#include <doctest/doctest.h>

#include <vector>

#include "agent/inbound_head.h"
#include "base/address_range.h"

using namespace towpath;

namespace {

const std::vector<AddressRange> ten{{IpAddress::parse("10.0.0.0"), 8}};
const Endpoint proxy{IpAddress::parse("10.0.0.1"), 1000};

std::string found(std::vector<HttpField> fields, std::vector<std::string> headers = {"X-Forwarded-For"}) {
  const ForwardedClient out = find_client(fields, proxy, headers, ten);
  char room[Endpoint::text_size];
  return std::string(out.client.format(room)) + (out.header.empty() ? "" : " by ") + std::string(out.header);
}

std::string edited(const std::string& fields, bool trusted = false,
                   std::vector<std::string> headers = {"X-Forwarded-For"}) {
  const std::string text = "GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n";
  HttpHead head;
  REQUIRE(head.parse(HttpKind::request, text) == HttpFlaw::none);
  const std::string out = edit_request(head, {proxy, trusted, headers, ten}).text;
  const std::string begin = "GET / HTTP/1.1\r\nHost: h\r\n";
  REQUIRE(out.starts_with(begin));
  return out.substr(begin.size(), out.size() - begin.size() - 2);
}

}  // namespace

TEST_CASE("forwarded: nothing of use is the peer, without a header's name") {
  CHECK(found({}) == "10.0.0.1:1000");
  CHECK(found({{"X-Forwarded-For", ""}}) == "10.0.0.1:1000");
  CHECK(found({{"X-Forwarded-For", " , ,"}}) == "10.0.0.1:1000");
  CHECK(found({{"X_Forwarded_For", "1.2.3.4"}}) == "10.0.0.1:1000");
  for (const char* bad : {"0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "01.2.3.4", "1.2.3.4:0",
                          "1.2.3.4:080", "1.2.3.4:65536", "[1.2.3.4]", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]x",
                          "1.2.3.4%eth0", "\"1.2.3.4\"", "1.2.3.4 5.6.7.8"}) {
    INFO(bad);
    CHECK(found({{"X-Forwarded-For", bad}}) == "10.0.0.1:1000");
  }
}

TEST_CASE("forwarded: an element that cannot be read does not let an older one through") {
  CHECK(found({{"X-Forwarded-For", "6.6.6.6, unknown"}}) == "10.0.0.1:1000");
  CHECK(found({{"X-Forwarded-For", "6.6.6.6, unknown, 10.1.1.1"}}) == "10.1.1.1:0 by X-Forwarded-For");
  CHECK(found({{"X-Forwarded-For", "6.6.6.6"}, {"X-Forwarded-For", "unknown"}}) == "10.0.0.1:1000");
  CHECK(found({{"Forwarded", "for=6.6.6.6, for=unknown"}}, {"Forwarded"}) == "10.0.0.1:1000");
  CHECK(found({{"Forwarded", "for=6.6.6.6, proto=https"}}, {"Forwarded"}) == "10.0.0.1:1000");
  CHECK(found({{"Forwarded", "for=6.6.6.6, for=\"_hidden\""}}, {"Forwarded"}) == "10.0.0.1:1000");
}

TEST_CASE("forwarded: twenty elements are read, and none of more") {
  std::string list = "192.0.2.1";
  for (int i = 0; i < 19; ++i) list += ", 10.0.0.2";
  CHECK(found({{"X-Forwarded-For", list}}) == "192.0.2.1:0 by X-Forwarded-For");
  CHECK(found({{"X-Forwarded-For", list + ", 10.0.0.2"}}) == "10.0.0.1:1000");
}

TEST_CASE("forwarded: a quote that a client leaves open does not swallow the line of a proxy") {
  CHECK(found({{"Forwarded", "for=\"6.6.6.6"}, {"Forwarded", "for=192.0.2.1"}}, {"Forwarded"}) ==
        "192.0.2.1:0 by Forwarded");
  CHECK(found({{"Forwarded", "for=192.0.2.1"}, {"Forwarded", "for=\"10.0.0.2"}}, {"Forwarded"}) == "10.0.0.1:1000");
  CHECK(found({{"Forwarded", "for=192.0.2.1;by=\"a\\\"b,c\", for=10.0.0.2"}}, {"Forwarded"}) ==
        "192.0.2.1:0 by Forwarded");
}

TEST_CASE("inbound head: every field that names a client is gone from a stranger's request") {
  CHECK(edited("X-Forwarded-For: 1.1.1.1\r\nx_forwarded_for: 1.1.1.1\r\nX-Real-IP: 1\r\nX_REAL-IP: 1\r\nForwarded: "
               "for=1.1.1.1\r\n"
               "CF-Connecting-IP: 1\r\nTrue-Client-IP: 1\r\nX-Forwarded-Proto: https\r\nX-Forwarded_Host: "
               "a\r\nX-Forwarded-Port: 1\r\n"
               "X-Forwarded-Prefix: a\r\nX-Forwarded-Server: a\r\nAccept: a\r\n") == "Accept: a\r\n");
  CHECK(edited("X-Client: 1\r\n", false, {"X-Client"}).empty());
  CHECK(edited("X-Client: 1\r\n") == "X-Client: 1\r\n");
}

TEST_CASE("inbound head: a trusted proxy's request has one line that names the client") {
  CHECK(edited("X-Forwarded-For: 6.6.6.6\r\nA: b\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.2\r\nX-Real-IP: 6.6.6.6\r\n"
               "X-Forwarded-Proto: https\r\nX_Forwarded_Proto: x\r\n",
               true) == "X-Forwarded-For: 192.0.2.1\r\nA: b\r\nX-Forwarded-Proto: https\r\n");
  CHECK(edited("X-Forwarded-Proto: https\r\nX-Real-IP: 192.0.2.1\r\n", true, {"X-Real-IP"}) ==
        "X-Real-IP: 192.0.2.1\r\n");
  CHECK(edited("Forwarded: for=\"[2001:db8::1]:7\";host=evil\r\n", true, {"Forwarded"}) ==
        "Forwarded: for=\"[2001:db8::1]\"\r\n");
  CHECK(edited("X-Forwarded-For: unknown\r\n", true).empty());
}

TEST_CASE("inbound head: Connection cannot take the client away, and nobody upgrades to h2c") {
  CHECK(edited("Connection: close, X-Forwarded-For\r\n", true) == "Connection: close\r\n");
  CHECK(edited("Connection: x_forwarded_for\r\n", true).empty());
  CHECK(edited("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n").empty());
  CHECK(edited("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n") ==
        "Connection: Upgrade\r\nUpgrade: websocket\r\n");
  CHECK(edited("Connection: Upgrade\r\nUpgrade: H2C/1\r\nUpgrade: HTTP/2.0\r\n").empty());
  CHECK(edited("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n") ==
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
}
