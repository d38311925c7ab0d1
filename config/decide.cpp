#include "config/decide.h"

#include <algorithm>
#include <array>

namespace towpath {

namespace {

// A destination as the rules see it. An address in text form is an address and never a name.
struct Subject {
  std::string name;
  std::array<IpAddress, 2> addresses;  // either may be none

  Subject(const Policy& policy, std::string_view given, const IpAddress& known) {
    addresses[0] = IpAddress::parse(given);
    if (!addresses[0]) name = normalise_name(given);
    if (!name.empty() && (addresses[0] = IpAddress::parse(name))) name.clear();  // "127.0.0.1."
    const bool synthetic = !name.empty() && policy.dns == DnsMode::proxy && policy.synthetic_range.contains(known);
    if (!synthetic && !(known == addresses[0])) addresses[1] = known;
  }

  [[nodiscard]] bool empty() const noexcept { return name.empty() && !addresses[0] && !addresses[1]; }

  template <class Test>
  [[nodiscard]] bool any_address(Test test) const {
    return std::any_of(addresses.begin(), addresses.end(),
                       [&](const IpAddress& address) { return address && test(address); });
  }
};

struct Choice {
  std::span<const ProxyUrl> proxies;
  std::string_view rule;
};

// A tunnel has no URL scheme: the port stands for it. With no proxy for https the one for http serves
// everything, as the chart promises.
Choice choose(const Policy& policy, std::uint16_t port) noexcept {
  if (port != 80 && !policy.https.empty()) return {policy.https, "proxy.https"};
  if (port == 80 && !policy.http.empty()) return {policy.http, "proxy.http"};
  if (!policy.all.empty()) return {policy.all, "all_proxy"};
  if (!policy.http.empty()) return {policy.http, "proxy.http"};
  return {};
}

bool is_ipv4_link_local(const IpAddress& address) noexcept { return address.in_prefix(IpAddress::v4(0xa9fe0000), 16); }

std::string_view always_direct(const Policy& policy, const Subject& subject, const Surroundings& around) {
  if (subject.name == "localhost") return "localhost";
  if (subject.any_address([](const IpAddress& a) { return a.is_loopback(); })) return "loopback";
  if (subject.any_address([](const IpAddress& a) { return a.is_unspecified(); })) return "this host";
  if (subject.any_address([](const IpAddress& a) { return a.is_link_local(); })) return "link-local";
  if (policy.link_local == LinkLocal::direct && subject.any_address(is_ipv4_link_local)) return "link-local";
  if (!subject.name.empty() && subject.name == around.own_name) return "this host's name";
  const auto is_own = [&](const IpAddress& a) {
    return std::find(around.own_addresses.begin(), around.own_addresses.end(), a.without_scope()) !=
           around.own_addresses.end();
  };
  if (subject.any_address(is_own)) return "this host's own address";
  return {};
}

bool names_proxy(const ProxyUrl& proxy, const Subject& subject) {
  std::string_view host = proxy.host;
  if (host.ends_with('.')) host.remove_suffix(1);
  if (!subject.name.empty() && subject.name == host) return true;
  const Prefix range = Prefix::of(IpAddress::parse(host));
  return subject.any_address([&](const IpAddress& a) { return range.contains(a); });
}

// A program that honours http_proxy by itself must reach the proxy, not be sent to it through itself.
bool is_proxy(const Policy& policy, const Subject& subject, std::uint16_t port, std::span<const Endpoint> endpoints) {
  for (const ProxyList* list : policy.proxy_lists())
    for (const ProxyUrl& proxy : *list)
      if (proxy.port == port && names_proxy(proxy, subject)) return true;
  return std::any_of(endpoints.begin(), endpoints.end(), [&](const Endpoint& endpoint) {
    return endpoint.port == port && subject.any_address([&](const IpAddress& a) { return a == endpoint.address; });
  });
}

ExemptRules::Match exempt_match(const Policy& policy, const Subject& subject, std::uint16_t port) {
  ExemptRules::Match match = policy.exempt.match(subject.name, subject.addresses[0], port);
  if (!match.exempt && subject.addresses[1]) match = policy.exempt.match({}, subject.addresses[1], port);
  return match;
}

}  // namespace

std::string_view name_of(RouteKind kind) noexcept {
  switch (kind) {
    case RouteKind::direct: return "direct";
    case RouteKind::tunnel: return "tunnel";
    case RouteKind::refused: return "refused";
  }
  return "";
}

Decision decide(const Policy& policy, const Destination& destination, const Surroundings& around) {
  const auto direct = [](std::string rule) { return Decision{RouteKind::direct, {}, std::move(rule)}; };
  const std::string port = std::to_string(destination.port);
  const Subject subject(policy, destination.name, destination.address);

  if (const std::string_view rule = always_direct(policy, subject, around); !rule.empty())
    return direct(std::string(rule));
  if (is_proxy(policy, subject, destination.port, around.proxy_endpoints)) return direct("the proxy itself");
  if (ExemptRules::Match match = exempt_match(policy, subject, destination.port); match.exempt)
    return direct("exempt " + match.rule);
  if (!policy.ports.contains(destination.port)) return direct("port " + port + " is not in ports");
  const Choice choice = choose(policy, destination.port);
  if (choice.proxies.empty()) return direct("no proxy is configured for port " + port);
  if (subject.empty()) return {RouteKind::refused, {}, "neither a host name nor an address"};
  return {RouteKind::tunnel, choice.proxies, "port " + port + " uses " + std::string(choice.rule)};
}

NameOutlook outlook(const Policy& policy, std::string_view name) {
  const Subject subject(policy, name, {});
  if (!policy.any_proxy() || subject.empty() || !always_direct(policy, subject, {}).empty()) return {false, true};
  const ExemptRules::Coverage coverage = policy.exempt.coverage(subject.name, subject.addresses[0]);
  if (coverage == ExemptRules::Coverage::all_ports) return {false, true};

  if (!policy.ports.all) {
    const auto tunnelled = [&](std::uint16_t port) {
      return !choose(policy, port).proxies.empty() && !is_proxy(policy, subject, port, {}) &&
             !exempt_match(policy, subject, port).exempt;
    };
    return {std::any_of(policy.ports.ports.begin(), policy.ports.ports.end(), tunnelled), true};
  }
  // Whatever proxy there is serves the ports other than 80, and no list of exempt ports exhausts those.
  bool may_be_direct = coverage == ExemptRules::Coverage::some_ports || choose(policy, 80).proxies.empty();
  for (const ProxyList* list : policy.proxy_lists())
    may_be_direct = may_be_direct || std::any_of(list->begin(), list->end(),
                                                 [&](const ProxyUrl& proxy) { return names_proxy(proxy, subject); });
  return {true, may_be_direct};
}

}  // namespace towpath
