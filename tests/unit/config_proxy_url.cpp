#include "config/proxy_url.h"

#include <random>

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

using namespace towpath;

TEST_CASE("proxy url: every conformance vector parses as expected") {
  const YAML::Node file = YAML::LoadFile(TOWPATH_VECTORS "/proxyurl-vectors.json");
  std::size_t read = 0;
  for (const auto& vector : file["url"]) {
    const auto id = vector["id"].as<std::string>();
    const YAML::Node expect = vector["expect"];
    const ParsedProxyUrl parsed = parse_proxy_url(vector["input"].as<std::string>());
    CHECK_MESSAGE(parsed.url.has_value() + parsed.unset + !parsed.error.empty() == 1, id);
    CHECK_MESSAGE(parsed.error.empty() == expect["ok"].as<bool>(), id << ": " << parsed.error);
    CHECK_MESSAGE(parsed.unset == (expect["unset"] && expect["unset"].as<bool>()), id);
    CHECK_MESSAGE(parsed.warning.empty() == !expect["warn"], id << ": " << parsed.warning);
    ++read;
    if (!parsed.url || !expect["host"]) continue;
    CHECK_MESSAGE(name_of(parsed.url->scheme) == expect["scheme"].as<std::string>(), id);
    CHECK_MESSAGE(parsed.url->host == expect["host"].as<std::string>(), id);
    CHECK_MESSAGE(parsed.url->port == expect["port"].as<int>(), id);
    CHECK_MESSAGE(parsed.url->credentials.has_value() == expect["username"].IsDefined(), id);
    if (!parsed.url->credentials || !expect["username"]) continue;
    CHECK_MESSAGE(parsed.url->credentials->user == expect["username"].as<std::string>(), id);
    CHECK_MESSAGE(parsed.url->credentials->password == expect["password"].as<std::string>(), id);
  }
  CHECK(read == 47);
}

TEST_CASE("proxy url: display shows scheme, host and port and nothing else") {
  CHECK(parse_proxy_url("user:secret@Proxy").url->display() == "http://proxy:80");
  CHECK(parse_proxy_url("[::1]").url->display() == "http://[::1]:80");
  CHECK(parse_proxy_url("SOCKS5H://p.test.").url->display() == "socks5://p.test.:1080");
  CHECK(parse_proxy_url("https://u%40c:secret@p.test").url->display_masked() == "https://u%40c:***@p.test:443");
}

TEST_CASE("proxy url: the masked form parses to the same proxy") {
  for (const char* text :
       {"http://proxy:3128", "https://a%3Db:c@[fe80::1%25eth0]:8443", "socks5://domain%5Cuser:x@10.0.0.1"}) {
    const auto first = parse_proxy_url(text);
    REQUIRE_MESSAGE(first.url, text);
    const auto again = parse_proxy_url(first.url->display_masked());
    REQUIRE_MESSAGE(again.url, first.url->display_masked());
    CHECK(again.url->display_masked() == first.url->display_masked());
    CHECK(again.url->host == first.url->host);
  }
}

TEST_CASE("proxy url: blanks around are trimmed, quotes and controls are refused") {
  CHECK(parse_proxy_url(" \n\t").unset);
  CHECK(parse_proxy_url(" http://proxy:3128\r\n").url);
  CHECK(parse_proxy_url("domain\\user:pw@proxy").url->credentials->user == "domain\\user");
  for (const char* bad :
       {"'proxy:3128'", "\"proxy", "u:p@\"proxy\"", "http://pro\txy", "http://proxy\nx", "http://u%0d%0a:p@proxy",
        "http://u:%00@proxy", "http://u:%zz@proxy", "http://u:%4@proxy", "http://u:%@proxy"})
    CHECK_MESSAGE(!parse_proxy_url(bad).error.empty(), bad);
}

TEST_CASE("proxy url: unusable hosts and ports are refused") {
  for (const char* bad :
       {"proxy:65536", "proxy:-1",      "proxy:+1",        "proxy:0x50", "proxy: 80",      "proxy:80 ",
        ":3128",       "http://:3128",  "//proxy:3128",    "://proxy",   "http:///proxy",  "http:\\\\proxy",
        "a b:80",      "a..b:80",       "10.0.0.256:3128", "1.2.3:80",   "[10.0.0.1]:80",  "[::1",
        "[::1]x",      "[::1%eth0]:80", "[::1%25]:80",     "::1",        "fe80::1%25eth0", "2001:db8::1:3128",
        "[]:80",       "*:80",          "pro%78y:80"}) {
    if (std::string_view(bad) == "proxy:80 ") continue;  // trimmed
    CHECK_MESSAGE(!parse_proxy_url(bad).error.empty(), bad);
  }
}

TEST_CASE("proxy url: errors name the remedy and never the password") {
  const auto error = [](const char* text) { return parse_proxy_url(text).error; };
  CHECK(error("socks4://proxy") == "unsupported scheme socks4: use socks5");
  CHECK(error("ftp://proxy").find("use http, https or socks5") != std::string::npos);
  CHECK(error("2001:db8::1").find("brackets") != std::string::npos);
  CHECK(error("a:1:2").find("two ports") != std::string::npos);
  CHECK(error("http://user:hunter2/x@proxy:80").find("%2F") != std::string::npos);
  for (const char* text : {"user:hunter2://@proxy", "http://user:hunter2/@proxy", "http://user:hunter2",
                           "http://user:hunter2@", "hunter2%:x@proxy", "http://us%3Aer:hunter2@proxy",
                           "http://user:80/hunter2@proxy", "http://user:hunter2@pro xy", "\"user:hunter2@proxy\""}) {
    CHECK_MESSAGE(!error(text).empty(), text);
    CHECK_MESSAGE(error(text).find("hunter2") == std::string::npos, error(text));
  }
}

TEST_CASE("proxy url: SOCKS5 credentials fit RFC 1929") {
  CHECK_FALSE(parse_proxy_url("socks5://:pw@proxy").error.empty());
  CHECK_FALSE(parse_proxy_url("socks5://u:" + std::string(256, 'p') + "@proxy").error.empty());
  CHECK(parse_proxy_url("socks5://u:" + std::string(255, 'p') + "@proxy").url);
  CHECK(parse_proxy_url("socks5://u@proxy").url->credentials->password.empty());
}

TEST_CASE("proxy url: random bytes give exactly one of url, unset and error") {
  std::mt19937 random(20240602);
  const std::string alphabet = "htps5ck:/@[]%.?#0123456789\" \xc3\xbc\xff";
  for (int round = 0; round < 6000; ++round) {
    std::string text(random() % 32, '\0');
    for (char& c : text) c = round % 2 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    if (round % 3 == 0) text.insert(0, "http://");
    const ParsedProxyUrl parsed = parse_proxy_url(text);
    REQUIRE(parsed.url.has_value() + parsed.unset + !parsed.error.empty() == 1);
    if (parsed.url) REQUIRE_MESSAGE(parse_proxy_url(parsed.url->display_masked()).url, parsed.url->display_masked());
  }
}
