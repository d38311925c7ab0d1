// The configuration as data: built once by load(), never changed, shared by whoever decides.
// Knows nothing of where its values came from except for `source`, which is for messages.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/endpoint.h"
#include "config/exempt.h"
#include "config/prefix.h"
#include "config/proxy_url.h"

namespace towpath {

enum class DnsMode : std::uint8_t { proxy, local };                    // where names are looked up
enum class OtherTypes : std::uint8_t { empty, forward };               // of questions about proxied names
enum class LinkLocal : std::uint8_t { direct, tunnel };                // 169.254.0.0/16
enum class UdpMode : std::uint8_t { allow, block };                    // DNS is handled either way
enum class PlainHttp : std::uint8_t { automatic, connect, absolute };  // port 80 through an http proxy
enum class SetuidMode : std::uint8_t { refuse, direct };
// The seccomp filter beneath the library. `required`: nothing runs without it.
enum class NetMode : std::uint8_t { automatic, required, off };
enum class ProxyProtocol : std::uint8_t { off, optional, require };

// The words of the configuration file.
[[nodiscard]] std::string_view name_of(DnsMode mode) noexcept;
[[nodiscard]] std::string_view name_of(OtherTypes mode) noexcept;
[[nodiscard]] std::string_view name_of(LinkLocal mode) noexcept;
[[nodiscard]] std::string_view name_of(UdpMode mode) noexcept;
[[nodiscard]] std::string_view name_of(PlainHttp mode) noexcept;
[[nodiscard]] std::string_view name_of(SetuidMode mode) noexcept;
[[nodiscard]] std::string_view name_of(NetMode mode) noexcept;
[[nodiscard]] std::string_view name_of(ProxyProtocol mode) noexcept;

struct PortSet {
  bool all = true;
  std::vector<std::uint16_t> ports;  // sorted; not used when `all`

  [[nodiscard]] bool contains(std::uint16_t port) const noexcept;
};

// Towards an https:// proxy.
struct TlsSettings {
  std::string ca_file, cert_file, key_file, server_name;  // empty: the usual places; no client certificate; the host
  bool insecure_skip_verify = false;
  std::vector<std::string> ca_dirs;
  // What the files held when they were read, "" where that failed: a policy outlives them, in what began under it and
  // in an agent that replaces one.
  std::string ca_text, cert_text, key_text;
  std::uint64_t content = 0;  // a hash of that: two policies differ by it, too
};

struct ManagedPort {
  enum class Mode : std::uint8_t { http, proxy, raw };

  std::uint16_t port = 0;
  Mode mode = Mode::http;

  friend bool operator==(const ManagedPort&, const ManagedPort&) = default;
};

[[nodiscard]] std::string_view name_of(ManagedPort::Mode mode) noexcept;

struct ReverseSettings {
  std::vector<Prefix> trusted_origins;
  std::vector<std::string> headers;  // as written; compare without case
  ProxyProtocol proxy_protocol = ProxyProtocol::off;
  bool all_ports = true;
  std::vector<ManagedPort> ports;  // not used when `all_ports`
  bool strip = false;
  std::chrono::milliseconds header_timeout = std::chrono::seconds{5};
};

// In the order of preference; empty: none.
using ProxyList = std::vector<ProxyUrl>;

constexpr std::size_t most_proxies = 16;  // per list

struct Policy {
  ProxyList http, https, all;
  ExemptRules exempt;
  PortSet ports;
  DnsMode dns = DnsMode::proxy;
  OtherTypes other_types = OtherTypes::empty;
  UdpMode udp = UdpMode::allow;
  LinkLocal link_local = LinkLocal::direct;
  PlainHttp plain_http = PlainHttp::automatic;
  Prefix synthetic_range{IpAddress::v4(0xc6120000), 15};  // 198.18.0.0/15, RFC 2544
  std::chrono::milliseconds connect_timeout = std::chrono::seconds{60};
  SetuidMode setuid = SetuidMode::refuse;
  NetMode net = NetMode::automatic;
  TlsSettings tls;
  ReverseSettings reverse;
  std::string source;  // "values.yaml", "environment", "command line, values.yaml", ...
  struct {
    std::string http, https, all;  // "values.yaml:3:11: coderd.proxy.http", "$http_proxy", "--http"
  } said;                          // where each proxy was given

  [[nodiscard]] bool any_proxy() const noexcept { return !http.empty() || !https.empty() || !all.empty(); }
  [[nodiscard]] std::array<const ProxyList*, 3> proxy_lists() const noexcept { return {&http, &https, &all}; }
};

}  // namespace towpath
