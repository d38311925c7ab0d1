#include "config/proxy_url.h"

#include <algorithm>

#include "base/endpoint.h"
#include "config/host_name.h"
#include "config/text.h"

namespace towpath {

namespace {

constexpr std::string_view authority_end = "/?#";

std::uint16_t default_port(ProxyScheme scheme) noexcept {
  switch (scheme) {
    case ProxyScheme::http: return 80;
    case ProxyScheme::https: return 443;
    case ProxyScheme::socks5: return 1080;
  }
  return 0;
}

// Each step reads a part of the text into `url` and returns its complaint, "" when there is none.
std::string read_scheme(std::string_view text, ProxyUrl& url) {
  const std::string scheme = lower_ascii(text);
  if (scheme == "http") url.scheme = ProxyScheme::http;
  else if (scheme == "https") url.scheme = ProxyScheme::https;
  else if (scheme == "socks5" || scheme == "socks5h") url.scheme = ProxyScheme::socks5;
  else if (scheme.empty()) return "no scheme before \"://\": use http, https or socks5";
  else if (!std::all_of(scheme.begin(), scheme.end(),
                        [](char c) { return is_alpha(c) || is_digit(c) || c == '+' || c == '-'; }))
    return "\"://\" in the wrong place: expected scheme://user:password@host:port";
  else if (scheme.starts_with("socks")) return "unsupported scheme " + scheme + ": use socks5";
  else return "unsupported scheme " + scheme + ": use http, https or socks5";
  return {};
}

std::string percent_decode(std::string_view text, std::string& out) {
  const auto nibble = [](char c) {
    if (is_digit(c)) return c - '0';
    const char low = static_cast<char>(c | 0x20);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
  };
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? nibble(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? nibble(text[i + 2]) : -1;
    if (high < 0 || low < 0) return "bad percent escape in user or password: write a literal \"%\" as %25";
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return {};
}

std::string read_user(std::string_view text, ProxyUrl& url) {
  if (text.empty()) return {};
  const std::size_t colon = text.find(':');
  Credentials credentials;
  std::string error = percent_decode(text.substr(0, colon), credentials.user);
  if (error.empty() && colon != text.npos) error = percent_decode(text.substr(colon + 1), credentials.password);
  if (error.empty()) error = unusable_credentials(url.scheme, credentials);
  if (error.empty()) url.credentials = std::move(credentials);
  return error;
}

std::string read_port(std::string_view text, ProxyUrl& url) {
  if (text.empty()) return {};  // "host:" means the default
  const auto port = parse_port(text);
  if (!port) return "bad port: expected 1 to 65535";
  url.port = *port;
  return {};
}

std::string read_bracketed(std::string_view text, ProxyUrl& url) {
  const std::size_t end = text.find(']');
  if (end == text.npos) return "missing \"]\" after the IPv6 address";
  std::string_view inside = text.substr(1, end - 1);
  const std::string_view rest = text.substr(end + 1);
  if (!rest.empty() && rest[0] != ':') return "unexpected text after \"]\"";
  std::string scope;
  if (const std::size_t percent = inside.find('%'); percent != inside.npos) {
    if (!inside.substr(percent).starts_with("%25")) return "write the scope id of an IPv6 address after %25 (RFC 6874)";
    scope = inside.substr(percent + 3);
    const auto fits = [](char c) { return is_alpha(c) || is_digit(c) || c == '-' || c == '_' || c == '.' || c == '~'; };
    if (scope.empty() || !std::all_of(scope.begin(), scope.end(), fits)) return "bad scope id";
    inside = inside.substr(0, percent);
  }
  if (inside.find(':') == inside.npos || !IpAddress::parse(inside)) return "no IPv6 address between the brackets";
  url.host = lower_ascii(inside);
  if (!scope.empty()) url.host += "%" + scope;
  return rest.empty() ? std::string() : read_port(rest.substr(1), url);
}

std::string read_host(std::string_view text, ProxyUrl& url) {
  if (std::any_of(text.begin(), text.end(), is_quote)) return "quote character in the host: remove the quotes";
  if (text.starts_with('[')) return read_bracketed(text, url);
  const std::size_t colon = text.find(':');
  if (colon != text.rfind(':')) {
    const bool v6 = std::all_of(
        text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(text.find('%'), text.size())),
        [](char c) { return is_digit(c) || c == ':' || c == '.' || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); });
    return v6 && text.find("::") != text.npos                    ? "an IPv6 address needs brackets: [::1]:3128"
           : v6 && std::count(text.begin(), text.end(), ':') > 2 ? "an IPv6 address needs brackets: [2001:db8::1]:3128"
                                                                 : "two ports: expected host:port";
  }
  const std::string_view host = text.substr(0, colon);
  if (host.empty()) return "no host: expected host:port";
  url.host = normalise_name(host);
  if (url.host.empty()) return "the host is no usable name or address";
  if (ends_in_number(url.host) && (host.ends_with('.') || !IpAddress::parse(url.host))) return "bad IPv4 address";
  if (host.ends_with('.')) url.host += '.';
  return colon == text.npos ? std::string() : read_port(text.substr(colon + 1), url);
}

std::string read(std::string_view text, ProxyUrl& url, std::string& warning) {
  if (has_control(text)) return "control character (a line end or tab?) in the value";
  if (is_quote(text.front()) || is_quote(text.back())) return "quote character around the value: remove the quotes";
  if (const std::size_t mark = text.find("://"); mark != text.npos) {
    if (std::string error = read_scheme(text.substr(0, mark), url); !error.empty()) return error;
    text.remove_prefix(mark + 3);
  } else if (const std::size_t colon = text.find(":/"); colon != text.npos) {
    ProxyUrl ignored;
    if (read_scheme(text.substr(0, colon), ignored).empty()) return "need \"://\" after the scheme, as in \"http://\"";
  }
  url.port = default_port(url.scheme);

  const std::size_t end = std::min(text.find_first_of(authority_end), text.size());
  const std::string_view rest = text.substr(end);
  text = text.substr(0, end);
  // What looks like a path may be the second half of a password; guessing would send it to a wrong host.
  if (rest.find('@') != rest.npos)
    return std::string("\"") + rest[0] + "\" ends the authority: percent-encode it in user and password (%2F %3F %23)";
  if (const std::size_t at = text.rfind('@'); at != text.npos) {
    if (std::string error = read_user(text.substr(0, at), url); !error.empty()) return error;
    text.remove_prefix(at + 1);
  }
  if (text.empty()) return "no host: expected host:port";
  if (!rest.empty() && rest != "/") warning = "path ignored: a proxy is named by host and port alone";
  return read_host(text, url);
}

std::string host_and_port(const ProxyUrl& url) {
  const bool v6 = url.host.find(':') != url.host.npos;
  return (v6 ? "[" + url.host + "]" : url.host) + ":" + std::to_string(url.port);
}

}  // namespace

bool is_same_proxy(const ProxyUrl& one, const ProxyUrl& other) noexcept {
  if (one.scheme != other.scheme || one.host != other.host || one.port != other.port) return false;
  if (one.credentials.has_value() != other.credentials.has_value()) return false;
  return !one.credentials || one.credentials->user == other.credentials->user;
}

std::string_view name_of(ProxyScheme scheme) noexcept {
  switch (scheme) {
    case ProxyScheme::http: return "http";
    case ProxyScheme::https: return "https";
    case ProxyScheme::socks5: return "socks5";
  }
  return "";
}

std::string unusable_credentials(ProxyScheme scheme, const Credentials& credentials) {
  if (has_control(credentials.user) || has_control(credentials.password))
    return "control character in user or password";
  if (scheme == ProxyScheme::socks5) {  // RFC 1929, 2
    if (credentials.user.empty()) return "SOCKS5 needs a user name before the password";
    if (credentials.user.size() > 255) return "SOCKS5 user name longer than 255 bytes";
    if (credentials.password.size() > 255) return "SOCKS5 password longer than 255 bytes";
  } else if (credentials.user.find(':') != credentials.user.npos) {
    return "\":\" cannot be in a Basic user name (RFC 7617)";
  }
  return {};
}

std::string ProxyUrl::display() const { return std::string(name_of(scheme)) + "://" + host_and_port(*this); }

std::string ProxyUrl::display_masked() const {
  constexpr char hex[] = "0123456789ABCDEF";
  std::string user;
  for (const char c : credentials ? credentials->user : std::string()) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_alpha(c) || is_digit(c) || c == '-' || c == '_' || c == '.') user += c;
    else user += {'%', hex[byte >> 4], hex[byte & 15]};
  }
  std::string place = host_and_port(*this);
  if (const std::size_t percent = place.find('%'); percent != place.npos) place.insert(percent + 1, "25");
  return std::string(name_of(scheme)) + "://" + (credentials ? user + ":***@" : "") + place;
}

ParsedProxyUrl parse_proxy_url(std::string_view text) {
  ParsedProxyUrl out;
  text = trim(text);
  if (text.empty()) {
    out.unset = true;
    return out;
  }
  ProxyUrl url;
  out.error = read(text, url, out.warning);
  if (out.error.empty()) out.url = std::move(url);
  else out.warning.clear();
  return out;
}

}  // namespace towpath
