#include "config/difference.h"

#include <doctest/doctest.h>

using namespace towpath;

namespace {

Policy proxied(const char* http) {
  Policy out;
  out.http = {*parse_proxy_url(http).url};
  return out;
}

std::vector<std::string> changes(const Policy& before, const Policy& after) { return differences(before, after); }

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("difference: the same policy from another source is the same") {
  Policy before = proxied("http://a.test:3128"), after = before;
  after.source = "another.yaml";
  CHECK(changes(before, after).empty());
}

TEST_CASE("difference: lists say what came and what went") {
  Policy before = proxied("a.test"), after = before;
  std::vector<Problem> none;
  before.exempt = ExemptRules::parse("a.example,b.example", "", none);
  after.exempt = ExemptRules::parse("b.example,c.example:443", "", none);
  CHECK(changes(before, after) == Words{"proxy.exempt: added c.example:443; removed a.example"});
  after = before;
  after.reverse.all_ports = before.reverse.all_ports = false;
  before.reverse.ports = {{80, ManagedPort::Mode::http}};
  after.reverse.ports = {{80, ManagedPort::Mode::proxy}};
  CHECK(changes(before, after) ==
        Words{"reverseProxy.ports: added {port: 80, mode: proxy}; removed {port: 80, mode: http}"});
}

TEST_CASE("difference: the order of headers counts") {
  Policy before, after;
  before.reverse.headers = {"A", "B"};
  after.reverse.headers = {"B", "A"};
  CHECK(changes(before, after).size() == 1);
}

TEST_CASE("difference: no password is shown, and another one is a change") {
  const Policy before = proxied("http://user:first@a.test"), after = proxied("http://user:second@a.test");
  CHECK(changes(before, after) == Words{"proxy: other credentials"});
  const Words words = changes(before, proxied("http://user:third@b.test"));
  REQUIRE(!words.empty());
  CHECK(words[0] == "proxy.http: http://user:***@a.test:80 -> http://user:***@b.test:80");
  for (const std::string& each : words) CHECK(each.find("third") == std::string::npos);
}

TEST_CASE("difference: keys, and what the TLS files hold") {
  Policy before = proxied("a.test"), after = before;
  after.udp = UdpMode::block;
  after.https = {*parse_proxy_url("https://b.test").url};
  after.tls.content = 7;
  CHECK(changes(before, after) == Words{"proxy.https: none -> https://b.test:443", "proxy.udp: allow -> block",
                                        "proxy.tls: the files hold something else"});
}
