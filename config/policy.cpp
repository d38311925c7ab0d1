#include "config/policy.h"

#include <algorithm>

namespace towpath {

bool PortSet::contains(std::uint16_t port) const noexcept {
  return all || std::binary_search(ports.begin(), ports.end(), port);
}

std::string_view name_of(DnsMode mode) noexcept { return mode == DnsMode::proxy ? "proxy" : "local"; }
std::string_view name_of(OtherTypes mode) noexcept { return mode == OtherTypes::empty ? "empty" : "forward"; }
std::string_view name_of(LinkLocal mode) noexcept { return mode == LinkLocal::direct ? "direct" : "tunnel"; }
std::string_view name_of(UdpMode mode) noexcept { return mode == UdpMode::allow ? "allow" : "block"; }
std::string_view name_of(SetuidMode mode) noexcept { return mode == SetuidMode::refuse ? "refuse" : "direct"; }

std::string_view name_of(NetMode mode) noexcept {
  switch (mode) {
    case NetMode::automatic: return "auto";
    case NetMode::required: return "require";
    case NetMode::off: return "off";
  }
  return "";
}

std::string_view name_of(PlainHttp mode) noexcept {
  switch (mode) {
    case PlainHttp::automatic: return "auto";
    case PlainHttp::connect: return "connect";
    case PlainHttp::absolute: return "absolute";
  }
  return "";
}

std::string_view name_of(ProxyProtocol mode) noexcept {
  switch (mode) {
    case ProxyProtocol::off: return "off";
    case ProxyProtocol::optional: return "optional";
    case ProxyProtocol::require: return "require";
  }
  return "";
}

std::string_view name_of(ManagedPort::Mode mode) noexcept {
  switch (mode) {
    case ManagedPort::Mode::http: return "http";
    case ManagedPort::Mode::proxy: return "proxy";
    case ManagedPort::Mode::raw: return "raw";
  }
  return "";
}

}  // namespace towpath
