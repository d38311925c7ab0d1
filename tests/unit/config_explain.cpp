#include "config/explain.h"

#include <doctest/doctest.h>
#include <yaml-cpp/yaml.h>

using namespace towpath;

namespace {

Policy proxied() {
  Policy out;
  out.https = {*parse_proxy_url("https://user:secret@proxy.test").url};
  return out;
}

std::string json(const Policy& policy, const Destination& destination) {
  return explain_json(decide(policy, destination), destination);
}
std::string text(const Policy& policy, const Destination& destination) {
  return explain_text(decide(policy, destination), destination);
}

}  // namespace

TEST_CASE("explain: text and JSON say route, proxy and rule without credentials") {
  const Policy policy = proxied();
  CHECK(text(policy, {"x.test", {}, 443}) ==
        "x.test:443: tunnel through https://proxy.test:443 (port 443 uses proxy.https)");
  CHECK(text(policy, {"x.test", {}, 80}) == "x.test:80: direct (no proxy is configured for port 80)");
  CHECK(
      json(policy, {"x.test", {}, 443}) ==
      R"({"destination":"x.test:443","route":"tunnel","via":"https://proxy.test:443","rule":"port 443 uses proxy.https"})");
  CHECK(json(policy, {"", IpAddress::parse("::1"), 22}) ==
        R"({"destination":"[::1]:22","route":"direct","rule":"loopback"})");
}

TEST_CASE("explain: JSON stays JSON whatever the destination is") {
  const std::string out = json(proxied(), {"a\"\\\n\x01\xff\xc3\xbc", {}, 443});
  CHECK(out.find("\"destination\":\"a\\\"\\\\\\u000a\\u0001\\ufffd\xc3\xbc:443\"") != std::string::npos);
  CHECK(YAML::Load(out)["route"].as<std::string>() == "refused");
}
