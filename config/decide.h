// Where a connection goes. A pure function of the policy and the destination: no clock, no lookup, no state.
// The order: always direct (this host, link-local, the proxies themselves), the exempt list, the list of ports,
// then the proxy that serves the port.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/endpoint.h"
#include "config/host_name.h"
#include "config/policy.h"

namespace towpath {

struct Destination {
  std::string_view name;  // may be empty; may be an address in text form
  IpAddress address;      // may be none
  std::uint16_t port = 0;
};

enum class RouteKind : std::uint8_t { direct, tunnel, refused };

[[nodiscard]] std::string_view name_of(RouteKind kind) noexcept;

struct Decision {
  RouteKind kind = RouteKind::refused;
  std::span<const ProxyUrl> proxies;  // in the order of preference; points into the policy; only for tunnel
  std::string rule;                   // in words: "exempt cluster.local", "port 443 uses proxy.https"
};

// What the policy cannot say, since it is found out on the machine.
struct Surroundings {
  std::span<const Endpoint> proxy_endpoints = {};  // where the proxies' names led to
  std::span<const IpAddress> own_addresses = {};   // of this host's interfaces
  std::string_view own_name = {};                  // of this host, normalised
};

// Refused is only what is neither a name nor an address. A synthetic address stands for a name and is not tested when
// the name is there.
[[nodiscard]] Decision decide(const Policy& policy, const Destination& destination, const Surroundings& around = {});

// Could any port of this name be tunnelled (then a lookup must not leave the machine), and could any port be
// direct? Judged by the name alone: rules about addresses have nothing to look at before the lookup.
struct NameOutlook {
  bool may_tunnel = false;
  bool may_be_direct = false;
};

[[nodiscard]] NameOutlook outlook(const Policy& policy, std::string_view name);

}  // namespace towpath
