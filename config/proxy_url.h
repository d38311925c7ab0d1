// What an operator writes to name a proxy: [scheme://][user[:password]@]host[:port]. Anything unclear is
// an error with its remedy, never "no proxy": a typing mistake must not turn into direct connections.
// Error and warning texts never repeat the value, which may hold a password.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace towpath {

enum class ProxyScheme : std::uint8_t { http, https, socks5 };  // socks5h is the same as socks5

[[nodiscard]] std::string_view name_of(ProxyScheme scheme) noexcept;

struct Credentials {
  std::string user, password;

  friend bool operator==(const Credentials&, const Credentials&) = default;
};

struct ProxyUrl {
  ProxyScheme scheme = ProxyScheme::http;
  std::string host;  // ACE, lower case, no brackets; trailing dot and scope id kept
  std::uint16_t port = 0;
  std::optional<Credentials> credentials;

  // "http://proxy:3128", "http://[::1]:80"; never credentials.
  [[nodiscard]] std::string display() const;
  // The same with "user:***@", in a form that parse_proxy_url() accepts.
  [[nodiscard]] std::string display_masked() const;

  friend bool operator==(const ProxyUrl&, const ProxyUrl&) = default;
};

// The same server and the same user there, whatever the password.
[[nodiscard]] bool is_same_proxy(const ProxyUrl& one, const ProxyUrl& other) noexcept;

// Exactly one of url, unset and error is set; a warning may go with url.
struct ParsedProxyUrl {
  std::optional<ProxyUrl> url;
  bool unset = false;
  std::string error;
  std::string warning;
};

[[nodiscard]] ParsedProxyUrl parse_proxy_url(std::string_view text);

// Why these credentials cannot be used with that scheme; "" when they can.
[[nodiscard]] std::string unusable_credentials(ProxyScheme scheme, const Credentials& credentials);

}  // namespace towpath
