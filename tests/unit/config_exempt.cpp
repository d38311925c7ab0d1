#include "config/exempt.h"

#include <random>

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include "config/decide.h"
#include "config/host_name.h"

using namespace towpath;

namespace {

Policy proxied(std::string_view list) {
  Policy policy;
  policy.http = {*parse_proxy_url("http://proxy.invalid:3128").url};
  policy.https = policy.http;
  std::vector<Problem> warnings;
  policy.exempt = ExemptRules::parse(list, "list", warnings);
  return policy;
}

std::vector<Problem> problems_of(std::string_view list) {
  std::vector<Problem> out;
  (void)ExemptRules::parse(list, "$no_proxy", out);
  return out;
}

bool bypasses(std::string_view list, std::string_view name, std::uint16_t port = 443, const char* address = "") {
  return decide(proxied(list), {name, IpAddress::parse(address), port}).kind == RouteKind::direct;
}

}  // namespace

TEST_CASE("exempt: every conformance vector gets the expected route") {
  const YAML::Node file = YAML::LoadFile(TOWPATH_VECTORS "/exempt-vectors.json");
  std::size_t read = 0;
  for (const auto& vector : file["vectors"]) {
    const auto id = vector["id"].as<std::string>();
    const auto list = vector["list"].as<std::string>(), host = vector["host"].as<std::string>();
    const auto address = IpAddress::parse(vector["addr"] ? vector["addr"].as<std::string>() : "");
    const auto port = vector["port"].as<std::uint16_t>();
    const bool expected = vector["expect_bypass"].as<bool>();
    const Decision decision = decide(proxied(list), {host, address, port});
    CHECK_MESSAGE((decision.kind == RouteKind::direct) == expected,
                  id << ": " << list << " | " << host << " " << decision.rule);
    // A program that connects to the literal shows an address and no name.
    if (const IpAddress literal = IpAddress::parse(host); literal && host.find('%') == host.npos)
      CHECK_MESSAGE((decide(proxied(list), {{}, literal, port}).kind == RouteKind::direct) == expected,
                    id << ", by address");
    ++read;
  }
  CHECK(read == 163);
}

TEST_CASE("exempt: names cover subdomains at label borders only") {
  CHECK(bypasses("example.com", "a.b.example.com"));
  CHECK_FALSE(bypasses("example.com", "notexample.com"));
  CHECK_FALSE(bypasses("example.com", "example.com.evil.test"));
  CHECK_FALSE(bypasses(".example.com", "example.com"));
  CHECK(bypasses("under_score.test", "a.Under_Score.test."));
}

TEST_CASE("exempt: blanks of all kinds separate, an entry is never glued") {
  for (const char* list : {"a.test b.test", "a.test\n\tb.test\r\n", ",a.test,,b.test,",
                           "a.test\xc2\xa0"
                           "b.test",
                           "\xe3\x80\x80"
                           "a.test,b.test"})
    CHECK_MESSAGE((bypasses(list, "a.test") && bypasses(list, "b.test") && !bypasses(list, "c.test")), list);
}

TEST_CASE("exempt: brackets, ports and mapped ranges follow Go") {
  CHECK(bypasses("[corp.test]:443", "corp.test"));
  CHECK_FALSE(bypasses("[corp.test]", "corp.test"));
  CHECK(bypasses("corp.test:", "corp.test", 8080));
  CHECK(bypasses("[10.1.2.3]:443", "10.1.2.3"));
  CHECK(bypasses("::ffff:10.0.0.0/104", "10.9.9.9"));
  CHECK_FALSE(bypasses("::ffff:10.0.0.0/104", "11.0.0.0"));
  CHECK_FALSE(bypasses("::ffff:0:0/95", "10.0.0.1"));
  CHECK(bypasses("::ffff:0:0/96", "10.0.0.1"));
  CHECK(bypasses("10.0.0.0/08", "10.9.9.9"));
  CHECK_FALSE(bypasses("0.0.0.0/0", "2001:db8::1"));
}

TEST_CASE("exempt: <local> covers names without a dot and nothing else") {
  CHECK(bypasses("<local>", "database"));
  CHECK(bypasses("<LOCAL>", "database."));
  CHECK_FALSE(bypasses("<local>", "database.corp"));
  CHECK_FALSE(bypasses("<local>", "", 443, "192.0.2.1"));
  CHECK_FALSE(bypasses("<local>", "2001:db8::1"));
}

TEST_CASE("exempt: an address known beside the name is tested, a synthetic one is not") {
  CHECK(bypasses("10.0.0.0/8", "db.test", 5432, "10.1.2.3"));
  CHECK(bypasses("db.test", "db.test", 5432, "192.0.2.1"));
  CHECK_FALSE(bypasses("0.0.0.0/0", "db.test", 5432, "198.18.0.5"));
  CHECK(bypasses("198.18.0.0/15", "", 5432, "198.18.0.5"));
  CHECK(bypasses("", "db.test", 5432, "127.0.0.1"));
}

TEST_CASE("exempt: every unusable entry is reported once, with its reason, and the others still count") {
  const char* unusable[] = {"http://x.test",
                            "\"x.test\"",
                            "x.test;y.test",
                            "x|y",
                            "foo.*.test",
                            "*example",
                            "corp.*",
                            "**",
                            "*:80",
                            "x.test:0",
                            "x.test:65536",
                            "x.test:080",
                            "x.test:http",
                            "10.0.0.0/33",
                            "10.0.0.0/255.0.0.0",
                            "10.0.0.0/8:80",
                            "[2001:db8::]/32",
                            "2001:db8::/129",
                            "[::1",
                            "x.test/",
                            "user@x.test",
                            ".",
                            "*.",
                            "...",
                            ":80",
                            "a..b",
                            "..corp.test",
                            "<local>:80",
                            "1:2:3",
                            "[x.test]",
                            "[10.0.0.1]",
                            "a:b:c",
                            "\x01",
                            "\xff.test"};
  for (const char* entry : unusable) {
    const auto problems = problems_of(std::string("good.test,") + entry);
    CHECK_MESSAGE(problems.size() == 1, entry);
    if (problems.size() != 1) continue;
    CHECK(problems[0].severity == Problem::Severity::warning);
    CHECK(problems[0].where == "$no_proxy");
    CHECK_FALSE(bypasses(entry, "x.test", 80));
    CHECK_MESSAGE(bypasses(std::string(entry) + ",good.test", "good.test"), entry);
  }
  for (const char* entry :
       {"x.test", "*", ".x.test", "*.x.test:80", "[::1]", "[::1]:443", "::1", "10.0.0.0/8", "fe80::1%eth0",
        "b\xc3\xbc"
        "cher.test"})
    CHECK_MESSAGE(problems_of(entry).empty(), entry);
  CHECK(problems_of("192.168.").size() == 1);  // matches no address: worth a word
}

TEST_CASE("exempt: a message never repeats a password and never holds control characters") {
  const auto problems = problems_of("http://user:hunter2@x.test,x\x1b[31m.test");
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].text().find("hunter2") == std::string::npos);
  CHECK(problems[1].text().find('\x1b') == std::string::npos);
}

TEST_CASE("exempt: matching answers with the text of the first entry that covers") {
  std::vector<Problem> none;
  const auto rules = ExemptRules::parse("Corp.TEST:8443, *.corp.test", "list", none);
  CHECK(rules.match("a.corp.test", {}, 8443).rule == "Corp.TEST:8443");
  CHECK(rules.match("a.corp.test", {}, 80).rule == "*.corp.test");
  CHECK_FALSE(rules.match("corp.test", {}, 80).exempt);
  CHECK(rules.coverage("corp.test", {}) == ExemptRules::Coverage::some_ports);
  CHECK(rules.coverage("a.corp.test", {}) == ExemptRules::Coverage::all_ports);
  CHECK(rules.coverage("other.test", {}) == ExemptRules::Coverage::none);
}

TEST_CASE("exempt: random bytes are parsed without harm") {
  std::mt19937 random(20240601);
  const std::string alphabet = "a.*:[]/,0189%@ \n\"<local>\xc3\xbc\xf0\x9f\x92\xa9\xff" + std::string(1, '\0');
  for (int round = 0; round < 4000; ++round) {
    std::string list(random() % 40, '\0');
    for (char& c : list) c = round % 2 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    const Policy policy = proxied(list);
    (void)decide(policy, {list, IpAddress::v4(static_cast<std::uint32_t>(random())), 443});
    (void)outlook(policy, list);
  }
}
