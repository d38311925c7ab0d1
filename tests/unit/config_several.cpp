// Lists of proxies: what is read, what is refused, and that nothing of it gets lost on the way to the log.
#include <cstdlib>
#include <fstream>

#include <doctest/doctest.h>

#include "config/explain.h"
#include "config/load.h"
#include "tests/unit/scratch.h"

#include <unistd.h>

using namespace towpath;

namespace {

Loaded load_yaml(std::string_view yaml, Overrides overrides = {}) {
  const TempFile file(yaml);
  return load({file.path(), std::move(overrides), {}});
}

std::string shown(const ProxyList& proxies) {
  std::string out;
  for (const ProxyUrl& proxy : proxies) out += (out.empty() ? "" : " ") + proxy.display_masked();
  return out.empty() ? "none" : out;
}

// The texts of all problems, without the name of the file.
std::string problems_of(std::string_view yaml, Overrides overrides = {}) {
  std::string out;
  for (const Problem& problem : load_yaml(yaml, std::move(overrides)).problems) {
    const std::string text = problem.text();
    out += text.substr(text.starts_with('/') ? text.find(':') + 1 : 0) + "\n";
  }
  return out;
}

constexpr const char* several = "looks like several proxies in one value: write a list";

}  // namespace

TEST_CASE("several proxies: a list keeps its order, in the file and on the command line") {
  const auto file = load_yaml("proxy: {http: [a, '', 'socks5://b:1'], https: ['https://u:p@c']}");
  REQUIRE(file.policy);
  CHECK(shown(file.policy->http) == "http://a:80 socks5://b:1");
  CHECK(shown(file.policy->https) == "https://u:***@c:443");
  CHECK(shown(file.policy->all) == "none");
  const auto line = load_yaml("proxy: {http: [a, b]}", {{"c", "d"}, {}, ""});
  REQUIRE(line.policy);
  CHECK(shown(line.policy->http) == "http://c:80 http://d:80");
}

TEST_CASE("several proxies: a list of nothing is not given") {
  const auto out = load({"", {{"", " "}, {}, ""}, {{"http_proxy", "e"}}});
  REQUIRE(out.policy);
  CHECK(shown(out.policy->http) == "http://e:80");
}

TEST_CASE("several proxies: credentialsFile serves every entry without credentials") {
  const TempFile secret("user:secret\n");
  const auto out =
      load_yaml("proxy: {http: [a, 'http://me:mine@b', 'socks5://c'], credentialsFile: " + secret.path() + "}");
  REQUIRE(out.policy);
  CHECK(shown(out.policy->http) == "http://user:***@a:80 http://me:***@b:80 socks5://user:***@c:1080");
}

TEST_CASE("several proxies: what is wrong is said, with its place") {
  CHECK(problems_of("proxy: {http: [a, b, a]}").starts_with("1:22: proxy.http[2]: the same proxy is in this list"));
  CHECK(problems_of("proxy: {http: ['u:1@a', 'u:2@a']}").find("[1]: the same proxy") != std::string::npos);
  CHECK(problems_of("proxy: {http: ['u:1@a', 'v:1@a', 'socks5://u:1@a']}").empty());
  CHECK(problems_of("proxy: {http: [a, 'socks4://b']}").starts_with("1:19: proxy.http[1]: unsupported scheme socks4"));
  CHECK(problems_of("proxy: {http: [a, {b: c}]}").starts_with("1:19: proxy.http[1]: expected a proxy like http://"));
  CHECK(problems_of("{}", {{"a", "b:x"}, {}, ""}).find("--http[1]: bad port") != std::string::npos);
  CHECK(problems_of("{}", {{"b:x"}, {}, ""}).find("--http: bad port") != std::string::npos);
  std::string many = "a0";
  for (int i = 1; i < 16; ++i) many += ", a" + std::to_string(i);
  CHECK(problems_of("proxy: {http: [" + many + "]}").empty());
  CHECK(problems_of("proxy: {http: [" + many + ", b]}").find("proxy.http[16]: too many proxies: 16") !=
        std::string::npos);
}

TEST_CASE("several proxies: several in one string are an error that says what to write") {
  for (const char* text : {"a:1,b:2", "http://a, http://b", "a:1 b:2", "a;b", "u:p@a:1,u:p@b:2"}) {
    CAPTURE(text);
    CHECK(problems_of("proxy: {http: '" + std::string(text) + "'}").find(several) != std::string::npos);
    CHECK(problems_of("{}", {{text}, {}, ""}).find(several) != std::string::npos);
  }
  const auto environment = load({"", {}, {{"http_proxy", "a:1,b:2"}}});
  REQUIRE(environment.problems.size() == 1);
  CHECK(environment.problems[0].text().find(several) != std::string::npos);
  // Passwords with such characters are passwords.
  CHECK(problems_of("proxy: {http: 'http://u:a,b@host:1'}").empty());
  CHECK(problems_of("proxy: {http: 'http://u:p@w,x@host:1'}").empty());
}

TEST_CASE("several proxies: what describe() writes is what load() reads") {
  const auto first = load_yaml("proxy: {http: [a, 'socks5://u@b:1'], https: ['https://c'], all: d}");
  REQUIRE(first.policy);
  const std::string text = describe(*first.policy);
  CHECK(text.find("http: [\"http://a:80\", \"socks5://u:***@b:1\"]\n") != std::string::npos);
  CHECK(text.find("https: \"https://c:443\"\n") != std::string::npos);
  const auto again = load_yaml(text);
  REQUIRE(again.policy);
  const std::string second = describe(*again.policy);
  CHECK(second.substr(second.find('\n')) == text.substr(text.find('\n')));
}

TEST_CASE("several proxies: explain names them in their order") {
  const auto loaded = load_yaml("proxy: {http: ['http://u:secret@a', 'socks5://b', c]}");
  REQUIRE(loaded.policy);
  const Destination destination{"x.test", {}, 443};
  const Decision decision = decide(*loaded.policy, destination);
  REQUIRE(decision.proxies.size() == 3);
  CHECK(explain_text(decision, destination) ==
        "x.test:443: tunnel through http://a:80, then socks5://b:1080, then http://c:80 (port 443 uses proxy.http)");
  CHECK(explain_json(decision, destination) ==
        R"({"destination":"x.test:443","route":"tunnel","via":"http://a:80",)"
        R"("then":["socks5://b:1080","http://c:80"],"rule":"port 443 uses proxy.http"})");
}

TEST_CASE("several proxies: each of them is reached directly") {
  const auto loaded = load_yaml("proxy: {http: [a.test, '192.0.2.7:3128'], all: ['b.test', 'c.test']}");
  REQUIRE(loaded.policy);
  const auto kind = [&](const char* name, std::uint16_t port) { return decide(*loaded.policy, {name, {}, port}).kind; };
  CHECK(kind("192.0.2.7", 3128) == RouteKind::direct);
  CHECK(kind("192.0.2.7", 443) == RouteKind::tunnel);
  CHECK(kind("c.test", 80) == RouteKind::direct);
  CHECK(outlook(*loaded.policy, "c.test").may_be_direct);
}
