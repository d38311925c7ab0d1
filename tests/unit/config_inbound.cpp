// The four cases of empty and set lists, and the list of ports.
#include "config/inbound.h"

#include <doctest/doctest.h>

using namespace towpath;

namespace {

ReverseSettings settings(bool origins, bool headers, ProxyProtocol proxy = ProxyProtocol::off) {
  ReverseSettings out;
  if (origins) out.trusted_origins.push_back(*Prefix::parse("10.0.0.0/8"));
  if (headers) out.headers.push_back("X-Forwarded-For");
  out.proxy_protocol = proxy;
  return out;
}

constexpr InboundRule off{}, http{ProxyProtocol::off, true}, require{ProxyProtocol::require, false},
    both{ProxyProtocol::require, true};

}  // namespace

TEST_CASE("inbound rules: the four cases of empty and set lists") {
  const auto rule = [](const ReverseSettings& s) { return default_inbound_rule(s); };
  CHECK(rule(settings(false, false)) == off);
  CHECK(rule(settings(true, false)) == off);
  CHECK(rule(settings(true, false, ProxyProtocol::require)) == require);
  CHECK(rule(settings(false, true)) == http);
  CHECK(rule(settings(false, true, ProxyProtocol::require)) == http);  // nobody's header is believed
  CHECK(rule(settings(true, true)) == http);
  CHECK(rule(settings(true, true, ProxyProtocol::require)) == both);
  for (const bool origins : {false, true}) {
    ReverseSettings strips = settings(origins, false);
    strips.strip = true;
    CHECK(rule(strips) == http);
    CHECK(inbound_on(strips));
  }
  CHECK_FALSE(inbound_on(settings(false, false)));
  CHECK_FALSE(inbound_on(settings(true, false)));
}

TEST_CASE("inbound rules: a list of ports manages those and no other") {
  ReverseSettings s = settings(true, true, ProxyProtocol::optional);
  s.all_ports = false;
  CHECK_FALSE(inbound_on(s));
  s.ports = {{80, ManagedPort::Mode::http}, {81, ManagedPort::Mode::proxy}, {82, ManagedPort::Mode::raw}};
  CHECK(inbound_rule(s, 80) == InboundRule{ProxyProtocol::optional, true});
  CHECK(inbound_rule(s, 81) == InboundRule{ProxyProtocol::optional, false});
  CHECK(inbound_rule(s, 82) == off);
  CHECK(inbound_rule(s, 83) == off);
  CHECK(default_inbound_rule(s) == off);
  CHECK(inbound_on(s));
  s.proxy_protocol = ProxyProtocol::off;
  CHECK(inbound_rule(s, 81) == require);
  s.trusted_origins.clear();
  CHECK(inbound_rule(s, 81) == off);
  s.ports = {{82, ManagedPort::Mode::raw}};
  CHECK_FALSE(inbound_on(s));
}
