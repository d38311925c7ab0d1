#include "config/inbound.h"

#include <algorithm>

namespace towpath {

namespace {

// What the settings say when no list of ports takes a part of it away.
InboundRule everywhere(const ReverseSettings& settings) noexcept {
  InboundRule out;
  if (!settings.trusted_origins.empty()) out.proxy = settings.proxy_protocol;
  out.http = !settings.headers.empty() || settings.strip;
  return out;
}

InboundRule rule_of(const ReverseSettings& settings, ManagedPort::Mode mode) noexcept {
  InboundRule out = everywhere(settings);
  switch (mode) {
    case ManagedPort::Mode::http: break;
    case ManagedPort::Mode::proxy:
      // A port that is said to get the header gets it, whatever the others do.
      out.http = false;
      if (settings.proxy_protocol == ProxyProtocol::off && !settings.trusted_origins.empty())
        out.proxy = ProxyProtocol::require;
      break;
    case ManagedPort::Mode::raw: return {};
  }
  return out;
}

}  // namespace

InboundRule default_inbound_rule(const ReverseSettings& settings) noexcept {
  return settings.all_ports ? everywhere(settings) : InboundRule{};
}

InboundRule inbound_rule(const ReverseSettings& settings, std::uint16_t port) noexcept {
  if (settings.all_ports) return everywhere(settings);
  const auto found = std::find_if(settings.ports.begin(), settings.ports.end(),
                                  [&](const ManagedPort& each) { return each.port == port; });
  return found == settings.ports.end() ? InboundRule{} : rule_of(settings, found->mode);
}

bool inbound_on(const ReverseSettings& settings) noexcept {
  if (settings.all_ports) return everywhere(settings).managed();
  return std::any_of(settings.ports.begin(), settings.ports.end(),
                     [&](const ManagedPort& each) { return rule_of(settings, each.mode).managed(); });
}

std::vector<AddressRange> trusted_ranges(const ReverseSettings& settings) {
  std::vector<AddressRange> out;
  for (const Prefix& each : settings.trusted_origins) out.push_back({each.address, each.bits});
  return out;
}

}  // namespace towpath
