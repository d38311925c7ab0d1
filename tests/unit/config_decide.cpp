#include "config/decide.h"

#include <cstdlib>
#include <fstream>

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

#include "config/load.h"
#include "tests/unit/scratch.h"

#include <unistd.h>

using namespace towpath;

namespace {

Policy policy_of(const char* http, const char* https = "", const char* all = "", const char* exempt = "") {
  Policy out;
  for (const auto& [text, list] : {std::pair{http, &out.http}, {https, &out.https}, {all, &out.all}})
    if (const auto url = parse_proxy_url(text).url) list->push_back(*url);
  std::vector<Problem> none;
  out.exempt = ExemptRules::parse(exempt, "list", none);
  return out;
}

std::string route(const Policy& policy, std::string_view name, std::uint16_t port, const char* address = "",
                  const Surroundings& around = {}) {
  const Decision decision = decide(policy, {name, IpAddress::parse(address), port}, around);
  CHECK(!decision.proxies.empty() == (decision.kind == RouteKind::tunnel));
  return !decision.proxies.empty() ? decision.proxies[0].display()
                                   : std::string(name_of(decision.kind)) + ": " + decision.rule;
}

}  // namespace

TEST_CASE("decide: every proxy choice vector leads to the expected proxy") {
  const YAML::Node file = YAML::LoadFile(TOWPATH_VECTORS "/proxyurl-vectors.json");
  const TempFile file_of_values;
  const std::string path = file_of_values.path();
  std::size_t read = 0;
  for (const auto& vector : file["choice"]) {
    const auto id = vector["id"].as<std::string>();
    YAML::Node values;
    values["coderd"]["proxy"] = vector["config"];
    std::ofstream(path) << values << "\n";
    Sources sources{path, {}, {}};
    for (const auto& variable : vector["env"])
      sources.environment[variable.first.as<std::string>()] = variable.second.as<std::string>();
    const Loaded loaded = load(sources);
    REQUIRE_MESSAGE(loaded.policy, id);
    const auto destination = vector["dest"].as<std::string>();
    const std::size_t colon = destination.rfind(':');
    const std::string got = route(*loaded.policy, destination.substr(0, colon),
                                  static_cast<std::uint16_t>(std::stoi(destination.substr(colon + 1))));
    CHECK_MESSAGE(got.substr(0, got.starts_with("direct") ? 6 : got.npos) == vector["expect"].as<std::string>(), id);
    ++read;
  }
  CHECK(read == 10);
}

TEST_CASE("decide: the port stands for the scheme") {
  const char *a = "http://a:1", *b = "http://b:2", *c = "http://c:3";
  CHECK(route(policy_of(a, b, c), "x.test", 80) == a);
  CHECK(route(policy_of(a, b, c), "x.test", 443) == b);
  CHECK(route(policy_of(a, "", c), "x.test", 22) == c);
  CHECK(route(policy_of(a, "", ""), "x.test", 22) == a);
  CHECK(route(policy_of("", b, c), "x.test", 80) == c);
  CHECK(route(policy_of("", b, ""), "x.test", 80) == "direct: no proxy is configured for port 80");
  CHECK(decide(policy_of(a, b), {"x.test", {}, 443}).rule == "port 443 uses proxy.https");
  CHECK(decide(policy_of("", "", c), {"x.test", {}, 443}).rule == "port 443 uses all_proxy");
}

TEST_CASE("decide: this host and its links are always direct") {
  const Policy policy = policy_of("http://a:1");
  CHECK(route(policy, "LocalHost.", 80) == "direct: localhost");
  for (const char* address : {"127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1."})
    CHECK_MESSAGE(route(policy, address, 80) == "direct: loopback", address);
  CHECK(route(policy, "0.0.0.0", 80) == "direct: this host");
  CHECK(route(policy, "", 80, "::") == "direct: this host");
  CHECK(route(policy, "fe80::1%eth0", 80) == "direct: link-local");
  for (const char* address : {"169.254.169.254", "::ffff:169.254.0.1"})
    CHECK_MESSAGE(route(policy, address, 80) == "direct: link-local", address);
  CHECK(route(policy, "169.253.0.1", 80) == "http://a:1");
  CHECK(route(policy, "x.localhost", 80) == "http://a:1");
}

TEST_CASE("decide: linkLocal: tunnel is about IPv4 alone") {
  Policy policy = policy_of("http://a:1");
  policy.link_local = LinkLocal::tunnel;
  CHECK(route(policy, "169.254.169.254", 80) == "http://a:1");
  CHECK(route(policy, "fe80::1", 80) == "direct: link-local");
}

TEST_CASE("decide: this host's own name and addresses are direct on every port") {
  const Policy policy = policy_of("http://a:1");
  const IpAddress own[] = {IpAddress::parse("192.0.2.7"), IpAddress::parse("2001:db8::7")};
  const Surroundings around{{}, own, "web-0"};
  for (const char* address : {"192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "2001:db8::7%eth0", "192.0.2.7."})
    CHECK_MESSAGE(route(policy, address, 443, "", around) == "direct: this host's own address", address);
  CHECK(route(policy, "known.test", 443, "192.0.2.7", around) == "direct: this host's own address");
  CHECK(route(policy, "Web-0.", 443, "", around) == "direct: this host's name");
  CHECK(route(policy, "192.0.2.8", 443, "", around) == "http://a:1");
  CHECK(route(policy, "web-0.test", 443, "", around) == "http://a:1");
  CHECK(route(policy, "192.0.2.7", 443) == "http://a:1");
  // With no host name at all nothing is meant by it.
  CHECK(decide(policy, {"", {}, 443}, {{}, own, ""}).kind == RouteKind::refused);
}

TEST_CASE("decide: the proxies themselves are direct at their port") {
  const Policy policy = policy_of("http://proxy.test.:3128", "socks5://192.0.2.1:1080", "http://[2001:db8::1]:8080");
  CHECK(route(policy, "Proxy.Test", 3128) == "direct: the proxy itself");
  CHECK(route(policy, "", 1080, "192.0.2.1") == "direct: the proxy itself");
  CHECK(route(policy, "2001:DB8::1", 8080) == "direct: the proxy itself");
  CHECK(route(policy, "proxy.test", 3129) == "socks5://192.0.2.1:1080");
  CHECK(route(policy, "sub.proxy.test", 3128) == "socks5://192.0.2.1:1080");
  const Endpoint endpoints[] = {{IpAddress::parse("203.0.113.9"), 3128}};
  CHECK(route(policy, "", 3128, "203.0.113.9", {endpoints}) == "direct: the proxy itself");
  CHECK(route(policy, "", 3129, "203.0.113.9", {endpoints}) == "socks5://192.0.2.1:1080");
}

TEST_CASE("decide: exempt goes before ports, ports before proxies") {
  Policy policy = policy_of("http://a:1", "", "", "exempt.test");
  policy.ports = {false, {80, 443}};
  CHECK(route(policy, "www.exempt.test", 443) == "direct: exempt exempt.test");
  CHECK(route(policy, "x.test", 443) == "http://a:1");
  CHECK(route(policy, "x.test", 22) == "direct: port 22 is not in ports");
  CHECK(route(policy_of(""), "x.test", 443) == "direct: no proxy is configured for port 443");
}

TEST_CASE("decide: what is neither name nor address never reaches a proxy") {
  CHECK(route(policy_of("http://a:1"), "a b\r\nHost: x", 443) == "refused: neither a host name nor an address");
  CHECK(route(policy_of("http://a:1"), "a b", 443, "192.0.2.1") == "http://a:1");
}

TEST_CASE("outlook: what the ports of a name can lead to") {
  const auto both = [](const Policy& policy, const char* name) {
    const NameOutlook out = outlook(policy, name);
    return std::string(out.may_tunnel ? "tunnel " : "") + (out.may_be_direct ? "direct" : "");
  };
  const Policy all = policy_of("http://proxy.test:3128", "", "", "exempt.test,ported.test:8443,10.0.0.0/8,<local>");
  CHECK(both(all, "x.test") == "tunnel ");
  CHECK(both(all, "a.exempt.test.") == "direct");
  CHECK(both(all, "ported.test") == "tunnel direct");
  CHECK(both(all, "proxy.test") == "tunnel direct");
  CHECK(both(all, "10.1.2.3") == "direct");
  CHECK(both(all, "localhost") == "direct");
  CHECK(both(all, "database") == "direct");
  CHECK(both(all, "a b") == "direct");
  CHECK(both(policy_of(""), "x.test") == "direct");
  CHECK(both(policy_of("", "http://b:2"), "x.test") == "tunnel direct");  // port 80
  CHECK(both(policy_of("http://a:1", "", "", "*"), "x.test") == "direct");

  Policy listed = policy_of("", "http://b:443", "", "ported.test:443");
  listed.ports = {false, {80, 443}};
  CHECK(both(listed, "x.test") == "tunnel direct");
  CHECK(both(listed, "ported.test") == "direct");
  CHECK(both(listed, "b") == "direct");
  listed.ports.ports = {80};
  CHECK(both(listed, "x.test") == "direct");
}
