// What happens to connections that a listening port receives: the four cases of empty and set lists, and the list of
// ports. A pure function of the settings.
//
//   origins  headers                            `strip: true` turns HTTP mode on in every case
//   -        -         nothing
//   set      -         PROXY header as proxyProtocol says; nothing when that is off
//   -        set       HTTP mode, nobody is believed: all such headers are removed
//   set      set       HTTP mode, after the PROXY header that proxyProtocol says
#pragma once

#include <cstdint>
#include <vector>

#include "base/address_range.h"
#include "config/policy.h"

namespace towpath {

struct InboundRule {
  ProxyProtocol proxy = ProxyProtocol::off;  // never set when there are no origins
  bool http = false;

  [[nodiscard]] bool managed() const noexcept { return http || proxy != ProxyProtocol::off; }
  friend bool operator==(const InboundRule&, const InboundRule&) = default;
};

// Of a port that is not listed, or of every port when there is no list.
[[nodiscard]] InboundRule default_inbound_rule(const ReverseSettings& settings) noexcept;
[[nodiscard]] InboundRule inbound_rule(const ReverseSettings& settings, std::uint16_t port) noexcept;
// Is any port managed?
[[nodiscard]] bool inbound_on(const ReverseSettings& settings) noexcept;

[[nodiscard]] std::vector<AddressRange> trusted_ranges(const ReverseSettings& settings);

}  // namespace towpath
